/**
 * Where everything of an image will lie, decided before a byte is written. The metadata area holds, in order:
 * the device table, the inode records, and what does not fit behind its inode (blocks of directories and long
 * link targets). An inode record is the inode, its xattrs, and its chunk table or inline tail.
 */
import { type ChunkTable, type DeviceBlocks, planFile } from './chunks.js';
import { type DirectoryPlan, planDirectory } from './directory-blocks.js';
import { ErofsError } from './erofs-error.js';
import { chunkIndex, deviceSlot, extendedInode, SLOT_SIZE, TARGET_MAX } from './format.js';
import { BLOCK_SIZE, type Directory, type Inode } from './tree.js';
import { xattrAreaSize } from './xattrs.js';

/** A directory or link target: in blocks, of which the last, if it is partly used, may lie behind the inode. */
interface BlockContent {
  /** Bytes. */
  size: number;
  inline: boolean;
  /** The first of the blocks that are not behind the inode. */
  block: number;
}

export interface DirectoryContent extends BlockContent {
  kind: 'directory';
  plan: DirectoryPlan;
  /** Undefined for the root. */
  parent: Directory | undefined;
}

export interface LinkContent extends BlockContent {
  kind: 'symlink';
}

/** What an inode has beside itself and its xattrs; flat files and special files have nothing. */
export type Content = ChunkTable | DirectoryContent | LinkContent;

export interface InodePlan {
  readonly inode: Inode;
  readonly content: Content | undefined;
  /** Bytes from the start of the metadata area, a multiple of SLOT_SIZE. */
  readonly position: number;
  readonly xattrSize: number;
  /** Names that refer to it; for a directory 2 and the number of its subdirectories. */
  nlink: number;
}

export interface Layout {
  /** In the order of their positions; the root is the first. */
  readonly inodes: readonly InodePlan[];
  readonly planOf: (inode: Inode) => InodePlan;
  /** The block that the metadata area begins with. */
  readonly metadataBlock: number;
  /** Bytes from the start of the metadata area to the blocks behind the inode records, and to their end. */
  readonly blocksStart: number;
  readonly end: number;
}

function alignUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}

/** A nid of 0 means "none" in places (packed_nid, d_ino); the first inode of an image without devices gets 1. */
function firstInode(devices: number): number {
  return Math.max(devices * deviceSlot.size, SLOT_SIZE);
}

/**
 * The smaller of two places for the last part (`tail` bytes) of a directory or link target: behind the inode,
 * where the whole record must lie in one block (the kernel refuses a tail that crosses), or in a block of its own.
 */
function placeTail(cursor: number, head: number, tail: number): { inline: boolean; position: number } {
  const record = head + tail;
  if (tail === 0 || tail >= BLOCK_SIZE || record > BLOCK_SIZE) return { inline: false, position: cursor };
  const room = BLOCK_SIZE - (cursor % BLOCK_SIZE);
  if (record <= room) return { inline: true, position: cursor };
  return room + tail < BLOCK_SIZE
    ? { inline: true, position: cursor + room }
    : { inline: false, position: cursor };
}

/** Plans the metadata of a tree; `metadataBlock` is the block that it begins with. */
export function planLayout(root: Directory, devices: DeviceBlocks, metadataBlock: number): Layout {
  const plans = new Map<Inode, InodePlan>();
  const inodes: InodePlan[] = [];
  let cursor = firstInode(devices.length - 1);
  let blocks = 0;

  const place = (inode: Inode, parent: Directory | undefined): void => {
    const xattrSize = xattrAreaSize(inode.xattrs);
    const head = extendedInode.size + xattrSize;
    let position = cursor;
    let size = head;
    let content: Content | undefined;
    if (inode.kind === 'file') {
      content = planFile(inode, devices);
      if (content) size = alignUp(head, chunkIndex.size) + content.count * chunkIndex.size;
    } else if (inode.kind === 'directory' || inode.kind === 'symlink') {
      const plan = inode.kind === 'directory' ? planDirectory(inode) : undefined;
      const length = plan?.size ?? targetLength(inode);
      const tail = length % BLOCK_SIZE;
      const placed = placeTail(cursor, head, tail);
      const { inline } = placed;
      position = placed.position;
      if (inline) size = head + tail;
      content = plan
        ? { kind: 'directory', size: length, inline, block: blocks, plan, parent }
        : { kind: 'symlink', size: length, inline, block: blocks };
      blocks += inline ? Math.floor(length / BLOCK_SIZE) : Math.ceil(length / BLOCK_SIZE);
    }
    const plan = { inode, content, position, xattrSize, nlink: inode.kind === 'directory' ? 2 : 1 };
    plans.set(inode, plan);
    inodes.push(plan);
    cursor = alignUp(position + size, SLOT_SIZE);
  };

  place(root, undefined);
  for (let index = 0; index < inodes.length; index++) {
    const directory = inodes[index] as InodePlan;
    if (directory.content?.kind !== 'directory') continue;
    const parent = directory.inode as Directory;
    for (const name of directory.content.plan.names) {
      const child = parent.children.get(name);
      if (child === undefined) continue;
      const known = plans.get(child);
      if (child.kind === 'directory') {
        if (known !== undefined)
          throw new ErofsError('INVALID_TREE', `the directory ${name} is linked twice`);
        directory.nlink++;
      } else if (known !== undefined) {
        known.nlink++;
        continue;
      }
      place(child, parent);
    }
  }

  const blocksStart = alignUp(cursor, BLOCK_SIZE);
  const end = blocksStart + blocks * BLOCK_SIZE;
  const firstBlock = metadataBlock + blocksStart / BLOCK_SIZE;
  for (const { content } of inodes) {
    if (content && content.kind !== 'chunks') content.block += firstBlock;
  }
  const planOf = (inode: Inode): InodePlan => plans.get(inode) as InodePlan;
  return { inodes, planOf, metadataBlock, blocksStart, end };
}

function targetLength(inode: Inode): number {
  const target = inode.kind === 'symlink' ? inode.target : '';
  if (target.length < 1 || target.length > TARGET_MAX || /[^\x01-\xff]/.test(target)) {
    throw new ErofsError(
      'INVALID_TREE',
      `a symbolic link has the target ${JSON.stringify(target.slice(0, 80))}`,
    );
  }
  return target.length;
}
