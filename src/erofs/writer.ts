/**
 * Writes the metadata of an EROFS image: uncompressed, 4 KiB blocks, extended inodes, inline xattrs, no shared
 * ones. The output is a function of the tree and the options alone. File data is not its business: extents say
 * where that lies.
 */
import { type DeviceBlocks, encodeChunks } from './chunks.js';
import { encodeDirectoryBlock } from './directory-blocks.js';
import { Emitter } from './emitter.js';
import { ErofsError } from './erofs-error.js';
import {
  chunkIndex,
  deviceSlot,
  extendedInode,
  FEATURE_COMPAT,
  FEATURE_INCOMPAT,
  KINDS,
  SLOT_SIZE,
  SUPERBLOCK_MAGIC,
  SUPERBLOCK_OFFSET,
  superblock,
  superblockChecksum,
} from './format.js';
import { encodeInode } from './inode-record.js';
import {
  type DirectoryContent,
  type InodePlan,
  type Layout,
  type LinkContent,
  planLayout,
} from './layout.js';
import { type Values, viewOf } from './record.js';
import type { ErofsDevice } from './superblock.js';
import { BLOCK_SIZE, type Directory, type Inode } from './tree.js';
import { encodeXattrs } from './xattrs.js';

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
  const record = new Uint8Array(extendedInode.size);
  const recordView = viewOf(record);
  let ino = 0;
  for (const plan of layout.inodes) {
    emitter.padTo(plan.position);
    encodeInode(recordView, plan, ++ino);
    emitter.append(record);
    emitContent(emitter, plan, layout);
  }
  emitter.padTo(layout.blocksStart);
  for (const plan of layout.inodes) emitBlocks(emitter, plan, layout);
  emitter.padTo(layout.end);

  const isChunked = layout.inodes.some(({ content }) => content?.kind === 'chunks');
  return {
    superblock: encodeSuperblock({
      rootNid: layout.planOf(root).position / SLOT_SIZE,
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

/** What follows the inode: xattrs, chunk table, inline tail. */
function emitContent(emitter: Emitter, { inode, content, xattrSize }: InodePlan, layout: Layout): void {
  if (xattrSize > 0) emitter.append(encodeXattrs(inode.xattrs));
  if (content?.kind === 'chunks') {
    emitter.padTo(Math.ceil(emitter.position / chunkIndex.size) * chunkIndex.size);
    emitter.append(encodeChunks(content));
  } else if (content?.inline) {
    const lastBlock = Math.floor(content.size / BLOCK_SIZE);
    emitter.append(encodeBlock(inode, content, lastBlock, layout));
  }
}

/** What an inode has in blocks of its own: all of a directory or link target, or all but the inline tail. */
function emitBlocks(emitter: Emitter, { inode, content }: InodePlan, layout: Layout): void {
  if (content === undefined || content.kind === 'chunks') return;
  const blocks = content.inline
    ? Math.floor(content.size / BLOCK_SIZE)
    : Math.ceil(content.size / BLOCK_SIZE);
  if (blocks > 0) emitter.padTo((content.block - layout.metadataBlock) * BLOCK_SIZE);
  for (let block = 0; block < blocks; block++) emitter.append(encodeBlock(inode, content, block, layout));
}

/** Block number `block` of a directory or link target, the last one without padding. */
function encodeBlock(
  inode: Inode,
  content: DirectoryContent | LinkContent,
  block: number,
  layout: Layout,
): Uint8Array {
  if (inode.kind === 'symlink') return Buffer.from(inode.target, 'latin1');
  if (inode.kind !== 'directory' || content.kind !== 'directory') throw new Error('a plan of another inode');
  return encodeDirectoryBlock(content.plan, block, (name) => {
    const target = inode.children.get(name) ?? (name === '.' ? inode : (content.parent ?? inode));
    return { nid: layout.planOf(target).position / SLOT_SIZE, fileType: KINDS[target.kind].fileType };
  });
}
