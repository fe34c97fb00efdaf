import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import test from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { layerPath } from '../../src/image/catalog.js';
import { FramePool } from '../../src/smb/frame-pool.js';
import { SmbSource } from '../../src/source/smb-source.js';
import { randomLayer } from '../cache/layer-fixture.js';
import { Samba } from './samba.js';

const BLOCK = 131072;

for (const encryption of ['required', 'off'] as const) {
  test(`blocks reach the cache right though released frames are overwritten at once, encryption ${encryption}`, async (t) => {
    const directory = await mkdtemp(join(tmpdir(), 'orca-frames-'));
    const content = randomLayer(61, 80 << 20, BLOCK);
    const path = join(directory, 'store', layerPath(content.digests.diffID));
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content.bytes);
    const samba = await Samba.start({ shares: { store: { path: join(directory, 'store') } }, encryption });
    const buffers = new Set<Buffer>();
    let freed = 0;
    const frames = new FramePool((buffer) => {
      freed += 1;
      buffers.add(buffer);
      buffer.fill(0xdb);
    });
    const source = new SmbSource({
      host: samba.host,
      port: samba.port,
      share: 'store',
      path: '',
      location: samba.url('store'),
      credentials: { username: samba.username, password: samba.password },
      frames,
    });
    const cache = await BlockCache.open(join(directory, 'cache'));
    try {
      const lease = await cache.openLayer(content.digests, [source]);
      const { layer } = lease;
      const ahead = cache.scheduler.prefetch(layer, 0, content.digests.count, { priority: 'startup' });
      // Demand from the other end meanwhile, which is cut up otherwise.
      for (let block = content.digests.count - 2; block > 300; block -= 3)
        cache.scheduler.demand(layer, block, 2);
      await ahead;
      while (layer.wants.size > 0 || layer.running.size > 0) await new Promise(setImmediate);
      t.is(cache.scheduler.stats.blocksCorrupt, 0);
      t.is(layer.blockFile.count(), content.digests.count);
      for (let block = 0; block < content.digests.count; block++) {
        const expected = content.bytes.subarray(block * BLOCK, (block + 1) * BLOCK);
        if (!expected.equals(await layer.blockFile.read(block))) t.fail(`block ${block}`);
      }
      t.true(freed >= 20, `${freed} buffers were given back`);
      t.true(buffers.size < freed, `${buffers.size} different ones`);
      await lease.close();
    } finally {
      await source.close();
      cache.close();
      await samba.stop();
      await rm(directory, { recursive: true });
    }
  });
}
