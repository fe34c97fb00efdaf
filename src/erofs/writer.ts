/**
 * Writes the metadata of an EROFS image: uncompressed, 4 KiB blocks, extended inodes, inline xattrs, no shared
 * ones. The output is a function of the tree and the options alone. File data is not its business: extents say
 * where that lies.
 */
import { chunkFormat, type DeviceBlocks, encodeChunks } from './chunks.js';
import { type DirectoryPlan, encodeDirectoryBlock } from './directory-blocks.js';
import { ErofsError } from './erofs-error.js';
import {
  chunkIndex,
  deviceSlot,
  encodeDevice,
  extendedInode,
  FEATURE_COMPAT,
  FEATURE_INCOMPAT,
  INODE_EXTENDED,
  KINDS,
  LAYOUT,
  MAJOR_MAX,
  MINOR_MAX,
  SLOT_SIZE,
  SUPERBLOCK_MAGIC,
  SUPERBLOCK_OFFSET,
  superblock,
  superblockChecksum,
} from './format.js';
import { type InodePlan, type Layout, planLayout } from './layout.js';
import { type Values, viewOf } from './record.js';
import type { ErofsDevice } from './superblock.js';
import { BLOCK_SIZE, type Directory, type Inode, type SpecialFile } from './tree.js';
import { encodeXattrs, xattrCount } from './xattrs.js';

export type { ErofsDevice };

export interface WriteOptions {
  /** 16 bytes. */
  uuid: Uint8Array;
  /** The data of device 0 lies in blocks 1 to dataBlocks of the image. */
  dataBlocks: number;
  devices?: readonly ErofsDevice[];
}

export interface WrittenErofs {
  /** Block 0, BLOCK_SIZE bytes. */
  superblock: Uint8Array;
  /** What follows the data, from block 1 + dataBlocks on, in pieces; a multiple of BLOCK_SIZE in all. */
  metadata: readonly Uint8Array[];
  /** Of the whole image. */
  blocks: number;
  inodes: number;
}

/** blocks and addresses have 32 bits, of which NULL_BLOCK is taken. */
const BLOCKS_MAX = 0xfffffffe;
/** root_nid, devt_slotoff and the device count have 16 bits each; the root follows the device table. */
const UINT16_MAX = 0xffff;
const DEVICES_MAX = Math.floor((UINT16_MAX * SLOT_SIZE) / deviceSlot.size);
const NS_PER_SECOND = 1_000_000_000n;
const PIECE_SIZE = 1 << 20;

/** Collects bytes in pieces and knows its position, so that every section can assert that it begins as planned. */
class Emitter {
  readonly pieces: Uint8Array[] = [];
  position = 0;
  private piece = Buffer.alloc(0);
  private used = 0;

  append(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const room = this.room();
      const length = Math.min(room, bytes.length - done);
      this.piece.set(bytes.subarray(done, done + length), this.used);
      this.used += length;
      this.position += length;
      done += length;
    }
  }

  /** Appends zeros up to a position. */
  padTo(position: number): void {
    if (position < this.position) throw new Error(`planned ${position}, but already at ${this.position}`);
    while (this.position < position) {
      const length = Math.min(this.room(), position - this.position);
      this.used += length;
      this.position += length;
    }
  }

  private room(): number {
    if (this.used === this.piece.length) {
      this.piece = Buffer.alloc(PIECE_SIZE);
      this.pieces.push(this.piece);
      this.used = 0;
    }
    return this.piece.length - this.used;
  }

  finish(): readonly Uint8Array[] {
    const last = this.pieces.pop();
    return last === undefined ? [] : [...this.pieces, last.subarray(0, this.used)];
  }
}

/**
 * Lays out a tree as an EROFS image. Hard links are references to the same object. Throws ErofsError:
 * INVALID_TREE when the tree contradicts itself, TOO_LARGE when it exceeds the format.
 */
export function writeErofs(root: Directory, options: WriteOptions): WrittenErofs {
  const devices = options.devices ?? [];
  const metadataBlock = 1 + options.dataBlocks;
  const deviceTableSlot = (metadataBlock * BLOCK_SIZE) / deviceSlot.size;
  if (devices.length > DEVICES_MAX || (devices.length > 0 && deviceTableSlot > UINT16_MAX)) {
    throw new ErofsError(
      'TOO_LARGE',
      `${devices.length} devices besides ${options.dataBlocks} blocks of data`,
    );
  }
  const deviceBlocks: DeviceBlocks = [metadataBlock, ...devices.map((device) => device.blocks)];
  const layout = planLayout(root, deviceBlocks, metadataBlock);
  const blocks = metadataBlock + layout.end / BLOCK_SIZE;
  if (Math.max(blocks, ...deviceBlocks) > BLOCKS_MAX) {
    throw new ErofsError('TOO_LARGE', 'an image or a device of 16 TiB or more');
  }

  const emitter = new Emitter();
  for (const device of devices) emitter.append(encodeDeviceSlot(device));
  for (const [index, plan] of layout.inodes.entries()) emitInode(emitter, plan, index + 1, layout);
  emitter.padTo(layout.blocksStart);
  for (const plan of layout.inodes) emitBlocks(emitter, plan, layout, metadataBlock);
  emitter.padTo(layout.end);

  const isChunked = layout.inodes.some(
    ({ content }) => content.kind === 'file' && content.layout.kind === 'chunks',
  );
  return {
    superblock: encodeSuperblock({
      rootNid: nidOf(layout.inodes[0] as InodePlan),
      inodes: layout.inodes.length,
      blocks,
      metaBlock: metadataBlock,
      uuid: options.uuid,
      featureIncompat:
        (isChunked ? FEATURE_INCOMPAT.chunkedFile : 0) |
        (devices.length > 0 ? FEATURE_INCOMPAT.deviceTable : 0),
      devices: devices.length,
      deviceTableSlot: devices.length > 0 ? deviceTableSlot : 0,
    }),
    metadata: emitter.finish(),
    blocks,
    inodes: layout.inodes.length,
  };
}

function encodeSuperblock(values: Partial<Values<typeof superblock.fields>>): Uint8Array {
  const bytes = new Uint8Array(BLOCK_SIZE);
  const view = viewOf(bytes);
  superblock.encode(view, SUPERBLOCK_OFFSET, {
    magic: SUPERBLOCK_MAGIC,
    featureCompat: FEATURE_COMPAT.superblockChecksum | FEATURE_COMPAT.mtime,
    blockBits: Math.log2(BLOCK_SIZE),
    ...values,
  });
  const checksum = superblockChecksum(bytes.subarray(SUPERBLOCK_OFFSET));
  superblock.fields.checksum.set(view, SUPERBLOCK_OFFSET, checksum);
  return bytes;
}

function encodeDeviceSlot(device: ErofsDevice): Uint8Array {
  const tag = Buffer.from(device.tag, 'latin1');
  if (tag.length > deviceSlot.fields.tag.width) {
    throw new ErofsError('TOO_LARGE', `the device tag ${device.tag} has more than 64 bytes`);
  }
  const bytes = new Uint8Array(deviceSlot.size);
  deviceSlot.encode(viewOf(bytes), 0, { tag, blocks: device.blocks });
  return bytes;
}

function nidOf(plan: InodePlan): number {
  return plan.position / SLOT_SIZE;
}

function encodeInode({ inode, content, xattrSize, nlink }: InodePlan, ino: number): Uint8Array {
  const bytes = new Uint8Array(extendedInode.size);
  const view = viewOf(bytes);
  const fields = extendedInode.fields;
  let layout: number = LAYOUT.flatPlain;
  let size = 0;
  let location = 0;
  if (content.kind === 'file') {
    size = inode.kind === 'file' ? inode.size : 0;
    if (content.layout.kind === 'chunks') layout = LAYOUT.chunkBased;
    location = content.layout.kind === 'chunks' ? chunkFormat(content.layout.bits) : content.layout.block;
  } else if (content.kind === 'none') {
    if ('major' in inode) location = deviceNumber(inode);
  } else {
    size =
      content.kind === 'directory' ? content.plan.size : inode.kind === 'symlink' ? inode.target.length : 0;
    if (content.inline) layout = LAYOUT.flatInline;
    location = content.block;
  }
  checkAttributes(inode);
  const seconds = floorDivide(inode.mtime, NS_PER_SECOND);
  fields.format.set(view, 0, INODE_EXTENDED | (layout << 1));
  fields.xattrCount.set(view, 0, xattrCount(xattrSize));
  fields.mode.set(view, 0, KINDS[inode.kind].typeBits | inode.mode);
  fields.size.set(view, 0, size);
  fields.location.set(view, 0, location);
  fields.ino.set(view, 0, ino);
  fields.uid.set(view, 0, inode.uid);
  fields.gid.set(view, 0, inode.gid);
  fields.mtime.set(view, 0, seconds);
  fields.mtimeNs.set(view, 0, Number(inode.mtime - seconds * NS_PER_SECOND));
  fields.nlink.set(view, 0, nlink);
  return bytes;
}

function floorDivide(value: bigint, divisor: bigint): bigint {
  const quotient = value / divisor;
  return quotient * divisor > value ? quotient - 1n : quotient;
}

function deviceNumber({ kind, major, minor }: SpecialFile): number {
  if (!isUnsigned(major, MAJOR_MAX) || !isUnsigned(minor, MINOR_MAX)) {
    throw new ErofsError('TOO_LARGE', `Linux has no device number ${major}/${minor}`);
  }
  return kind === 'chardev' || kind === 'blockdev' ? encodeDevice(major, minor) : 0;
}

function isUnsigned(value: number, max: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= max;
}

function checkAttributes(inode: Inode): void {
  if (!isUnsigned(inode.mode, 0o7777))
    throw new ErofsError('INVALID_TREE', `an inode has the mode ${inode.mode}`);
  if (!isUnsigned(inode.uid, 0xffffffff) || !isUnsigned(inode.gid, 0xffffffff)) {
    throw new ErofsError('TOO_LARGE', `ids have 32 bits, not ${inode.uid} and ${inode.gid}`);
  }
  if (BigInt.asIntN(64, inode.mtime / NS_PER_SECOND) !== inode.mtime / NS_PER_SECOND) {
    throw new ErofsError('TOO_LARGE', `an inode has the mtime ${inode.mtime}`);
  }
}

function emitInode(emitter: Emitter, plan: InodePlan, ino: number, layout: Layout): void {
  const { inode, content } = plan;
  emitter.padTo(plan.position);
  emitter.append(encodeInode(plan, ino));
  if (plan.xattrSize > 0) emitter.append(encodeXattrs(inode.xattrs));
  if (content.kind === 'file' && content.layout.kind === 'chunks') {
    emitter.padTo(Math.ceil(emitter.position / chunkIndex.size) * chunkIndex.size);
    emitter.append(encodeChunks(content.layout));
  } else if (content.kind === 'directory' && content.inline) {
    emitter.append(encodeBlock(plan, content.plan, content.plan.starts.length - 1, layout));
  } else if (content.kind === 'symlink' && content.inline && inode.kind === 'symlink') {
    emitter.append(Buffer.from(inode.target, 'latin1'));
  }
}

function encodeBlock(plan: InodePlan, directory: DirectoryPlan, block: number, layout: Layout): Uint8Array {
  const { children } = plan.inode as Directory;
  return encodeDirectoryBlock(directory, block, (name) => {
    const child = children.get(name);
    const target = child ? layout.planOf(child) : name === '.' ? plan : (plan.parent ?? plan);
    return { nid: nidOf(target), fileType: KINDS[target.inode.kind].fileType };
  });
}

/** What an inode has in blocks of its own: all of a directory or link target, or all but the inline tail. */
function emitBlocks(emitter: Emitter, plan: InodePlan, layout: Layout, metadataBlock: number): void {
  const { inode, content } = plan;
  if (content.kind === 'directory') {
    const blocks = content.plan.starts.length - (content.inline ? 1 : 0);
    if (blocks > 0) emitter.padTo((content.block - metadataBlock) * BLOCK_SIZE);
    for (let block = 0; block < blocks; block++)
      emitter.append(encodeBlock(plan, content.plan, block, layout));
  } else if (content.kind === 'symlink' && !content.inline && inode.kind === 'symlink') {
    emitter.padTo((content.block - metadataBlock) * BLOCK_SIZE);
    emitter.append(Buffer.from(inode.target, 'latin1'));
  }
}
