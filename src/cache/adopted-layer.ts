/** Takes a whole layer VHD into the block cache, without copying it where nothing of the layer is there yet. */
import { randomBytes } from 'node:crypto';
import { link, open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BlockDigests } from '../layer/block-digests.js';
import { parseDigest } from '../oci/digest.js';
import type { BlockCache } from './block-cache.js';
import { wholeMap } from './block-map.js';

/**
 * `path` is a layer VHD on the file system of the cache that nobody writes any more, made of what `digests` were
 * computed of; it need not be on the disk yet. It counts for eviction from now on. The file itself may be removed.
 */
export async function adoptLayer(cache: BlockCache, digests: BlockDigests, path: string): Promise<void> {
  const target = join(cache.directory, 'layers', parseDigest(digests.name).hex);
  const written = await cache.eviction.makeRoom(digests.size);
  const map = `${path}.${randomBytes(4).toString('hex')}.map`;
  try {
    await writeFile(map, await wholeMap(digests), { mode: 0o600 });
    // The map last: a map without its data would speak of blocks that are not there.
    await link(path, `${target}.data`);
    await link(map, `${target}.map`);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    await copyMissing(cache, digests, path);
  } finally {
    written();
    await rm(map, { force: true });
  }
}

async function copyMissing(cache: BlockCache, digests: BlockDigests, path: string): Promise<void> {
  const [file, lease] = await Promise.all([open(path, 'r'), cache.openLayer(digests, [])]);
  try {
    const { blockFile } = lease.layer;
    for (let block = 0; block < digests.count; block++) {
      if (blockFile.has(block)) continue;
      const bytes = Buffer.allocUnsafeSlow(digests.length(block));
      await file.read(bytes, 0, bytes.length, block * digests.blockSize);
      // A disk that is full takes no more: the rest is fetched when it is read.
      if (digests.verify(block, bytes)) await blockFile.put(block, bytes).catch(() => undefined);
    }
  } finally {
    await Promise.all([file.close(), lease.close()]);
  }
}
