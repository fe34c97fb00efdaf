/** What stands before the landmark of an eStargz layer: the files that its image was optimized for. */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { BLOCK_SIZE } from '../../src/erofs/tree.js';
import { DEFAULT_BLOCK_SIZE } from '../../src/layer/block-digests.js';
import { type Mount, type MountSettings, mountImage } from '../../src/mount/mount.js';
import { openUnexpandedImage } from '../../src/mount/unexpanded-image.js';
import { Random } from '../image/random.js';
import { member } from '../tar/archive.js';
import { addEstargzImage, type Host, startHost, stopHost } from './host.js';

const test = anyTest as TestFn<Host>;

test.beforeEach(async (t) => {
  t.context = await startHost();
});

test.afterEach.always((t) => stopHost(t.context));

const WANTED = new Random(1).bytes(700_000);
const OTHER = new Random(2).bytes(900_000);
const LANDMARK = member({ name: '.prefetch.landmark' }, '\x0f');
const FRONT = BLOCK_SIZE + Math.ceil(WANTED.length / BLOCK_SIZE) * BLOCK_SIZE;

function open({ client, registry, cache }: Host, manifestDigest: string) {
  return openUnexpandedImage({ repository: client.repository(registry.app), manifestDigest, cache });
}

async function mounted(
  t: ExecutionContext<Host>,
  manifestDigest: string,
  settings: MountSettings,
  use: (mount: Mount) => Promise<void>,
): Promise<void> {
  const { cache, directory } = t.context;
  const mountpoint = join(directory, 'mnt');
  await mkdir(mountpoint, { recursive: true });
  const opened = await open(t.context, manifestDigest);
  const mount = await mountImage({ ...opened, cache, mountpoint, ...settings });
  try {
    await use(mount);
  } finally {
    await mount.unmount();
    await opened.close();
  }
}

const present = (mount: Mount) => mount.stats().layers[0]?.blocksPresent ?? 0;

test('its end in the VHD is known, from the table and from what the host has kept of it', async (t) => {
  const digest = addEstargzImage(t.context, [
    member({ name: 'w' }, WANTED),
    LANDMARK,
    member({ name: 'o' }, OTHER),
  ]);
  for (let times = 0; times < 2; times++) {
    const { image, close } = await open(t.context, digest);
    t.deepEqual(image.fronts, [{ diffID: image.devices[0]?.diffID ?? '', bytes: FRONT }]);
    await close();
  }
});

test('there is none without a landmark, and none where nothing stands before it', async (t) => {
  const none = member({ name: '.no.prefetch.landmark' }, '\x0f');
  for (const first of [[], [none], [LANDMARK]]) {
    const { image, close } = await open(
      t.context,
      addEstargzImage(t.context, [...first, member({ name: 'o' }, OTHER)]),
    );
    t.deepEqual(image.fronts, []);
    await close();
  }
});

test.serial('it is fetched before anybody asks, and nothing behind it', async (t) => {
  const digest = addEstargzImage(t.context, [
    member({ name: 'w' }, WANTED),
    LANDMARK,
    member({ name: 'o' }, OTHER),
  ]);
  const blocks = Math.ceil(FRONT / DEFAULT_BLOCK_SIZE);
  await mounted(t, digest, {}, async (mount) => {
    while (present(mount) < blocks) await sleep(10);
    t.true((await readFile(join(mount.mountpoint, 'w'))).equals(WANTED));
    const { session } = mount.stats();
    t.is(session.readMisses, 0);
    t.is(present(mount), blocks);
  });
});

test.serial('where a startup profile is known, that says what comes first', async (t) => {
  const digest = addEstargzImage(t.context, [
    member({ name: 'w' }, WANTED),
    LANDMARK,
    member({ name: 'o' }, OTHER),
  ]);
  const { cache, directory } = t.context;
  await mounted(t, digest, {}, async (mount) => {
    t.true((await readFile(join(mount.mountpoint, 'o'))).equals(OTHER));
  });
  const profile = await cache.profiles.read(digest);
  const blocks = profile?.entries.reduce((sum, { count }) => sum + count, 0) ?? 0;
  t.true(blocks >= Math.floor(OTHER.length / DEFAULT_BLOCK_SIZE));
  cache.close();
  t.context.cache = await BlockCache.open(join(directory, 'other-cache'), { limit: 256 << 20 });
  await t.context.cache.profiles.write(digest, profile?.encode() ?? Buffer.of());
  await mounted(t, digest, {}, async (mount) => {
    while (present(mount) < blocks) await sleep(10);
    t.true((await readFile(join(mount.mountpoint, 'o'))).equals(OTHER));
    t.is(present(mount), blocks);
  });
});

test.serial('without the use of profiles nothing is fetched that nobody has asked for', async (t) => {
  const digest = addEstargzImage(t.context, [
    member({ name: 'w' }, WANTED),
    LANDMARK,
    member({ name: 'o' }, OTHER),
  ]);
  await mounted(t, digest, { profiles: 'off' }, async (mount) => {
    t.true((await readFile(join(mount.mountpoint, 'o'))).equals(OTHER));
    // Not even a block of the front but the last one, which the other file begins in.
    const blocks = mount.stats().layers[0]?.blocks ?? 0;
    t.true(present(mount) <= blocks - Math.floor(FRONT / DEFAULT_BLOCK_SIZE));
  });
});
