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
    const isDots = name === '.' || name === '..';
    if (name.length < 1 || name.length > NAME_MAX || isDots || /[^\x01-\x2e\x30-\xff]/.test(name)) {
      throw new ErofsError('INVALID_TREE', `a directory has the name ${JSON.stringify(name)} in it`);
    }
    names.push(name);
  }
  names.sort();
  const starts = [0];
  let used = 0;
  for (let index = 0; index < names.length; index++) {
    const length = dirent.size + (names[index] as string).length;
    if (used + length > BLOCK_SIZE) {
      starts.push(index);
      used = 0;
    }
    used += length;
  }
  return { names, starts, size: (starts.length - 1) * BLOCK_SIZE + used };
}

/** One name of a directory, as read. */
export interface DirectoryEntry {
  name: ByteString;
  nid: number;
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

/**
 * The entries of one block, `.` and `..` included; `bytes` ends where the directory does. Throws ErofsError
 * CORRUPT when the block is not what a writer makes: names in ascending order, each a name.
 */
export function decodeDirectoryBlock(bytes: Uint8Array): DirectoryEntry[] {
  const view = viewOf(bytes);
  const fields = dirent.fields;
  const namesAt = bytes.length < dirent.size ? 0 : fields.nameOffset.get(view, 0);
  const count = namesAt / dirent.size;
  if (count < 1 || !Number.isInteger(count) || namesAt >= bytes.length) {
    throw new ErofsError('CORRUPT', 'a directory block does not begin with dirents');
  }
  const names = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const entries: DirectoryEntry[] = [];
  let start = namesAt;
  for (let index = 0; index < count; index++) {
    const isLast = index === count - 1;
    let end = isLast ? names.length : fields.nameOffset.get(view, (index + 1) * dirent.size);
    if (isLast) {
      const terminator = names.indexOf(0, start);
      if (terminator >= 0) end = terminator;
    }
    if (end <= start || end - start > NAME_MAX || end > names.length) {
      throw new ErofsError('CORRUPT', 'a directory block has a name out of place');
    }
    entries.push({
      name: names.toString('latin1', start, end),
      nid: fields.nid.get(view, index * dirent.size),
    });
    start = end;
  }
  return entries;
}

/** Throws ErofsError CORRUPT when `names` do not ascend (the kernel would not find them) or are not names. */
export function checkNames(entries: readonly DirectoryEntry[]): void {
  let previous = '';
  for (const { name } of entries) {
    if (name <= previous || name.includes('/') || name.includes('\0')) {
      throw new ErofsError(
        'CORRUPT',
        `a directory has the name ${JSON.stringify(name)} out of order or in it`,
      );
    }
    previous = name;
  }
}
