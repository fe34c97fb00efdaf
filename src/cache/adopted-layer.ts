/** Takes a whole layer VHD into the block cache, without copying it where nothing of the layer is there yet. */
import { randomBytes } from 'node:crypto';
import { link, open, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BlockDigests } from '../layer/block-digests.js';
import { digestOf, parseDigest } from '../oci/digest.js';
import type { BlockCache } from './block-cache.js';

/** docs/FORMAT.md, "Block map". */
const MAP_FIELDS = { magic: 0, version: 8, blockSize: 12, size: 16, bootId: 24, clean: 64 } as const;
const MAP_HEADER_SIZE = 4096;
const MAP_VERSION = 1;

/**
 * `path` is a layer VHD on the file system of the cache that nobody writes any more, made of what `digests` were
 * computed of; it need not be on the disk yet. It counts for eviction from now on. The file itself may be removed.
 */
export async function adoptLayer(cache: BlockCache, digests: BlockDigests, path: string): Promise<void> {
  const encoded = digests.encode();
  const digest = digestOf(encoded);
  const target = join(cache.directory, 'layers', parseDigest(digest).hex);
  await cache.blobs.ensure(digest, encoded);
  const written = await cache.eviction.makeRoom(digests.size);
  const map = `${path}.${randomBytes(4).toString('hex')}.map`;
  try {
    await writeFile(map, await mapOf(digests), { mode: 0o600 });
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

/** As after a use under this boot: were the machine to go down now, the blocks would be verified again. */
async function mapOf({ size, blockSize, count }: BlockDigests): Promise<Buffer> {
  const words = Math.ceil(count / 64);
  const map = Buffer.alloc(MAP_HEADER_SIZE + 2 * 8 * words);
  map.write('ORCAMAP\0', MAP_FIELDS.magic, 'latin1');
  map.writeUInt32LE(MAP_VERSION, MAP_FIELDS.version);
  map.writeUInt32LE(blockSize, MAP_FIELDS.blockSize);
  map.writeBigUInt64LE(BigInt(size), MAP_FIELDS.size);
  map.write(
    (await readFile('/proc/sys/kernel/random/boot_id', 'latin1')).trim(),
    MAP_FIELDS.bootId,
    'latin1',
  );
  for (let block = 0; block < count; block++) {
    const at = MAP_HEADER_SIZE + (block >> 3);
    map[at] = (map[at] as number) | (1 << (block & 7));
  }
  return map;
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
