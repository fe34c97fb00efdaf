import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { digestOf } from '../../src/oci/digest.js';
import { RegistryStorage } from '../../src/registry/storage.js';
import { Random } from '../image/random.js';

const test = anyTest as TestFn<{ dir: string; storage: RegistryStorage }>;
test.beforeEach(async (t) => {
  t.context.dir = mkdtempSync(join(tmpdir(), 'orca-uploads-'));
  t.context.storage = await RegistryStorage.open(t.context.dir);
});
test.afterEach.always((t) => {
  t.context.storage.close();
  rmSync(t.context.dir, { recursive: true });
});

async function* pieces(...chunks: Uint8Array[]) {
  yield* chunks;
}

async function* broken(...chunks: Uint8Array[]) {
  yield* chunks;
  throw new Error('connection lost');
}

test('an upload becomes a blob of the repository when its digest is right', async (t) => {
  const { storage } = t.context;
  const content = new Random(1).bytes(3_000_000);
  const upload = await storage.uploads.create('a/b');
  await upload.append(pieces(content.subarray(0, 7), content.subarray(7, 2_000_000)));
  await upload.append(pieces(content.subarray(2_000_000)));
  t.is(upload.offset, content.length);
  await upload.seal(digestOf(content));
  await storage.repository('a/b').takeBlob(digestOf(content), upload.file);
  t.is(await storage.repository('a/b').blobSize(digestOf(content)), content.length);
  t.is(await storage.repository('a').blobSize(digestOf(content)), undefined);
  t.true(content.equals(readFileSync(storage.blobs.path(digestOf(content)))));
});

test('a wrong digest is refused, by sha256 and by sha512', async (t) => {
  const upload = await t.context.storage.uploads.create('a');
  await upload.append(pieces(Buffer.from('content')));
  await t.throwsAsync(upload.seal(digestOf(Buffer.from('other'))), { code: 'DIGEST_MISMATCH' });
  await t.throwsAsync(upload.seal(digestOf(Buffer.from('other'), 'sha512')), { code: 'DIGEST_MISMATCH' });
  await t.notThrowsAsync(upload.seal(digestOf(Buffer.from('content'), 'sha512')));
});

test('what came before the connection was lost stays, and the upload goes on from there', async (t) => {
  const upload = await t.context.storage.uploads.create('a');
  await t.throwsAsync(upload.append(broken(Buffer.from('hello '))), { message: 'connection lost' });
  t.is(upload.offset, 6);
  await upload.append(pieces(Buffer.from('world')));
  await t.notThrowsAsync(upload.seal(digestOf(Buffer.from('hello world'))));
});

test('a chunk of another length than was announced leaves nothing behind', async (t) => {
  const upload = await t.context.storage.uploads.create('a');
  await upload.append(pieces(Buffer.from('hello ')));
  await t.throwsAsync(upload.append(pieces(Buffer.from('wor')), 5), { code: 'SIZE_MISMATCH' });
  await t.throwsAsync(upload.append(pieces(Buffer.from('world!')), 5), { code: 'SIZE_MISMATCH' });
  t.is(upload.offset, 6);
  t.is(readFileSync(upload.file).toString(), 'hello ');
  await upload.append(pieces(Buffer.from('world')), 5);
  await t.notThrowsAsync(upload.seal(digestOf(Buffer.from('hello world'))));
});

test('an upload goes on after the registry has been started anew', async (t) => {
  const { dir, storage } = t.context;
  const { id, append } = await storage.uploads.create('team/app').then((upload) => ({
    id: upload.id,
    append: upload.append(pieces(Buffer.from('first '))),
  }));
  await append;
  storage.close();
  t.context.storage = await RegistryStorage.open(dir);
  await t.context.storage.uploads.using('team/app', id, async (upload) => {
    t.is(upload?.offset, 6);
    await upload?.append(pieces(Buffer.from('second')));
    await t.notThrowsAsync(async () => upload?.seal(digestOf(Buffer.from('first second'))));
  });
});

test('an upload is known to its repository only, and an id that is none to nobody', async (t) => {
  const { uploads } = t.context.storage;
  const { id } = await uploads.create('a');
  const offset = (repository: string, text: string) =>
    uploads.using(repository, text, async (upload) => upload?.offset);
  t.is(await offset('a', id), 0);
  t.is(await offset('b', id), undefined);
  t.is(await offset('a', '../../etc'), undefined);
  t.is(await offset('a', id.replace(/./, 'g')), undefined);
});

test('the state of an upload that was being made when the process died is removed in time', async (t) => {
  const { storage, dir } = t.context;
  const { id } = await storage.uploads.create('a');
  truncateSync(join(dir, 'uploads', id, 'state.json'));
  storage.close();
  t.context.storage = await RegistryStorage.open(dir);
  t.is(await t.context.storage.uploads.using('a', id, async (upload) => upload), undefined);
  t.is(await t.context.storage.uploads.removeIdle(Date.now() - 60_000), 0);
  t.is(await t.context.storage.uploads.removeIdle(Date.now() + 60_000), 1);
  t.deepEqual(readdirSync(join(dir, 'uploads')), []);
});

test('requests to one upload take turns', async (t) => {
  const { uploads } = t.context.storage;
  const { id } = await uploads.create('a');
  const part = (text: string) =>
    uploads.using('a', id, (upload) => upload!.append(pieces(Buffer.from(text), Buffer.from(text))));
  await Promise.all(['a', 'b', 'c'].map(part));
  const file = await uploads.using('a', id, async (upload) => upload!.file);
  t.is(readFileSync(file).toString(), 'aabbcc');
});

test('two uploads of one blob, in two repositories, are both fine', async (t) => {
  const { storage } = t.context;
  const content = Buffer.from('shared');
  await Promise.all(
    ['a', 'b'].map(async (name) => {
      const upload = await storage.uploads.create(name);
      await upload.append(pieces(content));
      await upload.seal(digestOf(content));
      await storage.repository(name).takeBlob(digestOf(content), upload.file);
      await storage.uploads.remove(upload);
    }),
  );
  for (const name of ['a', 'b']) t.is(await storage.repository(name).blobSize(digestOf(content)), 6);
  t.false(existsSync(join(t.context.dir, 'uploads', 'data')));
});
