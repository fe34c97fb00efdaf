/** How the extents of a regular file are stored: as one run of blocks, or as a table of equal chunks. */
import { ErofsError } from './erofs-error.js';
import { CHUNK_BLOCK_BITS, CHUNK_INDEXES, chunkIndex, NULL_BLOCK } from './format.js';
import { viewOf } from './record.js';
import { BLOCK_SIZE, type FileExtent, type RegularFile } from './tree.js';

/**
 * Bytes of one file's chunk table: a sparse file of 1 TiB whose data begins at an odd block would ask for 2 GiB.
 * 64 MiB describe 32 GiB in the smallest chunks.
 */
const TABLE_MAX = 64 << 20;

/** The table of a file that is not one run of blocks of the image itself. */
export interface ChunkTable {
  kind: 'chunks';
  /** log2 of chunk size ÷ block size. */
  bits: number;
  count: number;
  /** In order, joined where they continue each other. */
  extents: readonly FileExtent[];
}

/** Blocks that each device has; `[0]` is the end of the data on the image itself. */
export type DeviceBlocks = readonly number[];

function joinExtents(file: RegularFile, devices: DeviceBlocks): readonly FileExtent[] {
  const fileBlocks = Math.ceil(file.size / BLOCK_SIZE);
  const joined: FileExtent[] = [];
  let end = 0;
  for (const extent of file.extents) {
    const start = extent.fileOffset / BLOCK_SIZE;
    if (!Number.isInteger(start) || start < end || extent.blocks < 1 || start + extent.blocks > fileBlocks) {
      throw new ErofsError('INVALID_TREE', 'extents of a file are misplaced, overlap or exceed its size');
    }
    end = start + extent.blocks;
    const limit = devices[extent.device];
    const first = extent.device === 0 ? 1 : 0;
    if (limit === undefined || extent.block < first || extent.block + extent.blocks > limit) {
      throw new ErofsError('INVALID_TREE', `an extent lies outside of device ${extent.device}`);
    }
    const last = joined.at(-1);
    if (
      last !== undefined &&
      last.device === extent.device &&
      last.fileOffset + last.blocks * BLOCK_SIZE === extent.fileOffset &&
      last.block + last.blocks === extent.block
    ) {
      joined[joined.length - 1] = { ...last, blocks: last.blocks + extent.blocks };
    } else {
      joined.push(extent);
    }
  }
  return joined.length === file.extents.length ? file.extents : joined;
}

/** log2 of the largest power of two that divides `value`, which is not 0. */
function trailingZeros(value: number): number {
  let bits = 0;
  let rest = value;
  while (rest % 2 === 0) {
    rest /= 2;
    bits++;
  }
  return bits;
}

/**
 * Decides how a file is stored: undefined when it is flat (from the block of its first extent, if it has one),
 * otherwise in the largest chunks that its extents allow.
 */
export function planFile(file: RegularFile, devices: DeviceBlocks): ChunkTable | undefined {
  const fileBlocks = Math.ceil(file.size / BLOCK_SIZE);
  if (!Number.isSafeInteger(file.size) || file.size < 0) {
    throw new ErofsError('INVALID_TREE', `a file has the size ${file.size}`);
  }
  const extents = joinExtents(file, devices);
  const only = extents[0];
  const isFlat = only?.device === 0 && only.blocks === fileBlocks;
  if (fileBlocks === 0 || isFlat) return undefined;
  let bits = Math.min(Math.ceil(Math.log2(fileBlocks)), CHUNK_BLOCK_BITS);
  for (const extent of extents) {
    const start = extent.fileOffset / BLOCK_SIZE;
    const end = start + extent.blocks;
    if (start > 0) bits = Math.min(bits, trailingZeros(start));
    if (end < fileBlocks) bits = Math.min(bits, trailingZeros(end));
  }
  const count = Math.ceil(fileBlocks / 2 ** bits);
  if (count * chunkIndex.size > TABLE_MAX) {
    throw new ErofsError('TOO_LARGE', `a sparse file of ${file.size} bytes needs ${count} chunks`);
  }
  return { kind: 'chunks', bits, count, extents };
}

/** The value of the inode's chunk format for a table of 8-byte indexes. */
export function chunkFormat(bits: number): number {
  return bits | CHUNK_INDEXES;
}

/** What an inode's chunk format says of its table. */
export interface ChunkTableShape {
  chunkBlocks: number;
  count: number;
  /** Bytes of one index; the table is aligned to it. */
  indexSize: number;
}

/** Bytes of a block number, when the table has nothing but those. */
const BLOCK_NUMBER_SIZE = 4;

/** Takes a chunk format apart, for a file of `size` bytes. */
export function chunkTableShape(format: number, size: number): ChunkTableShape {
  if (format & ~(CHUNK_BLOCK_BITS | CHUNK_INDEXES)) {
    throw new ErofsError('UNSUPPORTED', `the chunk format 0x${format.toString(16)} is not supported`);
  }
  const chunkBlocks = 2 ** (format & CHUNK_BLOCK_BITS);
  return {
    chunkBlocks,
    count: Math.ceil(size / (chunkBlocks * BLOCK_SIZE)),
    indexSize: format & CHUNK_INDEXES ? chunkIndex.size : BLOCK_NUMBER_SIZE,
  };
}

/** Reads index `at` bytes into a piece of the table; undefined is a hole. */
export function decodeChunk(
  view: DataView,
  at: number,
  indexSize: number,
): { device: number; block: number } | undefined {
  const isIndex = indexSize === chunkIndex.size;
  const block = isIndex ? chunkIndex.fields.block.get(view, at) : view.getUint32(at, true);
  if (block === NULL_BLOCK) return undefined;
  return { device: isIndex ? chunkIndex.fields.device.get(view, at) : 0, block };
}

/** The table of 8-byte chunk indexes. */
export function encodeChunks({ bits, count, extents }: ChunkTable): Uint8Array {
  const table = new Uint8Array(count * chunkIndex.size);
  const view = viewOf(table);
  const { device, block } = chunkIndex.fields;
  const chunkBlocks = 2 ** bits;
  let chunk = 0;
  for (const extent of extents) {
    const first = extent.fileOffset / BLOCK_SIZE / chunkBlocks;
    for (; chunk < first; chunk++) block.set(view, chunk * chunkIndex.size, NULL_BLOCK);
    for (let done = 0; done < extent.blocks; done += chunkBlocks, chunk++) {
      device.set(view, chunk * chunkIndex.size, extent.device);
      block.set(view, chunk * chunkIndex.size, extent.block + done);
    }
  }
  for (; chunk < count; chunk++) block.set(view, chunk * chunkIndex.size, NULL_BLOCK);
  return table;
}
