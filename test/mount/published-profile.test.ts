/** From the host that records a startup profile, by way of the registry, to one that has never seen the image. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { type MountSettings, mountImage } from '../../src/mount/mount.js';
import { openImage } from '../../src/mount/open-image.js';
import { expansionOf, layerOf, pushImage, settled } from '../registry/expansion/images.js';
import { TestRegistry } from '../registry/server-fixture.js';
import { content } from '../source/store-fixture.js';

const run = promisify(execFile);

async function start(t: ExecutionContext): Promise<{ registry: TestRegistry; directory: string }> {
  const registry = await TestRegistry.start({ expansion: { workers: 1 } });
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'orca-published-')));
  t.teardown(async () => {
    await registry.stop();
    await rm(directory, { recursive: true });
  });
  const layers = [layerOf('one', content('one', 900_000)), layerOf('two', content('two', 700_000))];
  const digest = await pushImage(registry, 'team/app', 'v1', layers);
  await settled(expansionOf(registry.registry), 'team/app', digest);
  return { registry, directory };
}

/** A host with a cache of its own, which nothing is in. */
async function onHost<T>(
  { registry, directory }: { registry: TestRegistry; directory: string },
  name: string,
  settings: MountSettings,
  use: (mountpoint: string, mounted: Awaited<ReturnType<typeof mountImage>>, cache: BlockCache) => Promise<T>,
): Promise<T> {
  const cache = await BlockCache.open(join(directory, name));
  const mountpoint = join(directory, `mnt-${name}`);
  await mkdir(mountpoint);
  const request = {
    image: `${registry.host}/team/app:v1`,
    transports: ['https' as const],
    registry: { insecure: [registry.host] },
  };
  const opened = await openImage(request, cache);
  const mount = await mountImage({ ...opened, cache, mountpoint, ...settings });
  try {
    return await use(mountpoint, mount, cache);
  } finally {
    await mount.unmount();
    await opened.close();
    cache.close();
  }
}

const read = (mountpoint: string, name: string) =>
  run('cat', [join(mountpoint, name)], { maxBuffer: 1 << 24, encoding: 'buffer' });

test.serial('what the first host shares, the second fetches before anybody asks', async (t) => {
  const place = await start(t);
  await onHost(place, 'first', { profiles: 'share' }, (mountpoint) => read(mountpoint, 'two'));
  await onHost(place, 'second', {}, async (mountpoint, mount, cache) => {
    while ((mount.stats().session.preload?.pages ?? 0) < 171) await sleep(10);
    const { stdout } = await read(mountpoint, 'two');
    t.true(stdout.equals(content('two', 700_000)));
    const { session, layers } = mount.stats();
    t.is(session.readMisses, 0);
    t.is(layers[0]?.blocksPresent, 0, 'nothing else is fetched');
    t.is(cache.scheduler.stats.blocksWanted, 0);
  });
});

test.serial('what a host keeps to itself, or has not recorded, others do not know', async (t) => {
  const place = await start(t);
  await onHost(place, 'first', { profiles: 'keep' }, (mountpoint) => read(mountpoint, 'two'));
  await onHost(place, 'second', { profiles: 'off' }, (mountpoint) => read(mountpoint, 'two'));
  await onHost(place, 'third', {}, async (_, mount, cache) => {
    await sleep(300);
    t.is(mount.stats().session.preload, undefined);
    t.is(cache.scheduler.stats.blocksPrefetched, 0);
  });
});
