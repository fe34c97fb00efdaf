import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { adoptMount, mountImage } from '../../src/mount/mount.js';
import { duplicate } from '../../src/native/supervision.js';
import { FileSource } from '../../src/source/file-source.js';
import { loadImage } from '../../src/source/remote-image.js';
import { addImage, content } from '../source/store-fixture.js';

test('the rest of an image is fetched in the background, and goes on with whoever adopts the mount', async (t) => {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'orca-mount-background-')));
  t.teardown(() => rm(directory, { recursive: true }));
  const store = join(directory, 'store');
  await addImage(store, 'app:1', [{ file: content('file', 3_000_000) }]);
  const mountpoint = join(directory, 'mnt');
  await mkdir(mountpoint);
  const cache = await BlockCache.open(join(directory, 'cache'), { idleShare: () => 1 });
  const options = {
    image: await loadImage(new FileSource(store), 'app:1', cache.directory),
    sources: [new FileSource(store)],
    cache,
    mountpoint,
    background: 1e9,
    profiles: 'off' as const,
  };
  let kept = -1;
  const first = await mountImage({
    ...options,
    onDescriptor: (fd) => {
      kept = duplicate(fd);
    },
  });
  await first.close();
  t.is(cache.scheduler.stats.blocksFetched, 0, 'not at once, and not after the end');
  const second = await adoptMount({ ...options, fd: kept });
  const isThere = () => second.stats().layers.every(({ blocks, blocksPresent }) => blocks === blocksPresent);
  while (!isThere()) await sleep(50);
  t.is(second.stats().session.bytesRead, 0);
  await second.unmount();
  cache.close();
});
