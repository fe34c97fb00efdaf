/** An unmodified image of an ordinary registry, run by a host that expands it itself. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { mountImage } from '../../src/mount/mount.js';
import { openImage } from '../../src/mount/open-image.js';
import { run } from './command.js';
import { DockerRegistry } from './docker-registry.js';
import { testImage } from './images.js';

test('an image of docker-registry is mounted from its own blobs, the second time without downloading them, the third without the registry', async (t) => {
  const registry = await DockerRegistry.start();
  const work = mkdtempSync(join(tmpdir(), 'orca-blob-'));
  t.teardown(async () => {
    await registry.stop();
    rmSync(work, { recursive: true });
  });
  const { directory, tag } = await testImage('nginx');
  const image = `127.0.0.1:${registry.port}/nginx:1`;
  await run('skopeo', ['copy', '--dest-tls-verify=false', `oci:${directory}:${tag}`, `docker://${image}`]);
  const mountpoint = join(work, 'mnt');
  await run('mkdir', [mountpoint]);
  const cache = await BlockCache.open(join(work, 'cache'), { limit: 2 ** 30 });
  for (const turn of ['first', 'second', 'third']) {
    if (turn === 'third') await registry.stop();
    const opened = await openImage({ image }, cache);
    t.regex(
      opened.served,
      turn === 'third' ? /this host has expanded the image itself/ : /does not teleport the repository/,
    );
    const mount = await mountImage({ image: opened.image, sources: opened.sources, cache, mountpoint });
    try {
      t.regex(await run('cat', [join(mountpoint, 'etc/os-release')]), /Debian/);
      await run('sha256sum', [join(mountpoint, 'usr/sbin/nginx')]);
      t.is(cache.scheduler.stats.blocksFetched, 0);
    } finally {
      await mount.unmount();
      await opened.close();
    }
  }
  cache.close();
});
