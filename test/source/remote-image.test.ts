import { mkdtemp, readdir, readFile, rm, truncate, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { OrcaError } from '../../src/errors.js';
import {
  encodeTeleportArtifact,
  PACKED_INDEX_TYPE,
  parseTeleportArtifact,
} from '../../src/image/artifact.js';
import { blobPath, INDEX_PATH, MARKER_PATH, parseCatalog, withImage } from '../../src/image/catalog.js';
import { digestOf } from '../../src/oci/digest.js';
import { encodeIndex } from '../../src/oci/manifest.js';
import { FileSource } from '../../src/source/file-source.js';
import { assembleImage } from '../../src/source/image-assembly.js';
import { loadImage } from '../../src/source/remote-image.js';
import { addImage, content, type TestImage } from './store-fixture.js';

interface Context {
  store: string;
  cache: string;
  image: TestImage;
  source: CountingSource;
}

const test = anyTest as TestFn<Context>;

/** A file source that counts rounds: reads that begin while none is under way. */
class CountingSource extends FileSource {
  readonly paths: string[] = [];
  rounds = 0;
  #underWay = 0;

  override async readFile(path: string, maxBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
    this.paths.push(path);
    if (this.#underWay === 0) this.rounds += 1;
    this.#underWay += 1;
    try {
      return await super.readFile(path, maxBytes, signal);
    } finally {
      this.#underWay -= 1;
    }
  }
}

test.beforeEach(async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'orca-remote-image-'));
  const [store, cache] = [join(directory, 'store'), join(directory, 'cache')];
  const image = await addImage(store, 'app:1', [
    { 'bin/one': content('one', 100_000), 'etc/conf': content('conf', 10) },
    { 'bin/two': content('two', 50_000) },
  ]);
  t.context = { store, cache, image, source: new CountingSource(store) };
});

test.afterEach.always(async (t) => {
  await rm(join(t.context.store, '..'), { recursive: true });
});

async function failure(t: ExecutionContext<Context>, name: string): Promise<OrcaError> {
  const error = await t.throwsAsync(loadImage(t.context.source, name, t.context.cache));
  if (!(error instanceof OrcaError)) throw error;
  t.false(error.message.includes('\n'));
  return error;
}

test('an image is loaded by name in three round trips, whatever its number of layers', async (t) => {
  const { source, image, cache, store } = t.context;
  const loaded = await loadImage(source, 'app:1', cache);
  t.is(loaded.manifestDigest, image.manifestDigest);
  t.is(source.rounds, 3);
  t.deepEqual(
    loaded.devices.map(({ diffID, size }) => [diffID, size]),
    image.layers.map(({ digests, bytes }) => [digests.diffID, bytes.length]),
  );
  t.deepEqual(
    loaded.config.diffIDs,
    image.layers.map(({ digests }) => digests.diffID),
  );
  const kept = await readFile(loaded.indexPath);
  t.true(kept.equals(await readFile(join(store, blobPath(image.imageIndex.digest)))));
});

test('block digests that are in one set are asked for at once, and verified one by one', async (t) => {
  const { source, cache, store } = t.context;
  const layers = [1, 2, 3].map((n) => ({ [`file-${n}`]: content(`set-${n}`, 40_000) }));
  const image = await addImage(store, 'set:1', layers, 16384, true);
  for (const { digest } of image.digests) await rm(join(store, blobPath(digest)));
  const loaded = await loadImage(source, 'set:1', cache);
  t.deepEqual(
    loaded.devices.map(({ digests }) => digests.name),
    image.layers.map(({ digests }) => digests.name),
  );
  const set = loaded.digestSet?.digest ?? '';
  t.true(loaded.documents?.includes(set));
  await rm(join(store, blobPath(set)));
  t.is((await loadImage(source, image.manifestDigest, cache)).devices.length, 3);

  const forged = parseTeleportArtifact(await readFile(join(store, blobPath(image.artifact.digest))));
  const other = forged.digests.map((one, index) => ({ ...one, diffID: forged.digests[2 - index]!.diffID }));
  const swapped = Buffer.from(encodeTeleportArtifact({ ...forged, digests: other }));
  const artifact = { ...image.artifact, digest: digestOf(swapped), size: swapped.length };
  await t.throwsAsync(
    assembleImage({
      name: 'set:1',
      manifest: forged.subject,
      artifact,
      cacheDir: cache,
      fetch: async () => swapped,
    }),
    { code: 'INVALID_ARTIFACT', message: /block digests of layer/ },
  );
});

test('an image index that is packed is fetched as that, and verified packed and unpacked', async (t) => {
  const { image, cache, store } = t.context;
  const read = (digest: string) => readFile(join(store, blobPath(digest)));
  const artifact = parseTeleportArtifact(await read(image.artifact.digest));
  const index = await read(image.imageIndex.digest);
  /** Loads an image whose artifact says so of what is `sent`. */
  const load = async (packed: Uint8Array, sent = packed, what: Partial<typeof artifact> = {}) => {
    const packedIndex = { mediaType: PACKED_INDEX_TYPE, digest: digestOf(packed), size: packed.length };
    const bytes = encodeTeleportArtifact({ ...artifact, packedIndex, ...what });
    const asked: string[] = [];
    const loaded = await assembleImage({
      name: 'app:1',
      manifest: artifact.subject,
      artifact: { ...image.artifact, digest: digestOf(bytes), size: bytes.length },
      cacheDir: cache,
      fetch: async ({ digest }) => {
        asked.push(digest);
        if (digest === digestOf(bytes)) return bytes;
        return digest === packedIndex.digest ? sent : read(digest);
      },
    });
    return { loaded, asked };
  };
  const packed = gzipSync(index);
  for (const wrong of [
    { packed, sent: gzipSync(index, { level: 1 }), code: /MISMATCH/ },
    { packed: packed.subarray(0, -9), code: /INVALID_ARTIFACT/ },
    { packed: Buffer.from('no gzip'), code: /INVALID_ARTIFACT/ },
    { packed: gzipSync(Buffer.alloc(16 << 20)), code: /INVALID_ARTIFACT/ },
    { packed: gzipSync(Buffer.alloc(index.length)), code: /DIGEST_MISMATCH/ },
  ]) {
    const larger = {
      imageIndex: { ...artifact.imageIndex, size: Math.max(index.length, wrong.packed.length) },
    };
    const what = wrong.packed.length > index.length ? larger : {};
    const error = await t.throwsAsync<OrcaError>(load(wrong.packed, wrong.sent, what));
    t.regex(error?.code ?? '', wrong.code, error?.message);
  }
  const { loaded, asked } = await load(packed);
  t.false(asked.includes(image.imageIndex.digest));
  t.true((await readFile(loaded.indexPath)).equals(index));
  await unlink(loaded.indexPath);
  await loaded.restoreIndex?.();
  t.true((await readFile(loaded.indexPath)).equals(index));
});

test('an image that was loaded before needs the network for nothing but its name', async (t) => {
  const { source, image, cache, store } = t.context;
  await loadImage(source, 'app:1', cache);
  source.paths.length = 0;
  await loadImage(source, 'app:1', cache);
  t.deepEqual(source.paths, [MARKER_PATH, INDEX_PATH]);
  await rm(store, { recursive: true });
  for (const name of [image.manifestDigest, `app@${image.manifestDigest}`]) {
    const loaded = await loadImage(new FileSource('/nowhere'), name, cache);
    t.is(loaded.devices.length, 2);
  }
});

test('what the cache has wrong is found out and fetched again', async (t) => {
  const { source, image, cache } = t.context;
  const first = await loadImage(source, 'app:1', cache);
  const right = await readFile(first.indexPath);
  for (const spoil of [
    () => writeFile(first.indexPath, Buffer.alloc(right.length)),
    () => truncate(first.indexPath, 100),
    () => unlink(first.indexPath),
  ]) {
    await spoil();
    const again = await loadImage(source, image.manifestDigest, cache);
    t.true((await readFile(again.indexPath)).equals(right));
  }
  t.deepEqual(
    (await readdir(join(cache, 'blobs/sha256'))).filter((name) => name.includes('.')),
    [],
  );
});

test('an unknown name is NOT_FOUND and names the images that are there', async (t) => {
  const error = await failure(t, 'app:2');
  t.is(error.code, 'NOT_FOUND');
  t.regex(error.message, /app:2.*it has app:1/);
  t.is((await failure(t, `sha256:${'0'.repeat(64)}`)).code, 'NOT_FOUND');
});

test('what is not a store says so, and a store of a later version too', async (t) => {
  const { store } = t.context;
  await writeFile(join(store, MARKER_PATH), '{"version": 2}');
  const newer = await failure(t, 'app:1');
  t.is(newer.code, 'INVALID_STORE');
  t.regex(newer.message, /version 2/);
  await unlink(join(store, MARKER_PATH));
  const none = await failure(t, 'app:1');
  t.is(none.code, 'INVALID_STORE');
  t.true(none.message.includes(store));
});

test('a store without any image has none to offer', async (t) => {
  await unlink(join(t.context.store, INDEX_PATH));
  t.is((await failure(t, 'app:1')).code, 'NOT_FOUND');
});

test('a catalog that is cut short or no JSON is refused', async (t) => {
  const path = join(t.context.store, INDEX_PATH);
  const { length } = await readFile(path);
  await truncate(path, length - 5);
  t.is((await failure(t, 'app:1')).code, 'INVALID_INDEX');
});

test('every blob is held to its digest and size', async (t) => {
  const { store, image, cache } = t.context;
  const first = await readdir(join(store, 'images/blobs/sha256'));
  t.true(first.length >= 6);
  for (const hex of first) {
    const path = join(store, 'images/blobs/sha256', hex);
    const right = await readFile(path);
    const wrong = Buffer.from(right);
    wrong[wrong.length >> 1]! ^= 1;
    for (const [bytes, code] of [
      [wrong, 'DIGEST_MISMATCH'],
      [right.subarray(1), 'SIZE_MISMATCH'],
      [Buffer.concat([right, right]), 'TOO_LARGE'],
    ] as const) {
      await rm(cache, { recursive: true, force: true });
      await writeFile(path, bytes);
      const error = await failure(t, 'app:1');
      t.is(error.code, code, `${hex}: ${error.message}`);
    }
    await unlink(path);
    const missing = await failure(t, image.manifestDigest);
    t.is(missing.code, 'INVALID_STORE');
    t.true(missing.message.includes(hex));
    await writeFile(path, right);
  }
  await loadImage(t.context.source, 'app:1', cache);
});

test('an image whose artifact was replaced since is looked up again', async (t) => {
  const { source, image, store, cache } = t.context;
  await loadImage(source, image.manifestDigest, cache);
  await rm(join(cache, 'blobs'), { recursive: true });
  await unlink(join(store, blobPath(image.artifact.digest)));
  const again = await addImage(store, 'app:1', [
    { 'bin/one': content('one', 100_000), 'etc/conf': content('conf', 10) },
    { 'bin/two': content('two', 50_000) },
  ]);
  t.is(again.manifestDigest, image.manifestDigest);
  t.is((await loadImage(source, image.manifestDigest, cache)).manifestDigest, image.manifestDigest);
});

test('an image index whose devices are not the layers of the image is refused', async (t) => {
  const { store } = t.context;
  const files = { 'bin/one': content('one', 100_000), 'etc/conf': content('conf', 10) };
  const other = await addImage(store, 'other:1', [files]);
  const artifact = parseTeleportArtifact(
    await readFile(join(store, blobPath(t.context.image.artifact.digest))),
  );
  const forged = encodeTeleportArtifact({ ...artifact, imageIndex: other.imageIndex });
  const descriptor = { ...other.artifact, digest: digestOf(forged), size: forged.length };
  await writeFile(join(store, blobPath(descriptor.digest)), forged);
  const catalog = parseCatalog(await readFile(join(store, INDEX_PATH)));
  await writeFile(
    join(store, INDEX_PATH),
    encodeIndex(withImage(catalog, artifact.subject, descriptor, 'app:1')),
  );
  t.is((await failure(t, 'app:1')).code, 'INVALID_ARTIFACT');
});
