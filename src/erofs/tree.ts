/**
 * The tree of a file system as the EROFS writer takes it and the reader gives it: what layer expansion builds,
 * what the merge combines, and what tests compare.
 */

/**
 * A string that holds one byte per character (code points 0 to 255, `latin1`). File names, link targets and
 * xattr names are byte strings, since they need not be UTF-8, and JavaScript compares them in byte order.
 */
export type ByteString = string;

/** File system block of every EROFS image that Orca writes, in bytes; extents are counted in it. */
export const BLOCK_SIZE = 4096;

/** A run of blocks of a regular file. Bytes of the file that no extent covers are a hole. */
export interface FileExtent {
  /** Offset in the file, in bytes, a multiple of BLOCK_SIZE. */
  fileOffset: number;
  /** 0: the image itself; n: the n-th device of its device table (in an image index, layer n - 1). */
  device: number;
  /** First block on that device. */
  block: number;
  /** Number of blocks; the last one of the file may be used in part. */
  blocks: number;
}

/** What all kinds of inode have. One object stands for one inode: hard links are references to the same object. */
export interface InodeAttributes {
  /** Permission bits with setuid, setgid and sticky (0 to 0o7777); the type is `kind`. */
  mode: number;
  uid: number;
  gid: number;
  /** Nanoseconds since 1970, may be negative. */
  mtime: bigint;
  /** Full names, such as `security.capability`. */
  xattrs: ReadonlyMap<ByteString, Uint8Array>;
}

export interface RegularFile extends InodeAttributes {
  kind: 'file';
  /** Bytes. */
  size: number;
  /** In ascending order of fileOffset, without overlap. */
  extents: readonly FileExtent[];
}

export interface Directory extends InodeAttributes {
  kind: 'directory';
  /** Without `.` and `..`. Names are 1 to 255 bytes, without `/` and NUL. */
  children: Map<ByteString, Inode>;
}

export interface SymbolicLink extends InodeAttributes {
  kind: 'symlink';
  target: ByteString;
}

export interface SpecialFile extends InodeAttributes {
  kind: 'chardev' | 'blockdev' | 'fifo' | 'socket';
  /** 0/0 for fifo and socket. */
  major: number;
  minor: number;
}

export type Inode = RegularFile | Directory | SymbolicLink | SpecialFile;

/** True of overlayfs's mark that a name of the layers below is deleted: a character device 0/0. */
export function isWhiteout(inode: Inode): boolean {
  return inode.kind === 'chardev' && inode.major === 0 && inode.minor === 0;
}

/** The xattr with which overlayfs marks a directory that hides what the layers below have in it; value `y`. */
export const OPAQUE_XATTR = 'trusted.overlay.opaque';

/**
 * The xattr of an empty regular file that stands for a hard link whose target is not in the same layer: the
 * value is the target's path from the root, without leading slash. The merge resolves it against the layers
 * below. (Docker resolves such links by linking into the mounted lower layers, which one layer alone cannot.)
 */
export const HARDLINK_XATTR = 'trusted.orca.hardlink';

/**
 * The xattr, with an empty value, of a directory that a layer has only because something lies in it, not as an
 * entry of the tar. The merge gives such a directory the attributes of the layers below, as container engines do
 * that extract one layer over the other.
 */
export const IMPLICIT_XATTR = 'trusted.orca.implicit';
