import { mkdir, mkdtemp, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import type { MountInfo, MountRequest } from '../../src/daemon/api.js';
import { DescriptorStore } from '../../src/daemon/descriptors.js';
import type { Keeping } from '../../src/daemon/image-mounts.js';
import { Mounts } from '../../src/daemon/mounts.js';
import { StateFile } from '../../src/daemon/state-file.js';
import { addImage, content } from '../source/store-fixture.js';

const FILE = content('file', 300_000);

/** The mounts of a daemon, without its process. */
class Rig {
  readonly directory: string;
  readonly cache: BlockCache;
  readonly mounts: Mounts;
  #containers = 0;

  private constructor(directory: string, cache: BlockCache, mounts: Mounts) {
    this.directory = directory;
    this.cache = cache;
    this.mounts = mounts;
  }

  static async open(t: ExecutionContext, keeping: Keeping): Promise<Rig> {
    const directory = await realpath(await mkdtemp(join(tmpdir(), 'orca-image-mounts-')));
    await addImage(join(directory, 'store'), 'app:1', [{ file: FILE }]);
    const cache = await BlockCache.open(join(directory, 'cache'));
    const state = await StateFile.open(join(directory, 'daemon'));
    const store = new DescriptorStore(undefined);
    const mounts = new Mounts({ cache, state, store, imageDirectory: join(directory, 'images'), keeping });
    t.teardown(async () => {
      await mounts.end();
      await state.save();
      cache.close();
      await rm(directory, { recursive: true });
    });
    return new Rig(directory, cache, mounts);
  }

  async start(order: Partial<MountRequest> = {}): Promise<MountInfo & { end(): Promise<void> }> {
    const id = `c${this.#containers++}`;
    const container = join(this.directory, 'containers', id);
    const mountpoint = join(container, 'image');
    await mkdir(mountpoint, { recursive: true });
    const request = { image: 'app:1', store: join(this.directory, 'store'), mountpoint, container, ...order };
    const info = await this.mounts.create(id, request, new AbortController().signal);
    return { ...info, end: () => this.mounts.removeBelow(container) };
  }

  images(): Promise<string[]> {
    return readdir(join(this.directory, 'images')).catch(() => []);
  }
}

test('a mount that nobody uses goes after a while, and not while somebody does', async (t) => {
  const rig = await Rig.open(t, { mounts: 16, milliseconds: 150 });
  const [one, two] = await Promise.all([rig.start(), rig.start()]);
  const [name] = await rig.images();
  await one.end();
  await sleep(400);
  t.deepEqual(await rig.images(), [name]);
  t.deepEqual(await readFile(join(two.mountpoint, 'file')), FILE);
  await two.end();
  while ((await rig.images()).length > 0) await sleep(10);
  // A mount namespace of another test may have a copy.
  while (rig.mounts.isServing) await sleep(10);
  const three = await rig.start();
  t.not((await rig.images())[0], name);
  t.deepEqual(await readFile(join(three.mountpoint, 'file')), FILE);
});

test('what is used again is no longer among those that go first', async (t) => {
  const rig = await Rig.open(t, { mounts: 2, milliseconds: 600_000 });
  const use = async (background: number) => {
    const before = await rig.images();
    await (await rig.start({ background })).end();
    return (await rig.images()).find((name) => !before.includes(name));
  };
  const [first, second] = [await use(1e6), await use(2e6)];
  t.is(await use(1e6), undefined);
  const third = await use(3e6);
  while ((await rig.images()).length > 2) await sleep(10);
  t.deepEqual((await rig.images()).sort(), [first, third].sort());
  t.false((await rig.images()).includes(second ?? ''));
});

test('of an image that is mounted no document is read again', async (t) => {
  const rig = await Rig.open(t, { mounts: 16, milliseconds: 600_000 });
  await (await rig.start()).end();
  const [blobs, index] = [
    join(rig.directory, 'cache/blobs/sha256'),
    rig.mounts.sessions()[0]?.record.image.index,
  ];
  for (const name of await readdir(blobs))
    if (`sha256:${name}` !== index?.digest) await rm(join(blobs, name));
  await rm(join(rig.directory, 'store/images/blobs'), { recursive: true });
  const [same, other] = [await rig.start(), await rig.start({ background: 1e6 })];
  t.is(rig.mounts.sessions().length, 2);
  for (const { mountpoint } of [same, other]) t.deepEqual(await readFile(join(mountpoint, 'file')), FILE);
});

test('a cache that needs all of its room gives up what nobody uses', async (t) => {
  const rig = await Rig.open(t, { mounts: 16, milliseconds: 600_000 });
  const { cache, mounts } = rig;
  cache.eviction.lastResort = () => mounts.giveUpShared();
  const [used, unused] = [await rig.start(), await rig.start({ background: 1e6 })];
  await readFile(join(used.mountpoint, 'file'));
  await unused.end();
  await cache.eviction.free(Number.POSITIVE_INFINITY);
  t.is((await rig.images()).length, 1);
  t.deepEqual(await readFile(join(used.mountpoint, 'file')), FILE);
  await used.end();
  await cache.eviction.free(Number.POSITIVE_INFINITY);
  t.deepEqual(await rig.images(), []);
  // A mount namespace of another test may have a copy, by which the image is in use.
  while (mounts.isServing) await sleep(10);
  await cache.eviction.free(Number.POSITIVE_INFINITY);
  t.deepEqual(await cache.images.usage(), []);
});

test('what cannot be mounted is told to all who wait for it, and leaves nothing', async (t) => {
  const rig = await Rig.open(t, { mounts: 16, milliseconds: 600_000 });
  await t.throwsAsync(rig.start({ image: 'other:1' }), { code: 'NOT_FOUND' });
  const container = join(rig.directory, 'containers/none');
  await t.throwsAsync(rig.start({ mountpoint: join(container, 'image'), container }), { code: 'NOT_FOUND' });
  t.deepEqual(rig.mounts.list(), []);
  t.is(rig.mounts.size, 0);
  const images = join(rig.directory, 'images');
  await writeFile(images, '');
  const failed = await Promise.allSettled([rig.start(), rig.start()]);
  t.deepEqual(
    failed.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  await rm(images);
  t.is(rig.mounts.size, 0);
  t.false(rig.mounts.isServing);
  const [one, two] = await Promise.all([rig.start(), rig.start()]);
  t.is(rig.mounts.sessions().length, 1);
  await Promise.all([one.end(), two.end()]);
});
