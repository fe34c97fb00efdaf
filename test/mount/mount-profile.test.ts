import { execFile } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import test from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { mountImage } from '../../src/mount/mount.js';
import { FileSource } from '../../src/source/file-source.js';
import { loadImage } from '../../src/source/remote-image.js';
import { FaultSource } from '../cache/layer-fixture.js';
import { addImage, content } from '../source/store-fixture.js';

const run = promisify(execFile);

test('what one mount reads is fetched by the next before anybody asks, unless the profile is damaged or unwanted', async (t) => {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'orca-mount-profile-')));
  const store = join(directory, 'store');
  const files = {
    one: content('one', 900_000),
    two: content('two', 400_000),
    three: content('three', 700_000),
  };
  const image = await addImage(store, 'app:1', [files]);
  const mountpoint = join(directory, 'mnt');
  await mkdir(mountpoint);

  /** Bytes that were fetched by a mount on an empty cache, and the profile that it left. */
  const fetched = async (name: string, paths: readonly string[], profile?: boolean) => {
    const cache = await BlockCache.open(join(directory, name));
    const source = new FaultSource('share', image.layers);
    const mount = await mountImage({
      image: await loadImage(new FileSource(store), 'app:1', cache.directory),
      sources: [source],
      cache,
      mountpoint,
      ...(profile === false && { profiles: 'off' as const }),
    });
    for (const path of paths) await run('cat', [join(mountpoint, path)], { maxBuffer: 1 << 26 });
    await sleep(200);
    const bytes = cache.scheduler.stats.bytesFetched;
    const misses = mount.stats().session.readMisses;
    await mount.unmount();
    cache.close();
    return { bytes, misses };
  };
  const withProfilesOf = async (from: string, to: string) => {
    await mkdir(join(directory, to));
    await cp(join(directory, from, 'profiles'), join(directory, to, 'profiles'), { recursive: true });
    return join(directory, to, 'profiles');
  };
  try {
    const first = await fetched('first', ['two']);
    t.true(first.bytes >= 400_000 && first.misses > 0);
    await withProfilesOf('first', 'second');
    const second = await fetched('second', []);
    t.is(second.bytes, first.bytes);
    await withProfilesOf('first', 'unwanted');
    t.is((await fetched('unwanted', [], false)).bytes, 0);
    const damaged = await withProfilesOf('first', 'damaged');
    const [file] = await readdir(damaged);
    await writeFile(join(damaged, file!), 'no profile');
    t.is((await fetched('damaged', [])).bytes, 0);
  } finally {
    await rm(directory, { recursive: true });
  }
});
