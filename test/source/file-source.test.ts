import { mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { FileSource } from '../../src/source/file-source.js';
import { SourceError } from '../../src/source/source.js';

const test = anyTest as TestFn<{ store: string; source: FileSource }>;

const DIFF_ID = `sha256:${'ab'.repeat(32)}`;
const CONTENT = Buffer.from(Array.from({ length: 10_000 }, (_, i) => i % 251));

test.beforeEach(async (t) => {
  const store = await mkdtemp(join(tmpdir(), 'orca-file-source-'));
  await mkdir(join(store, 'layers/sha256'), { recursive: true });
  await writeFile(join(store, 'orca.json'), '{"version":1}');
  await writeFile(join(store, `layers/sha256/${'ab'.repeat(32)}.vhd`), CONTENT);
  t.context = { store, source: new FileSource(store) };
});

test.afterEach.always(async (t) => {
  await t.context.source.close();
  await rm(t.context.store, { recursive: true });
});

test('reads a file of the store whole', async (t) => {
  t.is(Buffer.from(await t.context.source.readFile('orca.json', 100)).toString(), '{"version":1}');
});

test('a file larger than the cap is refused before it is read', async (t) => {
  const error = await t.throwsAsync(t.context.source.readFile('orca.json', 5), { instanceOf: SourceError });
  t.is(error?.code, 'TOO_LARGE');
});

test('a missing file, a missing layer and a missing store are NOT_FOUND and name the path', async (t) => {
  const { source, store } = t.context;
  for (const promise of [
    source.readFile('images/index.json', 100),
    source.openLayer(`sha256:${'cd'.repeat(32)}`),
    new FileSource(join(store, 'nowhere')).readFile('orca.json', 100),
    new FileSource(join(store, 'orca.json')).readFile('orca.json', 100),
  ]) {
    const error = await t.throwsAsync(promise, { instanceOf: SourceError });
    t.is(error?.code, 'NOT_FOUND');
    t.false(error?.retryable);
    t.true(error?.message.includes(store));
  }
});

test('a directory in the place of a file is CORRUPT', async (t) => {
  const error = await t.throwsAsync(t.context.source.readFile('layers', 100_000), {
    instanceOf: SourceError,
  });
  t.is(error?.code, 'CORRUPT');
});

test('many reads of one layer at once give each its own bytes', async (t) => {
  const layer = await t.context.source.openLayer(DIFF_ID);
  t.is(layer.size, CONTENT.length);
  const reads = Array.from({ length: 40 }, (_, i) => layer.read(i * 200, 1000 + i));
  for (const [i, bytes] of (await Promise.all(reads)).entries()) {
    t.deepEqual(Buffer.from(bytes), CONTENT.subarray(i * 200, i * 200 + 1000 + i));
  }
});

test('a layer that was cut short since it was opened is SHORT_READ, never short data', async (t) => {
  const layer = await t.context.source.openLayer(DIFF_ID);
  await truncate(join(t.context.store, `layers/sha256/${'ab'.repeat(32)}.vhd`), 5000);
  t.is((await layer.read(0, 5000)).length, 5000);
  const error = await t.throwsAsync(layer.read(4000, 2000), { instanceOf: SourceError });
  t.is(error?.code, 'SHORT_READ');
});

test('an aborted read rejects with the reason', async (t) => {
  const layer = await t.context.source.openLayer(DIFF_ID);
  const reason = new Error('no longer wanted');
  t.is(await t.throwsAsync(layer.read(0, 10, AbortSignal.abort(reason))), reason);
});

test('closing the source closes its layers; both refuse reads from then on', async (t) => {
  const layer = await t.context.source.openLayer(DIFF_ID);
  await t.context.source.close();
  for (const promise of [layer.read(0, 1), t.context.source.readFile('orca.json', 100)]) {
    const error = await t.throwsAsync(promise, { instanceOf: SourceError });
    t.is(error?.code, 'CLOSED');
  }
});
