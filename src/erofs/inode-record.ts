/** The inode itself, from what is planned for it. */
import { chunkFormat } from './chunks.js';
import { ErofsError } from './erofs-error.js';
import {
  encodeDevice,
  extendedInode,
  INODE_EXTENDED,
  KINDS,
  LAYOUT,
  MAJOR_MAX,
  MINOR_MAX,
} from './format.js';
import type { InodePlan } from './layout.js';
import type { Inode, SpecialFile } from './tree.js';
import { xattrCount } from './xattrs.js';

const NS_PER_SECOND = 1_000_000_000n;
const fields = extendedInode.fields;

/** Encodes the inode into the first 64 bytes of `view`; `ino` is what stat(2) shows of it on 32-bit machines. */
export function encodeInode(
  view: DataView,
  { inode, content, xattrSize, nlink }: InodePlan,
  ino: number,
): void {
  checkAttributes(inode);
  let layout: number = LAYOUT.flatPlain;
  let size = 0;
  let location = 0;
  switch (inode.kind) {
    case 'file':
      size = inode.size;
      location = inode.extents[0]?.block ?? 0;
      break;
    case 'directory':
    case 'symlink':
      break;
    default:
      location = deviceNumber(inode);
  }
  if (content?.kind === 'chunks') {
    layout = LAYOUT.chunkBased;
    location = chunkFormat(content.bits);
  } else if (content) {
    size = content.size;
    layout = content.inline ? LAYOUT.flatInline : LAYOUT.flatPlain;
    location = content.block;
  }
  const seconds = floorDivide(inode.mtime, NS_PER_SECOND);
  if (BigInt.asIntN(64, seconds) !== seconds) {
    throw new ErofsError('TOO_LARGE', `an inode has the mtime ${inode.mtime}`);
  }
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
  if (!isUnsigned(inode.mode, 0o7777)) {
    throw new ErofsError('INVALID_TREE', `an inode has the mode ${inode.mode}`);
  }
  if (!isUnsigned(inode.uid, 0xffffffff) || !isUnsigned(inode.gid, 0xffffffff)) {
    throw new ErofsError('TOO_LARGE', `ids have 32 bits, not ${inode.uid} and ${inode.gid}`);
  }
}
