/** From the host that records a startup profile, by way of the registry, to one that has never seen the image. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { StartupProfile } from '../../src/cache/startup-profile.js';
import { type MountSettings, mountImage } from '../../src/mount/mount.js';
import { openImage } from '../../src/mount/open-image.js';
import { digestOf } from '../../src/oci/digest.js';
import type { Descriptor } from '../../src/oci/manifest.js';
import { tarOf } from '../oci/tar-file.js';
import { expansionOf, layerOf, pushImage, settled } from '../registry/expansion/images.js';
import { json, TestRegistry } from '../registry/server-fixture.js';
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
  { tag = 'v1', ...settings }: MountSettings & { tag?: string },
  use: (mountpoint: string, mounted: Awaited<ReturnType<typeof mountImage>>, cache: BlockCache) => Promise<T>,
): Promise<T> {
  const cache = await BlockCache.open(join(directory, name));
  const mountpoint = join(directory, `mnt-${name}`);
  await mkdir(mountpoint);
  const request = {
    image: `${registry.host}/team/app:${tag}`,
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

test.serial('a replay waits for whoever has something to do first', async (t) => {
  const place = await start(t);
  await onHost(place, 'first', { profiles: 'share' }, (mountpoint) => read(mountpoint, 'two'));
  await onHost(place, 'second', { replayAfter: 3_600_000 }, async (mountpoint, mount) => {
    await read(mountpoint, 'two');
    const { readMisses, preload } = mount.stats().session;
    t.true(readMisses > 0);
    t.is(preload?.taken ?? 0, 0);
    mount.replay();
    while ((mount.stats().session.preload?.pages ?? 0) < 171) await sleep(10);
    t.is(mount.stats().session.readMisses, readMisses);
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

test.serial(
  'a new version, whose layers are all others, starts with the profile of the last one',
  async (t) => {
    const place = await start(t);
    const { registry } = place;
    await onHost(place, 'first', { profiles: 'share' }, (mountpoint) => read(mountpoint, 'two'));
    const tar = tarOf([
      { name: 'one', content: content('changed', 900_000) },
      { name: 'three', content: content('three', 300_000) },
      { name: 'two', content: content('two', 700_000) },
    ]);
    const layer = { blob: gzipSync(tar), diffID: digestOf(tar) };
    const digest = await pushImage(registry, 'team/app', 'v2', [layer]);
    await settled(expansionOf(registry.registry), 'team/app', digest);
    const described = async () =>
      json(await registry.send('GET', `/mount/v1/team/app/_manifests/${digest}`)) as {
        profile?: Descriptor;
        earlierProfile?: Descriptor;
      };
    t.truthy((await described()).earlierProfile);

    await onHost(place, 'second', { profiles: 'share', tag: 'v2' }, async (mountpoint, mount, cache) => {
      while ((mount.stats().session.preload?.pages ?? 0) < 171) await sleep(10);
      const { stdout } = await read(mountpoint, 'two');
      t.true(stdout.equals(content('two', 700_000)));
      t.is(mount.stats().session.readMisses, 0);
      t.is(cache.scheduler.stats.blocksWanted, 0);
      // `two` and what shares its first block; not what lies before.
      t.true(mount.stats().layers[0]!.blocksPresent <= 8, 'nothing else is fetched');
      await read(mountpoint, 'three');
    });

    // What it has published is the new version's own.
    const { profile, earlierProfile } = await described();
    t.is(earlierProfile, undefined);
    const blob = await registry.send('GET', `/v2/team/app/blobs/${profile!.digest}`);
    const own = StartupProfile.decode(blob.body);
    t.deepEqual(own.layers, [layer.diffID]);
    t.deepEqual(
      [...new Set(own.steps.filter(({ kind }) => kind === 'pages').map(({ path }) => path))].sort(),
      ['three', 'two'],
    );
  },
);
