import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { StartupProfile } from '../../src/cache/startup-profile.js';
import { type Mount, mountImage } from '../../src/mount/mount.js';
import { FileSource } from '../../src/source/file-source.js';
import { loadImage } from '../../src/source/remote-image.js';
import { FaultSource } from '../cache/layer-fixture.js';
import { addImage, content, type Files } from '../source/store-fixture.js';
import { preloaded, step } from './preload-steps.js';

const run = promisify(execFile);

const ATTRIBUTES = { mode: 0o777, uid: 0, gid: 0, mtime: 0n, xattrs: new Map<string, Uint8Array>() };

const FILES: Files = {
  'usr/lib/one': content('one', 900_000),
  'usr/lib/two': content('two', 5_000),
  'etc/conf.d/a': content('a', 10),
  'etc/conf.d/b': content('b', 10),
  link: { kind: 'symlink', target: 'usr/lib/two', ...ATTRIBUTES },
  pipe: { kind: 'fifo', major: 0, minor: 0, ...ATTRIBUTES },
};

class Place {
  readonly mountpoint: string;

  private constructor(
    private readonly directory: string,
    private readonly image: Awaited<ReturnType<typeof addImage>>,
  ) {
    this.mountpoint = join(directory, 'mnt');
  }

  static async make(t: ExecutionContext): Promise<Place> {
    const directory = await realpath(await mkdtemp(join(tmpdir(), 'orca-mount-preload-')));
    t.teardown(() => rm(directory, { recursive: true }));
    const place = new Place(directory, await addImage(join(directory, 'store'), 'app:1', [FILES]));
    await mkdir(place.mountpoint);
    return place;
  }

  get digest(): string {
    return this.image.manifestDigest;
  }

  get layers(): string[] {
    return this.image.layers.map(({ digests }) => digests.diffID);
  }

  /** A mount on a cache that has this profile. `slow`: no source ever answers. */
  async mounted(
    name: string,
    { profile, slow = false, preload }: { profile?: StartupProfile; slow?: boolean; preload?: boolean } = {},
  ): Promise<{ mount: Mount; cache: BlockCache; source: FaultSource }> {
    const cache = await BlockCache.open(join(this.directory, name));
    if (profile !== undefined) await cache.profiles.write(this.digest, profile.encode());
    const source = new FaultSource('share', this.image.layers);
    if (slow) source.plan = () => 'stall';
    const mount = await mountImage({
      image: await loadImage(new FileSource(join(this.directory, 'store')), 'app:1', cache.directory),
      sources: [source],
      cache,
      mountpoint: this.mountpoint,
      ...(preload === undefined ? {} : { preload }),
    });
    return { mount, cache, source };
  }
}

test.serial(
  'what one container asked for the kernel has in the next mount before anybody asks',
  async (t) => {
    const place = await Place.make(t);
    const { mountpoint } = place;
    const use = async () => {
      await run('cat', [join(mountpoint, 'link'), join(mountpoint, 'usr/lib/one')], { maxBuffer: 1 << 24 });
      await run('ls', ['-l', join(mountpoint, 'etc/conf.d')]);
      await t.throwsAsync(run('cat', [join(mountpoint, 'usr/lib/three')]));
    };
    const first = await place.mounted('cache-a');
    await use();
    await first.mount.unmount();
    const profile = await first.cache.profiles.read(place.digest);
    const kinds = new Map<string, string[]>();
    for (const { kind, path } of profile!.steps) kinds.set(kind, [...(kinds.get(kind) ?? []), path]);
    t.true(kinds.get('name')?.includes('usr/lib/one'));
    t.deepEqual(kinds.get('absent'), ['usr/lib/three']);
    t.true(kinds.get('listing')?.includes('etc/conf.d'));
    t.deepEqual(kinds.get('link'), ['link']);
    t.deepEqual([...new Set(kinds.get('pages'))].sort(), ['usr/lib/one', 'usr/lib/two']);

    const second = await place.mounted('cache-b', { profile: profile! });
    await preloaded(second.mount, profile!.steps.length);
    t.is(second.mount.stats().session.preload?.passedOver, 0);
    // The READs that were asked for ahead may still be on their way.
    while (second.mount.stats().session.bytesRead < 905_000) await sleep(10);
    const before = second.mount.stats().session.requests;
    await use();
    const after = second.mount.stats().session.requests;
    for (const name of ['LOOKUP', 'READ', 'READLINK', 'READDIR', 'READDIRPLUS'])
      t.is(after[name], before[name], `no ${name} is left to be asked`);
    t.is(second.mount.stats().session.readMisses, 0);
    await second.mount.unmount();
    // A run in which all was there ahead adds nothing.
    t.is((await second.cache.profiles.read(place.digest))?.runs, 1);

    const third = await place.mounted('cache-c', { profile: profile!, preload: false });
    t.is(third.mount.stats().session.preload, undefined);
    await third.mount.unmount();
  },
);

test.serial(
  'a hostile profile reaches nothing outside the image, and does not wait for a pipe',
  async (t) => {
    const place = await Place.make(t);
    const steps = [
      step('pages', 'pipe'),
      step('listing', 'pipe'),
      step('link', 'usr/lib/one'),
      step('pages', 'link/x'),
      step('pages', 'usr/lib/two', 4_000_000, 4_000),
      step('pages', 'etc/../usr/lib/two'),
      step('name', 'nothing/here'),
      step('absent', 'usr/lib/one'),
      step('pages', 'usr/lib/two', 0, 1_000),
    ];
    const { mount } = await place.mounted('cache', {
      profile: StartupProfile.record([], place.layers, steps),
    });
    // The pages of `two` come when somebody has read it.
    t.deepEqual(await readFile(join(place.mountpoint, 'usr/lib/two')), FILES['usr/lib/two'] as Buffer);
    await preloaded(mount, steps.length - 1);
    const { taken, passedOver, pages } = mount.stats().session.preload!;
    t.deepEqual({ taken, passedOver, pages }, { taken: 1, passedOver: 7, pages: 2 });
    await mount.unmount();
  },
);

for (const how of ['unmount', 'close', 'umount(8)'] as const) {
  test.serial(`${how} while the walk waits for blocks that never come ends the mount`, async (t) => {
    const place = await Place.make(t);
    const profile = StartupProfile.record([{ device: 0, block: 0, time: 0 }], place.layers, [
      step('name', 'usr'),
      step('pages', 'usr/lib/one', 0, 200),
    ]);
    const { mount } = await place.mounted('cache', { profile, slow: true });
    await preloaded(mount, 1);
    t.is(mount.stats().session.preload?.pages, 0);
    if (how === 'unmount') await mount.unmount();
    else if (how === 'umount(8)') await run('umount', [place.mountpoint]);
    else {
      await run('umount', ['--lazy', place.mountpoint]);
      await mount.close();
    }
    await mount.ended;
    t.false((await readFile('/proc/self/mounts', 'utf8')).includes(place.mountpoint));
  });
}
