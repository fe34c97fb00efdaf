import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import test from 'ava';
import { decompressAside, expandInThread } from '../../src/layer/layer-threads.js';
import { digestOf } from '../../src/oci/digest.js';
import { Random } from '../image/random.js';
import { archive, member } from '../tar/archive.js';
import { chunksOf, expand } from './layers.js';
import { rawFrame } from './zstd-streams.js';

const TAR = archive(member({ name: 'a' }, new Random(1).bytes(3_000_000)), member({ name: 'b' }, 'b'));

async function bytesOf(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}

function zstdOf(bytes: Buffer): Buffer {
  const blocks: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += 100_000) blocks.push(bytes.subarray(at, at + 100_000));
  return rawFrame(blocks);
}

function directory(t: { teardown(undo: () => void): void }): string {
  const path = mkdtempSync(join(tmpdir(), 'orca-threads-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}

test('layers that threads expand at once are what one would be', async (t) => {
  const work = directory(t);
  const blob = gzipSync(TAR);
  const expected = await expand(chunksOf(blob));
  const names = ['1', '2', '3', '4', '5', '6'];
  const made = await Promise.all(
    names.map((name) =>
      expandInThread({
        output: join(work, name),
        diffID: digestOf(TAR),
        blobDigest: digestOf(blob),
        open: () => chunksOf(blob),
      }),
    ),
  );
  for (const [index, { digests, recipe, checkpoints }] of made.entries()) {
    t.true(expected.vhd.equals(readFileSync(join(work, names[index] as string))));
    t.deepEqual(digests.encode(), expected.digests.encode());
    t.deepEqual(Buffer.from(recipe ?? []), Buffer.from(expected.recipe ?? []));
    t.deepEqual(Buffer.from(checkpoints ?? []), Buffer.from(expected.checkpoints ?? []));
  }
});

test('what the blob throws comes back as it was, what is wrong with it with its code, and nothing is left', async (t) => {
  const work = directory(t);
  const task = { output: join(work, 'x'), diffID: digestOf(TAR), blobDigest: undefined };
  const cut = new Error('cut');
  const open = async function* () {
    yield gzipSync(TAR).subarray(0, 100_000);
    throw cut;
  };
  t.is(await t.throwsAsync(expandInThread({ ...task, open })), cut);
  const other = { ...task, diffID: digestOf(Buffer.from('other')), open: () => chunksOf(gzipSync(TAR)) };
  t.is((await t.throwsAsync<Error & { code?: string }>(expandInThread(other)))?.code, 'DIGEST_MISMATCH');
  const stop = new AbortController();
  const stalled = async function* () {
    yield gzipSync(TAR).subarray(0, 100_000);
    stop.abort(new Error('no longer'));
    await new Promise((resolve) => setTimeout(resolve, 50));
    yield gzipSync(TAR).subarray(100_000);
  };
  await t.throwsAsync(expandInThread({ ...task, open: stalled, signal: stop.signal }), {
    message: 'no longer',
  });
  t.deepEqual(readdirSync(work), []);
});

test('zstd that a thread decompresses is the tar, and its errors are those of the blob and of the data', async (t) => {
  const blob = zstdOf(TAR);
  t.true(TAR.equals(await bytesOf(decompressAside(chunksOf(blob), true))));
  const damaged = decompressAside(chunksOf(blob.subarray(0, blob.length - 10)), true);
  t.is((await t.throwsAsync<Error & { code?: string }>(bytesOf(damaged)))?.code, 'CORRUPT');
  const cut = new Error('cut');
  const broken = async function* () {
    yield blob.subarray(0, 500_000);
    throw cut;
  };
  t.is(await t.throwsAsync(bytesOf(decompressAside(broken(), true))), cut);
  let closed = false;
  const endless = async function* () {
    try {
      for (;;) yield blob;
    } finally {
      closed = true;
    }
  };
  for await (const _ of decompressAside(endless(), true)) break;
  while (!closed) await new Promise(setImmediate);
  t.pass();
});
