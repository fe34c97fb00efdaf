/** An image that its registry is still expanding: mounted at once from its blobs, and read from the share later. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { FileLock } from '../../src/image/lock.js';
import { mountImage } from '../../src/mount/mount.js';
import { openImage } from '../../src/mount/open-image.js';
import { haveServed } from '../mount/bytes-served.js';
import { expansionOf } from '../registry/expansion/images.js';
import { TestRegistry } from '../registry/server-fixture.js';
import { run } from './command.js';
import { freePort } from './free-port.js';
import { testImage } from './images.js';
import { ShareServer } from './share-server.js';

test('the host does not wait for the registry, and what it lacks later comes from the share', async (t) => {
  t.timeout(15 * 60_000);
  const work = await mkdtemp(join(tmpdir(), 'orca-expanding-'));
  t.teardown(() => rm(work, { recursive: true }));
  const port = await freePort();
  const registry = await TestRegistry.start({
    region: 'here',
    expansion: {},
    share: { url: `smb://127.0.0.1:${port}/orca-` },
  });
  t.teardown(() => registry.stop());
  const shares = await ShareServer.start(registry.data, port);
  t.teardown(() => shares.stop());

  const { directory, tag } = await testImage('nginx');
  const source = `oci:${directory}:${tag}`;
  const config = JSON.parse(await run('skopeo', ['inspect', '--config', source])) as {
    rootfs: { diff_ids: string[] };
  };
  // As another process that expands these layers and is not done.
  const locks = await Promise.all(
    config.rootfs.diff_ids.map((diffID) =>
      FileLock.acquire(join(registry.data, 'store/locks', `${diffID.slice('sha256:'.length)}.lock`)),
    ),
  );
  await run('skopeo', ['copy', '--dest-tls-verify=false', source, `docker://${registry.host}/nginx:1`]);

  const cache = await BlockCache.open(join(work, 'cache'), { limit: 2 ** 30 });
  const mountpoint = join(work, 'mnt');
  await mkdir(mountpoint);
  const opened = await openImage({ image: `${registry.host}/nginx:1`, region: 'here' }, cache);
  const mount = await mountImage({ ...opened, cache, mountpoint, profiles: 'off' });
  try {
    t.regex(
      opened.served,
      /^served by blobs of .*, because .* is still expanding it \(0 of 3 layers are done\)/,
    );
    t.regex(await run('cat', [join(mountpoint, 'etc/os-release')]), /Debian/);

    for (const lock of locks) lock.release();
    const { manifestDigest } = opened.image;
    for (;;) {
      const status = await expansionOf(registry.registry).status('nginx', manifestDigest);
      if (status?.state === 'expanded') break;
      t.not(status?.state, 'failed', status?.reason);
      await sleep(50);
    }
    for (const { digests } of opened.image.devices) {
      const lease = await cache.openLayer(digests, []);
      lease.layer.blockFile.evict(0, digests.count);
      await lease.close();
    }
    const [perl] = (await run('sha256sum', [join(mountpoint, 'usr/bin/perl')])).split(' ');
    await haveServed(mount, 1);
    const { bytesBySource, layers } = mount.stats();
    t.deepEqual(
      Object.entries(bytesBySource).flatMap(([location, bytes]) => (bytes > 0 ? location : [])),
      [`share of ${registry.host}`],
      JSON.stringify(layers.map(({ sources }) => sources.map(({ problem }) => problem))),
    );
    const unpacked = join(work, 'unpacked');
    await run('umoci', ['unpack', '--image', `${directory}:${tag}`, unpacked]);
    t.is(perl, (await run('sha256sum', [join(unpacked, 'rootfs/usr/bin/perl')])).split(' ')[0]);
  } finally {
    await mount.unmount();
    await opened.close();
    cache.close();
  }
});
