import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { BlockCache, type LayerLease, MIN_LIMIT } from '../../src/cache/block-cache.js';
import { CacheError } from '../../src/cache/cache-error.js';
import { MNT_DETACH } from '../../src/mount/mount-point.js';
import { mountAt } from '../../src/mount/mount-table.js';
import { addon } from '../../src/native/addon.js';
import { FaultSource, randomLayer, type TestLayer } from './layer-fixture.js';

const test = anyTest as TestFn<{ directory: string }>;

const BLOCK = 128 << 10;

test.beforeEach(async (t) => {
  t.context = { directory: await mkdtemp(join(tmpdir(), 'orca-block-cache-')) };
});

test.afterEach.always(async (t) => {
  if ((await mountAt(t.context.directory)) !== undefined) addon.umount(t.context.directory, MNT_DETACH);
  await rm(t.context.directory, { recursive: true });
});

/** Demands blocks until all are there, as the misses of readers do. */
async function fill(cache: BlockCache, { layer }: LayerLease, first: number, count: number): Promise<void> {
  for (let block = first; block < first + count; block++) {
    if (layer.blockFile.has(block)) continue;
    cache.scheduler.demand(layer, block, 1);
    if (block % 8 === 7) await idle(layer);
  }
  await idle(layer);
}

async function idle(layer: LayerLease['layer']): Promise<void> {
  while (layer.wants.size > 0 || layer.running.size > 0) await new Promise(setImmediate);
}

async function isRight({ layer }: LayerLease, { bytes }: TestLayer, block: number): Promise<boolean> {
  const expected = bytes.subarray(block * BLOCK, (block + 1) * BLOCK);
  return layer.blockFile.has(block) && expected.equals(await layer.blockFile.read(block));
}

test('blocks are fetched into the files of the layer and are there after a restart', async (t) => {
  const content = randomLayer(1, 20 * BLOCK + 512, BLOCK);
  const source = new FaultSource('a', [content]);
  for (const reads of [3, 3]) {
    const cache = await BlockCache.open(t.context.directory);
    const lease = await cache.openLayer(content.digests, [source]);
    await fill(cache, lease, 0, 21);
    t.true(await isRight(lease, content, 0));
    t.true(await isRight(lease, content, 20));
    t.is(lease.layer.blockFile.count(), 21);
    await lease.close();
    cache.close();
    t.is(source.reads.length, reads);
  }
});

test('two mounts of one layer share its blocks and what is on its way', async (t) => {
  const content = randomLayer(2, 8 * BLOCK, BLOCK);
  const source = new FaultSource('a', [content]);
  const cache = await BlockCache.open(t.context.directory);
  const one = await cache.openLayer(content.digests, [source]);
  const two = await cache.openLayer(content.digests, [source]);
  t.is(one.layer, two.layer);
  t.is(one.layer.sources.length, 1);
  cache.scheduler.demand(one.layer, 3, 1);
  cache.scheduler.demand(two.layer, 3, 1);
  await idle(one.layer);
  t.is(source.reads.length, 1);

  await one.close();
  await fill(cache, two, 0, 8);
  t.is(two.layer.blockFile.count(), 8);
  await two.close();
  await two.close();
  cache.close();
});

test('the sources of a mount leave the layer with it', async (t) => {
  const content = randomLayer(3, 8 * BLOCK, BLOCK);
  const [first, second] = [new FaultSource('first', [content]), new FaultSource('second', [content])];
  const cache = await BlockCache.open(t.context.directory);
  const one = await cache.openLayer(content.digests, [first]);
  const two = await cache.openLayer(content.digests, [second]);
  await fill(cache, one, 0, 1);
  await one.close();
  await fill(cache, two, 1, 1);
  t.deepEqual([first.reads.length, second.reads.length], [1, 1]);
  t.is(first.closed, 1);
  await two.close();
  cache.close();
});

test('a layer closed and opened again at once is whole', async (t) => {
  const content = randomLayer(4, 8 * BLOCK, BLOCK);
  const source = new FaultSource('a', [content]);
  const cache = await BlockCache.open(t.context.directory);
  const one = await cache.openLayer(content.digests, [source]);
  await fill(cache, one, 0, 8);
  const [, two] = await Promise.all([one.close(), cache.openLayer(content.digests, [source])]);
  t.is(two.layer.blockFile.count(), 8);
  t.false(two.layer.closed);
  await two.close();
  cache.close();
});

test('other block digests for the same diffID get files of their own', async (t) => {
  const content = randomLayer(5, 8 * BLOCK, BLOCK);
  const encoded = Buffer.from(content.digests.encode());
  encoded.fill(0, 64, 96);
  const { BlockDigests } = await import('../../src/layer/block-digests.js');
  const forged = BlockDigests.decode(encoded);
  t.is(forged.diffID, content.digests.diffID);
  const source = new FaultSource('a', [content]);
  const cache = await BlockCache.open(t.context.directory);
  const right = await cache.openLayer(content.digests, [source]);
  const wrong = await cache.openLayer(forged, [source]);
  await fill(cache, right, 0, 8);
  t.is(right.layer.blockFile.count(), 8);
  t.is(wrong.layer.blockFile.count(), 0);
  await right.close();
  await wrong.close();
  cache.close();
});

test('the cache stays under its limit while more than the limit is read, and what is there is right', async (t) => {
  const limit = MIN_LIMIT;
  const content = randomLayer(6, 120 << 20, BLOCK);
  const source = new FaultSource('a', [content]);
  const cache = await BlockCache.open(t.context.directory, { limit });
  const lease = await cache.openLayer(content.digests, [source]);
  let most = 0;
  for (let first = 0; first < content.digests.count; first += 8) {
    await fill(cache, lease, first, 8);
    most = Math.max(most, lease.layer.blockFile.bytesOnDisk());
    t.true(await isRight(lease, content, first));
  }
  t.true(most <= limit, `${most}`);
  t.true(most > limit / 2, `${most}`);
  // Oldest first: the end of the layer is still there, its begin is not.
  t.true(lease.layer.blockFile.has(content.digests.count - 1));
  t.false(lease.layer.blockFile.has(0));
  await lease.close();
  cache.close();
});

test('layers that are not open go first, by the time of their last use', async (t) => {
  // Block digests count too.
  const limit = MIN_LIMIT + (1 << 20);
  const size = 20 << 20;
  const layers = [7, 8, 9, 10].map((seed) => randomLayer(seed, size, BLOCK));
  const source = new FaultSource('a', layers);
  const cache = await BlockCache.open(t.context.directory, { limit, readAhead: { openAfter: 0, most: 0 } });
  const count = async (content: TestLayer): Promise<number> => {
    const lease = await cache.openLayer(content.digests, []);
    const found = lease.layer.blockFile.count();
    await lease.close();
    return found;
  };
  const [a, b, c, d] = layers as [TestLayer, TestLayer, TestLayer, TestLayer];
  const open = await cache.openLayer(a.digests, [source]);
  await fill(cache, open, 0, a.digests.count);
  for (const content of [b, c]) {
    const lease = await cache.openLayer(content.digests, [source]);
    await fill(cache, lease, 0, content.digests.count);
    await lease.close();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  // The limit is reached in the middle of this one: of the two closed layers b is the older.
  const last = await cache.openLayer(d.digests, [source]);
  await fill(cache, last, 0, d.digests.count);
  t.is(open.layer.blockFile.count(), a.digests.count);
  t.is(last.layer.blockFile.count(), d.digests.count);
  t.true((await count(b)) < b.digests.count);
  t.is(await count(c), c.digests.count);
  await open.close();
  await last.close();
  cache.close();
});

test('bytes that are on their way count once, as promised or as on the disk', async (t) => {
  const cache = await BlockCache.open(t.context.directory, { limit: 1 << 30 });
  const content = randomLayer(13, 64 * BLOCK, BLOCK);
  const lease = await cache.openLayer(content.digests, [new FaultSource('a', [content])]);
  const used = async (): Promise<number> => {
    await cache.eviction.measure();
    return cache.eviction.used;
  };
  const empty = await used();
  const written = await lease.layer.makeRoom(0, 64, 64 * BLOCK);
  t.is((await used()) - empty, 64 * BLOCK);
  for (const block of [0, 1, 2, 63])
    await lease.layer.blockFile.put(block, content.bytes.subarray(block * BLOCK, (block + 1) * BLOCK));
  t.true(Math.abs((await used()) - empty - 64 * BLOCK) < BLOCK);
  written();
  t.true(Math.abs((await used()) - empty - 4 * BLOCK) < BLOCK);
  await lease.close();
  cache.close();
});

test('files of a layer whose block digests are gone are removed when room is needed', async (t) => {
  const { directory } = t.context;
  const cache = await BlockCache.open(directory, { limit: MIN_LIMIT });
  const orphan = join(directory, 'layers', `${'0'.repeat(64)}.data`);
  await writeFile(orphan, Buffer.alloc(50 << 20, 1));
  await cache.eviction.measure();
  t.true(cache.eviction.used >= 50 << 20);
  await cache.eviction.makeRoom(20 << 20);
  t.deepEqual(await readdir(join(directory, 'layers')), []);
  cache.close();
});

test('a directory on a disk that is read-only or full has a stand-in, and a warning says so', async (t) => {
  const { directory } = t.context;
  const content = randomLayer(11, 8 * BLOCK, BLOCK);
  const source = new FaultSource('a', [content]);
  for (const [options, refusal] of [
    ['ro,size=1m', 'EROFS'],
    ['size=16k', 'ENOSPC'],
  ] as const) {
    const log: string[] = [];
    const record = (line: string) => void log.push(line);
    const logger = { debug: record, info: record, warn: record, error: record };
    addon.mount('none', directory, 'tmpfs', options.startsWith('ro') ? 1 : 0, options.replace('ro,', ''));
    try {
      const cache = await BlockCache.open(directory, { logger });
      t.not(cache.directory, directory);
      t.is(log.length, 1);
      t.true(log[0]?.includes(`${directory} cannot be written (${refusal})`), log[0]);
      const lease = await cache.openLayer(content.digests, [source]);
      await fill(cache, lease, 0, 8);
      t.true(await isRight(lease, content, 7));
      await lease.close();
      cache.close();
      t.false(existsSync(cache.directory));
    } finally {
      addon.umount(directory, MNT_DETACH);
    }
  }
});

test('a disk that the cache itself has filled gives room back', async (t) => {
  const { directory } = t.context;
  const content = randomLayer(12, 100 << 20, BLOCK);
  const source = new FaultSource('a', [content]);
  addon.mount('none', directory, 'tmpfs', 0, 'size=80m');
  try {
    const cache = await BlockCache.open(directory, { limit: 1 << 30 });
    const lease = await cache.openLayer(content.digests, [source]);
    await fill(cache, lease, 0, content.digests.count);
    t.true(cache.scheduler.stats.blocksUncached > 0);
    await lease.close();
    cache.close();
    await t.throwsAsync(writeFile(join(directory, 'filler'), Buffer.alloc(1 << 20)), { code: 'ENOSPC' });
    const again = await BlockCache.open(directory, { limit: 1 << 30 });
    t.is(again.directory, directory);
    t.true(again.eviction.bytesEvicted >= 64 << 20);
    again.close();
  } finally {
    addon.umount(directory, MNT_DETACH);
  }
});

test('a limit that is too small, and a directory that cannot be one, are refused with the remedy', async (t) => {
  const { directory } = t.context;
  const small = await t.throwsAsync(BlockCache.open(directory, { limit: 1000 }), { instanceOf: CacheError });
  t.is(small?.code, 'INVALID_LIMIT');
  await writeFile(join(directory, 'file'), '');
  const error = await t.throwsAsync(BlockCache.open(join(directory, 'file')), { instanceOf: CacheError });
  t.is(error?.code, 'UNUSABLE');
  t.regex(error?.message ?? '', /--cache/);
});
