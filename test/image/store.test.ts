import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { bytesReader, ErofsImage, readTree } from '../../src/erofs/reader.js';
import { type Directory, type Inode, OPAQUE_XATTR, type RegularFile } from '../../src/erofs/tree.js';
import { parseTeleportArtifact } from '../../src/image/artifact.js';
import {
  blobPath,
  blockDigestsPath,
  INDEX_PATH,
  layerPath,
  resolveName,
  teleportOf,
} from '../../src/image/catalog.js';
import { type LayerProgress, Store } from '../../src/image/store.js';
import { BlockDigests } from '../../src/layer/block-digests.js';
import { digestOf } from '../../src/oci/digest.js';
import { parseImageConfig } from '../../src/oci/image-config.js';
import { openImageInput } from '../../src/oci/image-input.js';
import { parseManifest } from '../../src/oci/manifest.js';
import { layoutOf } from '../oci/layout-of.js';
import { tarOf } from '../oci/tar-file.js';
import { writeLayerFile } from './layer-file.js';

interface Context {
  dir: string;
  store: string;
  input: string;
}
const test = anyTest as TestFn<Context>;
test.beforeEach(async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'orca-store-'));
  t.context = { dir, store: join(dir, 'store'), input: `oci:${await layoutOf(join(dir, 'input'), tars)}` };
});
test.afterEach.always((t) => rmSync(t.context.dir, { recursive: true }));

const tars = ['one', 'two', 'three'].map((name) =>
  tarOf([
    { name, content: name.repeat(5000) },
    { name: 'who', content: name },
  ]),
);
const diffIDs = tars.map((tar) => digestOf(tar));

/** Expands and returns what happened to each layer. */
async function expand(t: ExecutionContext<Context>, spec = t.context.input, name?: string) {
  const store = await Store.open(t.context.store, { create: true });
  const input = await openImageInput(spec);
  const last = new Map<string, LayerProgress>();
  try {
    const onProgress = (progress: LayerProgress) => last.set(progress.layer, progress);
    const image = await store.expand(input, { onProgress, ...(name === undefined ? {} : { name }) });
    return { store, image, states: diffIDs.map((diffID) => last.get(diffID)?.state), last };
  } finally {
    await input.close();
  }
}

/** Every file of the store, relative. */
const files = (store: string) =>
  (
    readdirSync(store, { recursive: true, withFileTypes: true }) as {
      isFile(): boolean;
      parentPath: string;
      name: string;
    }[]
  )
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(store.length + 1))
    .sort();

test('an expanded image is complete: layers, digests, index, artifact, manifest and config', async (t) => {
  const { image, states, last } = await expand(t);
  const read = (path: string) => readFileSync(join(t.context.store, path));
  t.deepEqual(states, ['expanded', 'expanded', 'expanded']);
  t.is(image.name, 'app:1');
  const index = read(INDEX_PATH);
  t.is(resolveName(index, 'app:1').digest, image.manifestDigest);
  t.is(resolveName(index, image.manifestDigest).digest, image.manifestDigest);
  t.is(digestOf(read(blobPath(image.manifestDigest))), image.manifestDigest);

  const artifact = parseTeleportArtifact(read(blobPath(teleportOf(index, image.manifestDigest).digest)));
  t.is(artifact.subject.digest, image.manifestDigest);
  t.deepEqual(
    artifact.digests.map(({ diffID }) => diffID),
    diffIDs,
  );
  for (const { diffID, descriptor } of artifact.digests) {
    const digests = BlockDigests.decode(read(blobPath(descriptor.digest)));
    t.is(digests.diffID, diffID);
    t.deepEqual(read(blockDigestsPath(diffID)), read(blobPath(descriptor.digest)));
    const vhd = read(layerPath(diffID));
    t.is(digests.size, vhd.length);
    t.is(last.get(diffID)?.bytesOut, vhd.length);
    for (let i = 0; i < digests.count; i++) {
      t.true(digests.verify(i, vhd.subarray(i * digests.blockSize, (i + 1) * digests.blockSize)));
    }
  }
  const set = Buffer.concat(artifact.digests.map(({ descriptor }) => read(blobPath(descriptor.digest))));
  t.deepEqual(Buffer.from(read(blobPath(artifact.digestSet?.digest ?? ''))), set);
  t.is(artifact.packedIndex, undefined, 'it is small');
  const bytes = read(blobPath(artifact.imageIndex.digest));
  t.is(digestOf(bytes), artifact.imageIndex.digest);
  const tree = readTree(ErofsImage.open(bytesReader(bytes), bytes.length));
  t.deepEqual([...tree.children.keys()].sort(), ['one', 'three', 'two', 'who']);
  t.like(tree.children.get('who'), { size: 'three'.length });
  t.deepEqual(readdirSync(join(t.context.store, 'tmp')), []);
  t.deepEqual(readdirSync(join(t.context.store, 'locks')), []);
});

test('an image index that is not small is there packed as well', async (t) => {
  const names = Array.from({ length: 2000 }, (_, i) => ({ name: `file-${i}`, content: `${i}` }));
  const spec = `oci:${await layoutOf(join(t.context.dir, 'many'), [tarOf(names)])}`;
  const { image } = await expand(t, spec);
  const read = (path: string) => readFileSync(join(t.context.store, path));
  const { digest } = teleportOf(read(INDEX_PATH), image.manifestDigest);
  const { imageIndex, packedIndex } = parseTeleportArtifact(read(blobPath(digest)));
  const packed = read(blobPath(packedIndex?.digest ?? ''));
  t.deepEqual(gunzipSync(packed), Buffer.from(read(blobPath(imageIndex.digest))));
  t.true(packed.length < imageIndex.size / 2);
  rmSync(join(t.context.store, blobPath(packedIndex?.digest ?? '')));
  await expand(t, spec);
  t.deepEqual(read(blobPath(packedIndex?.digest ?? '')), packed);
});

test('expanding again does nothing but add the name, and two stores of one image are equal', async (t) => {
  const { store } = t.context;
  await expand(t);
  const before = files(store).map((path) => [path, readFileSync(join(store, path)).toString('hex')]);
  const again = await expand(t);
  t.deepEqual(again.states, ['reused', 'reused', 'reused']);
  t.deepEqual(
    files(store).map((path) => [path, readFileSync(join(store, path)).toString('hex')]),
    before,
  );
  t.is((await expand(t, t.context.input, 'other')).image.name, 'other:latest');
  t.deepEqual(await again.store.images(), [
    { manifestDigest: again.image.manifestDigest, names: ['app:1', 'other:latest'] },
  ]);

  t.context.store = join(t.context.dir, 'second');
  await expand(t);
  t.deepEqual(
    files(t.context.store).map((path) => [path, readFileSync(join(t.context.store, path)).toString('hex')]),
    before,
  );
});

test('images share layers', async (t) => {
  await expand(t);
  const other = `oci:${await layoutOf(join(t.context.dir, 'other'), [tars[1] as Buffer, tars[0] as Buffer, tars[1] as Buffer], 'other:1')}`;
  const { states, store } = await expand(t, other);
  t.deepEqual(states, ['reused', 'reused', undefined]);
  t.is((await store.images()).length, 2);
  t.is(readdirSync(join(t.context.store, 'layers/sha256')).length, 3 * 4);
});

test('two expansions at once do the work once', async (t) => {
  const runs = await Promise.all([expand(t), expand(t), expand(t)]);
  for (const i of [0, 1, 2]) {
    t.deepEqual(runs.map(({ states }) => states[i]).sort(), ['expanded', 'reused', 'reused']);
  }
  t.deepEqual(readdirSync(join(t.context.store, 'tmp')), []);
});

test('what is missing of an expanded image is made again', async (t) => {
  const { image } = await expand(t);
  const all = files(t.context.store);
  const removed = [
    layerPath(diffIDs[1] as string),
    blockDigestsPath(diffIDs[2] as string),
    blobPath(image.manifestDigest),
  ];
  for (const path of removed) rmSync(join(t.context.store, path));
  t.deepEqual((await expand(t)).states, ['reused', 'expanded', 'expanded']);
  t.deepEqual(files(t.context.store), all);
});

test('a layer that does not match leaves nothing, is named, and the others survive', async (t) => {
  const bad = gzipSync(tarOf([{ name: 'bad', content: 'bad' }]));
  const layout = join(t.context.dir, 'bad');
  await layoutOf(layout, tars);
  const input = await openImageInput(`oci:${layout}`);
  (input.layers[1] as { open: unknown }).open = async function* () {
    yield bad;
  };
  const store = await Store.open(t.context.store, { create: true });
  await t.throwsAsync(store.expand(input, { concurrency: 1 }), {
    name: 'ImageError',
    code: 'DIGEST_MISMATCH',
    message: new RegExp(`^layer ${diffIDs[1]}: `),
  });
  t.false(existsSync(store.path(layerPath(diffIDs[1] as string))));
  t.true(existsSync(store.path(layerPath(diffIDs[0] as string))));
  t.deepEqual(readdirSync(store.path('tmp')), []);
  t.deepEqual(await store.images(), []);
  t.deepEqual((await expand(t)).states, ['reused', 'expanded', 'expanded']);
});

test('a blob that ends too soon is an error of its layer', async (t) => {
  const input = await openImageInput(t.context.input);
  const { digest } = input.layers[2] as { digest: string };
  writeFileSync(
    join(t.context.dir, 'input/blobs/sha256', digest.slice(7)),
    gzipSync(tars[2] as Buffer).subarray(0, 40),
  );
  const store = await Store.open(t.context.store, { create: true });
  await t.throwsAsync(store.expand(input), {
    name: 'ImageError',
    message: new RegExp(`^layer ${diffIDs[2]}: `),
  });
});

test('an expansion can be stopped', async (t) => {
  const input = await openImageInput(t.context.input);
  const store = await Store.open(t.context.store, { create: true });
  const abort = new AbortController();
  const stopped = store.expand(input, { signal: abort.signal, onProgress: () => abort.abort() });
  await t.throwsAsync(stopped, { code: 'ABORTED' });
  t.deepEqual(await store.images(), []);
  t.deepEqual(readdirSync(store.path('tmp')), []);
});

test('what killed processes left is removed', async (t) => {
  await Store.open(t.context.store, { create: true });
  mkdirSync(join(t.context.store, 'tmp', 'a'.repeat(64)));
  writeFileSync(join(t.context.store, 'tmp', 'a'.repeat(64), 'layer.vhd'), 'half');
  writeFileSync(join(t.context.store, 'tmp', 'stray'), 'half');
  writeFileSync(join(t.context.store, 'locks', `${'b'.repeat(64)}.lock`), '');
  await expand(t);
  t.deepEqual(readdirSync(join(t.context.store, 'tmp')), []);
  t.deepEqual(readdirSync(join(t.context.store, 'locks')), []);
});

test('an unusable name of the input asks for another', async (t) => {
  const input = `oci:${await layoutOf(join(t.context.dir, 'odd'), tars, 'Bad Name')}`;
  await t.throwsAsync(expand(t, input), { code: 'INVALID_REFERENCE', message: /give one with --name/ });
  await t.throwsAsync(expand(t, input, 'Also Bad'), {
    code: 'INVALID_REFERENCE',
    message: /^"Also Bad" is not/,
  });
  t.is((await expand(t, input, 'good')).image.name, 'good:latest');
});

test('a directory that is missing, full of other things or of another version is no store', async (t) => {
  const { dir } = t.context;
  await t.throwsAsync(Store.open(join(dir, 'none')), { code: 'NOT_FOUND', message: /there is none/ });
  mkdirSync(join(dir, 'full'));
  writeFileSync(join(dir, 'full', 'thesis.txt'), '');
  await t.throwsAsync(Store.open(join(dir, 'full'), { create: true }), {
    code: 'INVALID_STORE',
    message: /not empty/,
  });
  t.deepEqual(readdirSync(join(dir, 'full')), ['thesis.txt']);
  writeFileSync(join(dir, 'full', 'orca.json'), '{"version":9}');
  await t.throwsAsync(Store.open(join(dir, 'full'), { create: true }), {
    code: 'INVALID_STORE',
    message: /version 9/,
  });
});

/** A layer VHD of `low` with a directory that is opaque in the upper one, as files made elsewhere would be. */
function foreignLayers(dir: string): [low: string, high: string] {
  const [low, high] = [join(dir, 'low.vhd'), join(dir, 'high.vhd')];
  writeLayerFile(
    low,
    treeOf({ d: treeOf({ old: fileOf(5000, 1) }), kept: fileOf(100, 3) }),
    Buffer.alloc(3 * 4096, 'l'),
  );
  const opaque = new Map([[OPAQUE_XATTR, Buffer.from('y')]]);
  writeLayerFile(high, treeOf({ d: treeOf({ new: fileOf(4096, 1) }, opaque) }), Buffer.alloc(4096, 'h'));
  return [low, high];
}

const attributes = { mode: 0o755, uid: 1, gid: 2, mtime: 3n };
const treeOf = (children: Record<string, Inode>, xattrs = new Map<string, Uint8Array>()): Directory => ({
  ...attributes,
  xattrs,
  kind: 'directory',
  children: new Map(Object.entries(children)),
});
const fileOf = (size: number, block: number): RegularFile => ({
  ...attributes,
  xattrs: new Map(),
  kind: 'file',
  size,
  extents: [{ fileOffset: 0, device: 0, block, blocks: Math.ceil(size / 4096) }],
});

test('layers made elsewhere are imported, raw or as VHD, and merged', async (t) => {
  const { dir } = t.context;
  const store = await Store.open(t.context.store, { create: true });
  const [low, high] = foreignLayers(dir);
  const raw = join(dir, 'low.erofs');
  writeFileSync(raw, readFileSync(low).subarray(0, -512));
  const states: string[] = [];
  const onProgress = ({ layer, state }: LayerProgress) => {
    if (state !== 'expanding') states.push(`${layer.slice(dir.length + 1)} ${state}`);
  };
  const image = await store.importVhds([low, high], { name: 'made', onProgress });
  t.is(image.name, 'made:latest');
  const again = await store.importVhds([raw, high], { name: 'again', onProgress });
  t.is(again.manifestDigest, image.manifestDigest);
  t.deepEqual(states, ['low.vhd expanded', 'high.vhd expanded', 'low.erofs reused', 'high.vhd reused']);

  const read = (path: string) => readFileSync(store.path(path));
  const config = parseManifest(read(blobPath(image.manifestDigest))).config;
  const ids = parseImageConfig(read(blobPath(config.digest))).diffIDs;
  t.deepEqual(
    ids,
    [low, high].map((_, i) => digestOf(read(layerPath(ids[i] as string)).subarray(0, -512))),
  );
  const artifact = parseTeleportArtifact(
    read(blobPath(teleportOf(read(INDEX_PATH), image.manifestDigest).digest)),
  );
  const index = read(blobPath(artifact.imageIndex.digest));
  const root = readTree(ErofsImage.open(bytesReader(index), index.length));
  t.deepEqual([...root.children.keys()].sort(), ['d', 'kept']);
  t.deepEqual([...(root.children.get('d') as Directory).children.keys()], ['new']);
});

test('what is no layer VHD is refused by its path', async (t) => {
  const { dir } = t.context;
  const store = await Store.open(t.context.store, { create: true });
  const [low, high] = foreignLayers(dir);
  writeFileSync(join(dir, 'text'), 'x'.repeat(5000));
  writeFileSync(join(dir, 'cut'), readFileSync(low).subarray(0, 5000));
  const bad: [path: string, message: RegExp][] = [
    [join(dir, 'none'), /none: no such file/],
    [dir, /no such file/],
    [join(dir, 'text'), /text: /],
    [join(dir, 'cut'), /cut: /],
  ];
  for (const [path, message] of bad) {
    await t.throwsAsync(store.importVhds([high, path], { name: 'x' }), { name: 'ImageError', message }, path);
  }
  await t.throwsAsync(store.importVhds([high], { name: 'Not A Name' }), { code: 'INVALID_REFERENCE' });
  t.deepEqual(await store.images(), []);
  t.deepEqual(readdirSync(store.path('tmp')), []);
});
