/**
 * Directory blocks: dirents in byte order of their names, then the names. Names are in order from block to
 * block, too, so that the kernel finds one by two binary searches. `.` and `..` sort like any other name.
 */
import { ErofsError } from './erofs-error.js';
import { dirent, NAME_MAX } from './format.js';
import { viewOf } from './record.js';
import { BLOCK_SIZE, type ByteString, type Directory } from './tree.js';

/** The names of one directory and how they are distributed over its blocks. */
export interface DirectoryPlan {
  /** With `.` and `..`. */
  readonly names: readonly ByteString[];
  /** Index of the first name of each block. */
  readonly starts: readonly number[];
  /** i_size: the last block counts only as far as it is used. */
  readonly size: number;
}

export function planDirectory(directory: Directory): DirectoryPlan {
  const names = ['.', '..'];
  for (const name of directory.children.keys()) {
    if (name.length < 1 || name.length > NAME_MAX || /[/\0]|^\.\.?$/.test(name) || /[^\0-\xff]/.test(name)) {
      throw new ErofsError('INVALID_TREE', `a directory has the name ${JSON.stringify(name)} in it`);
    }
    names.push(name);
  }
  names.sort();
  const starts = [0];
  let used = 0;
  for (const [index, name] of names.entries()) {
    const length = dirent.size + name.length;
    if (used + length > BLOCK_SIZE) {
      starts.push(index);
      used = 0;
    }
    used += length;
  }
  return { names, starts, size: (starts.length - 1) * BLOCK_SIZE + used };
}

/** What a dirent says of a name besides the name. */
export interface DirentTarget {
  nid: number;
  fileType: number;
}

/** One block of the directory: BLOCK_SIZE bytes, fewer only for the last. */
export function encodeDirectoryBlock(
  plan: DirectoryPlan,
  block: number,
  targetOf: (name: ByteString) => DirentTarget,
): Uint8Array {
  const first = plan.starts[block] as number;
  const end = plan.starts[block + 1] ?? plan.names.length;
  const isLast = block === plan.starts.length - 1;
  const bytes = Buffer.alloc(isLast ? plan.size - block * BLOCK_SIZE : BLOCK_SIZE);
  const view = viewOf(bytes);
  const { nid, nameOffset, fileType } = dirent.fields;
  let at = 0;
  let nameAt = (end - first) * dirent.size;
  for (let index = first; index < end; index++) {
    const name = plan.names[index] as ByteString;
    const target = targetOf(name);
    nid.set(view, at, target.nid);
    nameOffset.set(view, at, nameAt);
    fileType.set(view, at, target.fileType);
    nameAt += bytes.write(name, nameAt, 'latin1');
    at += dirent.size;
  }
  return bytes;
}
