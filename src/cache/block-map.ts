/** The head of a block map, which native/block-map.h describes: what a layer's files are for, and a map made here. */
import { open, readFile } from 'node:fs/promises';
import { isBlockSize } from '../layer/block-digests.js';

const FIELDS = { magic: 0, version: 8, blockSize: 12, size: 16, bootId: 24, clean: 64 } as const;
const HEADER_SIZE = 4096;
const USED_HEADER = 80;
const MAGIC = 'ORCAMAP\0';
const VERSION = 1;

/** Of a layer VHD: its bytes, those of a block, and the number of blocks. */
export interface Geometry {
  size: number;
  blockSize: number;
  count: number;
}

/** undefined where there is no map, or none that this version can read. */
export async function readGeometry(mapPath: string): Promise<Geometry | undefined> {
  try {
    const file = await open(mapPath, 'r');
    try {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(USED_HEADER), 0, USED_HEADER, 0);
      if (bytesRead < USED_HEADER || buffer.toString('latin1', 0, MAGIC.length) !== MAGIC) return undefined;
      if (buffer.readUInt32LE(FIELDS.version) !== VERSION) return undefined;
      const blockSize = buffer.readUInt32LE(FIELDS.blockSize);
      const size = Number(buffer.readBigUInt64LE(FIELDS.size));
      if (!isBlockSize(blockSize) || size === 0 || !Number.isSafeInteger(size)) return undefined;
      const count = Math.ceil(size / blockSize);
      return (await file.stat()).size === mapLength(count) ? { size, blockSize, count } : undefined;
    } finally {
      await file.close();
    }
  } catch {
    return undefined;
  }
}

/** A map of a layer whose blocks are all there; were the machine to go down now, they would be verified again. */
export async function wholeMap({ size, blockSize, count }: Geometry): Promise<Buffer> {
  const map = Buffer.alloc(mapLength(count));
  map.write(MAGIC, FIELDS.magic, 'latin1');
  map.writeUInt32LE(VERSION, FIELDS.version);
  map.writeUInt32LE(blockSize, FIELDS.blockSize);
  map.writeBigUInt64LE(BigInt(size), FIELDS.size);
  map.write((await readFile('/proc/sys/kernel/random/boot_id', 'latin1')).trim(), FIELDS.bootId, 'latin1');
  for (let block = 0; block < count; block++) {
    const at = HEADER_SIZE + (block >> 3);
    map[at] = (map[at] as number) | (1 << (block & 7));
  }
  return map;
}

function mapLength(count: number): number {
  return HEADER_SIZE + 2 * 8 * Math.ceil(count / 64);
}
