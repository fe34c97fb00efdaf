import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { BlockCache, type LayerLease, MIN_LIMIT } from '../../src/cache/block-cache.js';
import { digestOf } from '../../src/oci/digest.js';
import type { RemoteImage } from '../../src/source/remote-image.js';
import { FaultSource, randomLayer, type TestLayer } from './layer-fixture.js';

const BLOCK = 131072;
const test = anyTest as TestFn<{ directory: string }>;

test.beforeEach(async (t) => {
  t.context.directory = await realpath(await mkdtemp(join(tmpdir(), 'orca-inventory-')));
});
test.afterEach.always((t) => rm(t.context.directory, { recursive: true }));

/** An image of these layers as a mount has it, its image index in the cache. */
async function imageOf(cache: BlockCache, name: string, layers: readonly TestLayer[]): Promise<RemoteImage> {
  const index = Buffer.alloc(50_000, name);
  await cache.blobs.ensure(digestOf(index), index);
  return {
    manifestDigest: digestOf(Buffer.from(name)),
    name,
    config: {} as RemoteImage['config'],
    indexPath: cache.blobs.path(digestOf(index)),
    devices: layers.map(({ digests }) => ({ diffID: digests.diffID, size: digests.size, digests })),
  };
}

/** Mounts, reads all blocks, and gives what ends the mount. */
async function use(
  cache: BlockCache,
  image: RemoteImage,
  layers: readonly TestLayer[],
): Promise<() => Promise<void>> {
  const unused = await cache.images.begin(image);
  const leases: LayerLease[] = [];
  for (const content of layers) {
    const lease = await cache.openLayer(content.digests, [new FaultSource('a', [content])]);
    await cache.scheduler.prefetch(lease.layer, 0, content.digests.count, { priority: 'startup' });
    leases.push(lease);
  }
  return async () => {
    unused();
    for (const lease of leases) await lease.close();
  };
}

test('usage says what each image has, and removal leaves what others share or have open', async (t) => {
  const cache = await BlockCache.open(t.context.directory);
  const [base, one, two] = [41, 42, 43].map((seed) => randomLayer(seed, 8 * BLOCK, BLOCK)) as [
    TestLayer,
    TestLayer,
    TestLayer,
  ];
  const first = await imageOf(cache, 'first', [base, one]);
  const second = await imageOf(cache, 'second', [base, two]);
  await (await use(cache, first, [base, one]))();
  const end = await use(cache, second, [base, two]);
  const usages = await cache.images.usage();
  t.deepEqual(usages.map(({ name, inUse, pinned }) => `${name} ${inUse} ${pinned}`).sort(), [
    'first false false',
    'second true false',
  ]);
  t.true(usages.every(({ bytes }) => bytes >= 16 * BLOCK));

  await cache.images.remove(first.manifestDigest);
  t.deepEqual(
    (await cache.images.usage()).map(({ name }) => name),
    ['second'],
  );
  const counts = async (content: TestLayer) => {
    const lease = await cache.openLayer(content.digests, []);
    const count = lease.layer.blockFile.count();
    await lease.close();
    return count;
  };
  t.is(await counts(base), 8, 'shared and open');
  t.is(await counts(one), 0);
  await cache.images.remove(second.manifestDigest);
  t.is(await counts(two), 8, 'open');
  await end();
  t.deepEqual(await cache.images.usage(), []);
  cache.close();
});

test('layers of pinned images stay when room is needed; unused images go with index and digests', async (t) => {
  const cache = await BlockCache.open(t.context.directory, { limit: MIN_LIMIT });
  const [kept, gone, busy] = [44, 45, 46].map((seed) => randomLayer(seed, 24 << 20, BLOCK)) as [
    TestLayer,
    TestLayer,
    TestLayer,
  ];
  const images = [await imageOf(cache, 'kept', [kept]), await imageOf(cache, 'gone', [gone])] as const;
  await cache.images.pin(images[0].manifestDigest);
  await (await use(cache, images[0], [kept]))();
  await (await use(cache, images[1], [gone]))();
  const end = await use(cache, await imageOf(cache, 'busy', [busy]), [busy]);
  const before = (await readdir(join(t.context.directory, 'blobs', 'sha256'))).length;
  await cache.eviction.free(30 << 20);
  const usages = new Map((await cache.images.usage()).map((usage) => [usage.name, usage]));
  t.true(usages.get('kept')!.bytes >= 24 << 20 && usages.get('kept')!.pinned);
  t.false(usages.has('gone'));
  t.true((await readdir(join(t.context.directory, 'blobs', 'sha256'))).length < before);
  t.true(usages.get('busy')!.inUse);

  const again = await BlockCache.open(t.context.directory, { limit: MIN_LIMIT });
  t.true((await again.images.usage()).find(({ name }) => name === 'kept')!.pinned, 'pins survive a restart');
  await again.images.unpin(images[0].manifestDigest);
  t.false((await again.images.usage()).find(({ name }) => name === 'kept')!.pinned);
  await end();
  again.close();
  cache.close();
});

test('damaged records are passed over', async (t) => {
  const cache = await BlockCache.open(t.context.directory);
  const content = randomLayer(47, BLOCK, BLOCK);
  await (await cache.images.begin(await imageOf(cache, 'app', [content])))();
  const inventory = join(t.context.directory, 'inventory');
  for (const [digit, text] of ['{', '{}', '{"name":"x","index":"../../etc","layers":[]}', '[]'].entries()) {
    await writeFile(join(inventory, `${String(digit).repeat(64)}.json`), text);
  }
  t.deepEqual(
    (await cache.images.usage()).map(({ name }) => name),
    ['app'],
  );
  cache.close();
});

test('removal takes the documents of an image along, but not those of others', async (t) => {
  const cache = await BlockCache.open(t.context.directory);
  const content = randomLayer(48, BLOCK, BLOCK);
  const documents = ['manifest', 'config', 'shared'].map((text) => digestOf(Buffer.from(text)));
  for (const text of ['manifest', 'config', 'shared'])
    await cache.blobs.ensure(digestOf(Buffer.from(text)), Buffer.from(text));
  const one = { ...(await imageOf(cache, 'one', [content])), documents };
  const two = { ...(await imageOf(cache, 'two', [content])), documents: documents.slice(2) };
  for (const image of [one, two]) (await cache.images.begin(image))();
  // Mounted again with another index, of which no record would be left.
  const again = await imageOf(cache, 'again', [content]);
  (await cache.images.begin({ ...one, indexPath: again.indexPath }))();
  const end = await cache.images.begin(one);
  await cache.images.remove(one.manifestDigest);
  const blobs = () => readdir(join(t.context.directory, 'blobs', 'sha256'));
  t.true((await blobs()).length >= 6, 'it is mounted');
  end();
  (await cache.images.begin(one))();
  (await cache.images.begin({ ...one, indexPath: again.indexPath }))();
  await cache.images.remove(one.manifestDigest);
  const left = [documents[2]!, digestOf(Buffer.alloc(50_000, 'two')), digestOf(content.digests.encode())];
  const hexes = left.map((digest) => digest.slice('sha256:'.length));
  t.deepEqual(
    (await blobs()).filter((hex) => hex !== hexes[2]),
    hexes.slice(0, 2).sort(),
  );
  cache.close();
});

test('what another process has mounted goes last, and is not removed', async (t) => {
  const cache = await BlockCache.open(t.context.directory, { limit: MIN_LIMIT });
  const layers = [49, 50].map((seed) => randomLayer(seed, 24 << 20, BLOCK)) as [TestLayer, TestLayer];
  const images = [
    await imageOf(cache, 'there', [layers[0]]),
    await imageOf(cache, 'gone', [layers[1]]),
  ] as const;
  for (const [i, image] of images.entries()) await (await use(cache, image, [layers[i]!]))();
  const hex = digestOf(layers[0].digests.encode()).slice('sha256:'.length);
  const path = join(t.context.directory, 'layers', hex);
  const options = {
    dataPath: `${path}.data`,
    mapPath: `${path}.map`,
    size: layers[0].digests.size,
    blockSize: BLOCK,
  };
  const script = `
    import { addon } from ${JSON.stringify(new URL('../../src/native/addon.js', import.meta.url).href)};
    globalThis.file = new addon.BlockFile(${JSON.stringify(options)});
    console.log('open');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await once(child.stdout, 'data');
    t.deepEqual(await cache.images.evictable(), [images[1].manifestDigest]);
    await cache.images.remove(images[0].manifestDigest);
    await cache.images.begin(images[0]).then((end) => end());
    // The one that was used last goes first.
    await cache.eviction.free(20 << 20);
    const sizes = new Map((await cache.images.usage()).map(({ name, bytes }) => [name, bytes]));
    t.true(sizes.get('there')! >= 24 << 20);
    t.true((sizes.get('gone') ?? 0) < 8 << 20);
    await cache.eviction.free(20 << 20);
    t.true((await cache.images.usage()).find(({ name }) => name === 'there')!.bytes < 24 << 20);
  } finally {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
  await cache.images.remove(images[0].manifestDigest);
  t.is(cache.bytesOf(`sha256:${hex}`), 0, 'the process has gone');
  cache.close();
});
