/** The tree of an image, as the writer takes it. */
import { ErofsError } from './erofs-error.js';
import type { ErofsImage, ErofsInode } from './image.js';
import type { ByteString, Directory, Inode, RegularFile } from './tree.js';

/** The largest images known have about a million inodes; this many take some 2 GB of memory. */
const INODES_MAX = 4 << 20;
/** Names and extents in all: a small image can otherwise claim billions of both by naming the same blocks often. */
const ENTRIES_MAX = 8 << 20;
const EXTENTS_MAX = 8 << 20;

export interface ReadTreeOptions {
  /**
   * Receives the nid of every file whose last bytes lie behind its inode, so that ErofsImage.readFile can read
   * them; the extents of such a file end before them. Without it they are an error.
   */
  inline?: Map<RegularFile, number>;
}

/**
 * Reads all of an image's tree. Hard links share one object; extents are as stored, a flat file having one on
 * device 0. Throws ErofsError: INLINE_DATA for a file with an inline tail, unless `options.inline` takes them.
 */
export function readTree(image: ErofsImage, options: ReadTreeOptions = {}): Directory {
  const inodes = new Map<number, Inode>();
  let entriesLeft = ENTRIES_MAX;
  let extentsLeft = EXTENTS_MAX;
  let metadataLeft = image.size;

  const read = (inode: ErofsInode): Inode => {
    const { nid, kind, mode, uid, gid, mtime } = inode;
    metadataLeft -= image.metadataBytes(inode);
    if (metadataLeft < 0)
      throw new ErofsError('CORRUPT', `the metadata of inode ${nid} is that of others, too`);
    const xattrs = image.xattrs(inode);
    switch (kind) {
      case 'directory':
        return { kind, mode, uid, gid, mtime, xattrs, children: new Map() };
      case 'symlink':
        return { kind, mode, uid, gid, mtime, xattrs, target: image.readlink(inode) };
      case 'file': {
        const extents = image.extents(inode);
        extentsLeft -= extents.length;
        if (extentsLeft < 0)
          throw new ErofsError('TOO_LARGE', `an image of more than ${EXTENTS_MAX} extents`);
        const file: RegularFile = { kind, mode, uid, gid, mtime, xattrs, size: inode.size, extents };
        if (image.inlineBytes(inode) > 0) {
          if (options.inline === undefined) {
            throw new ErofsError('INLINE_DATA', `the last bytes of inode ${nid} lie among the metadata`);
          }
          options.inline.set(file, nid);
        }
        return file;
      }
      default:
        return { kind, mode, uid, gid, mtime, xattrs, major: inode.major, minor: inode.minor };
    }
  };

  const rootInode = image.inode(image.rootNid);
  const root = read(rootInode);
  if (root.kind !== 'directory') throw new ErofsError('CORRUPT', 'the root of the image is not a directory');
  inodes.set(rootInode.nid, root);
  const pending: { inode: ErofsInode; children: Map<ByteString, Inode> }[] = [
    { inode: rootInode, children: root.children },
  ];
  // Directories wait in `pending`, so that depth costs no stack; each is read once, so that a cycle ends.
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    const entries = image.entries(next.inode);
    entriesLeft -= entries.length;
    if (entriesLeft < 0) throw new ErofsError('TOO_LARGE', `an image of more than ${ENTRIES_MAX} names`);
    for (const { name, nid } of entries) {
      let child = inodes.get(nid);
      if (child?.kind === 'directory') {
        throw new ErofsError(
          'CORRUPT',
          `the directory ${JSON.stringify(name)} (inode ${nid}) is linked twice`,
        );
      }
      if (child === undefined) {
        const inode = image.inode(nid);
        child = read(inode);
        inodes.set(nid, child);
        if (inodes.size > INODES_MAX)
          throw new ErofsError('TOO_LARGE', `an image of more than ${INODES_MAX} inodes`);
        if (child.kind === 'directory') pending.push({ inode, children: child.children });
      }
      next.children.set(name, child);
    }
  }
  return root;
}
