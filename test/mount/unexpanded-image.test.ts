import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { openUnexpandedImage } from '../../src/mount/unexpanded-image.js';
import { Random } from '../image/random.js';
import { chunksOf, expand } from '../layer/layers.js';
import { archive, member } from '../tar/archive.js';
import { type Host, startHost, stopHost } from './host.js';

const test = anyTest as TestFn<Host>;

test.beforeEach(async (t) => {
  t.context = await startHost();
});

test.afterEach.always((t) => stopHost(t.context));

const BASE = archive(
  member({ name: 'bin/', type: '5' }),
  member({ name: 'bin/tool' }, new Random(1).bytes(400_000)),
  member({ name: 'etc/old' }, 'old'),
);
const TOP = archive(member({ name: 'etc/.wh.old' }), member({ name: 'app' }, new Random(2).bytes(900_000)));

function open(t: ExecutionContext<Host>, manifestDigest: string, cache = t.context.cache) {
  const { client, registry } = t.context;
  return openUnexpandedImage({ repository: client.repository(registry.app), manifestDigest, cache });
}

/** The layer VHDs as the cache has them; undefined for a block that is missing. */
async function cachedVhds(t: ExecutionContext<Host>, opened: Awaited<ReturnType<typeof open>>) {
  const vhds: (Buffer | undefined)[] = [];
  for (const { digests } of opened.image.devices) {
    const lease = await t.context.cache.openLayer(digests, []);
    const { blockFile } = lease.layer;
    const blocks = Array.from({ length: digests.count }, (_, block) => block);
    const isWhole = blocks.every((block) => blockFile.has(block));
    vhds.push(
      isWhole ? Buffer.concat(await Promise.all(blocks.map((block) => blockFile.read(block)))) : undefined,
    );
    await lease.close();
  }
  return vhds;
}

test('an image that nobody expanded is expanded into the cache, block for block', async (t) => {
  const { registry, cache } = t.context;
  const { digest } = registry.addImage('1', [gzipSync(BASE), gzipSync(TOP)]);
  const opened = await open(t, digest);
  t.is(opened.image.manifestDigest, digest);
  t.is(opened.sources[0]?.kind, 'blob');
  t.regex(opened.served, /has not expanded it/);
  const expected = await Promise.all([BASE, TOP].map(async (tar) => (await expand(chunksOf(tar))).vhd));
  t.deepEqual(await cachedVhds(t, opened), expected);
  t.true(cache.eviction.used >= 1_300_000);
  // What is evicted comes from the blob again.
  const [device] = opened.image.devices;
  const handle = await opened.sources[0]?.openLayer(device?.diffID ?? '');
  t.deepEqual(await handle?.read(0, device?.size ?? 0), expected[0]);
  t.deepEqual(await readdir(join(cache.directory, 'expanded', 'tmp')), []);
  await opened.close();
});

test('a layer is downloaded and expanded once, for openings at once and for other images', async (t) => {
  const { registry } = t.context;
  const [base, top] = [gzipSync(BASE), gzipSync(TOP)];
  const first = registry.addImage('1', [base, top]);
  const second = registry.addImage('2', [base]);
  const images = await Promise.all([open(t, first.digest), open(t, first.digest), open(t, second.digest)]);
  const { layers } = JSON.parse(Buffer.from(registry.manifests.get(first.digest)?.bytes ?? '').toString());
  for (const { digest } of layers) t.is(registry.seen(digest).length, 1);
  const again = await open(t, first.digest);
  for (const { digest } of layers) t.is(registry.seen(digest).length, 1);
  t.deepEqual(
    again.image.devices.map(({ diffID }) => diffID),
    images[0]?.image.devices.map(({ diffID }) => diffID),
  );
  for (const image of [...images, again]) await image.close();
});

test('layers are merged once, and again when what came of it is gone or spoilt', async (t) => {
  const { registry, cache } = t.context;
  const { digest } = registry.addImage('1', [gzipSync(BASE), gzipSync(TOP)]);
  const opened = await open(t, digest);
  const directory = join(cache.directory, 'expanded');
  const records = (await readdir(directory)).filter((name) => name.endsWith('.image.json'));
  t.is(records.length, 1);
  const record = join(directory, records[0] as string);
  const { ino } = await stat(record);
  const index = await readFile(opened.image.indexPath);
  const again = await open(t, digest);
  t.is((await stat(record)).ino, ino);
  t.is(again.image.indexPath, opened.image.indexPath);
  for (const spoil of [() => rm(opened.image.indexPath), () => writeFile(record, '{')]) {
    await spoil();
    await (await open(t, digest)).close();
    t.true((await readFile(opened.image.indexPath)).equals(index));
    t.regex(await readFile(record, 'utf8'), /"artifact"/);
  }
  for (const image of [opened, again]) await image.close();
});

test('blocks that the cache has already stay, and the missing ones are added', async (t) => {
  const { registry, cache } = t.context;
  const { digests, vhd } = await expand(chunksOf(BASE));
  const lease = await cache.openLayer(digests, []);
  await lease.layer.blockFile.put(1, vhd.subarray(131_072, 262_144));
  const { digest } = registry.addImage('1', [gzipSync(BASE)]);
  const opened = await open(t, digest);
  t.is(lease.layer.blockFile.count(), digests.count);
  await lease.close();
  t.deepEqual(await cachedVhds(t, opened), [vhd]);
  await opened.close();
});

test('a layer that is damaged, or no tar, fails the opening and leaves nothing behind', async (t) => {
  const { registry, cache } = t.context;
  const blob = gzipSync(TOP);
  const { digest } = registry.addImage('1', [gzipSync(BASE), blob]);
  const { layers } = JSON.parse(Buffer.from(registry.manifests.get(digest)?.bytes ?? '').toString());
  const damaged = Buffer.from(blob);
  damaged[blob.length >> 1] = (damaged[blob.length >> 1] as number) ^ 0xff;
  registry.blobs.set(layers[1].digest, damaged);
  const error = await t.throwsAsync<Error & { code?: string }>(open(t, digest));
  t.is(error?.code, 'DIGEST_MISMATCH');
  t.deepEqual(await readdir(join(cache.directory, 'expanded', 'tmp')), []);
  registry.blobs.set(layers[1].digest, blob);
  await (await open(t, digest)).close();
});
