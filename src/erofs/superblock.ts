/** Reads and checks what an image says of itself: superblock and device table. */
import { ErofsError } from './erofs-error.js';
import {
  deviceSlot,
  FEATURE_COMPAT,
  FEATURE_INCOMPAT,
  SUPERBLOCK_MAGIC,
  SUPERBLOCK_OFFSET,
  superblock,
  superblockChecksum,
} from './format.js';
import { checkRange, type ReadAt } from './read-at.js';
import { type Values, viewOf } from './record.js';
import { BLOCK_SIZE, type ByteString } from './tree.js';

/** A device besides the image itself. */
export interface ErofsDevice {
  /** At most 64 bytes, such as the diffID in hex. */
  tag: ByteString;
  /** Blocks of BLOCK_SIZE that the device has. */
  blocks: number;
}

/** A device as an image states it. */
export interface DeviceSlot extends ErofsDevice {
  /** Block at which the device begins in the address space of the image itself; 0: nowhere. */
  mappedBlock: number;
}

export type Superblock = Values<typeof superblock.fields>;

/**
 * Those that concern compressed inodes only are tolerated here, since mkfs.erofs sets some of them on images that
 * have none; a compressed inode is refused when it is met.
 */
const TOLERATED =
  FEATURE_INCOMPAT.zeroPadding |
  FEATURE_INCOMPAT.compressionConfigs |
  FEATURE_INCOMPAT.chunkedFile |
  FEATURE_INCOMPAT.deviceTable |
  FEATURE_INCOMPAT.tailPacking |
  FEATURE_INCOMPAT.fragments;

/** Reads the superblock of an image of `size` bytes. */
export function readSuperblock(readAt: ReadAt, size: number): Superblock {
  checkRange('the superblock', SUPERBLOCK_OFFSET, BLOCK_SIZE - SUPERBLOCK_OFFSET, size);
  const bytes = Uint8Array.from(readAt(SUPERBLOCK_OFFSET, BLOCK_SIZE - SUPERBLOCK_OFFSET));
  const view = viewOf(bytes);
  const values = superblock.decode(view, 0);
  if (values.magic !== SUPERBLOCK_MAGIC) throw new ErofsError('CORRUPT', 'not an EROFS image: no superblock');
  if (2 ** values.blockBits !== BLOCK_SIZE || values.directoryBlockBits !== 0) {
    throw new ErofsError('UNSUPPORTED', `EROFS with blocks of 2^${values.blockBits} bytes is not supported`);
  }
  const unknown = values.featureIncompat & ~TOLERATED;
  if (unknown !== 0) {
    const names = Object.entries(FEATURE_INCOMPAT).filter(([, bit]) => unknown & bit);
    const named = names.map(([name]) => name).join(', ') || 'unknown';
    const bits = (unknown >>> 0).toString(16);
    throw new ErofsError('UNSUPPORTED', `EROFS with the features 0x${bits} (${named}) is not supported`);
  }
  if (values.featureCompat & FEATURE_COMPAT.superblockChecksum) {
    superblock.fields.checksum.set(view, 0, 0);
    if (superblockChecksum(bytes) !== values.checksum) {
      throw new ErofsError('CORRUPT', 'the checksum of the EROFS superblock does not match');
    }
  }
  return values;
}

/** Reads the device table, which has no slot for the image itself. */
export function readDevices(readAt: ReadAt, size: number, values: Superblock): readonly DeviceSlot[] {
  if (!(values.featureIncompat & FEATURE_INCOMPAT.deviceTable)) return [];
  const start = values.deviceTableSlot * deviceSlot.size;
  const length = values.devices * deviceSlot.size;
  checkRange('the device table', start, length, size);
  const view = viewOf(readAt(start, length));
  return Array.from({ length: values.devices }, (_, index) => {
    const { tag, blocks, mappedBlock } = deviceSlot.decode(view, index * deviceSlot.size);
    return { tag: Buffer.from(tag).toString('latin1').replace(/\0+$/, ''), blocks, mappedBlock };
  });
}
