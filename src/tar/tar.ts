/**
 * What a tar archive is to the rest of Orca: the entries and events of the parser, its errors and its limits.
 *
 * Formats: V7, ustar, POSIX pax, GNU (with the old and all pax forms of sparse files) and star. Specifications:
 * POSIX.1-2017 `pax`, and "Basic Tar Format" and "Sparse Formats" of the GNU tar manual.
 */
import type { ByteString } from '../erofs/tree.js';
import { OrcaError } from '../errors.js';

/**
 * Codes: INVALID_HEADER, INVALID_PAX, INVALID_SPARSE, TRUNCATED, TOO_LARGE (a named limit of this file, or a
 * number that is no safe integer), UNSUPPORTED.
 */
export class TarError extends OrcaError {}

/** Headers and data are padded to multiples of this, in bytes. */
export const TAR_BLOCK_SIZE = 512;

/** Data of a GNU long name (`L`, `K`) in bytes: Go's archive/tar, which container engines use, has this limit. */
export const MAX_LONG_NAME_SIZE = 1 << 20;

/**
 * One extended header, and all global headers together, in bytes. Some 100 xattrs of the kernel's maximum of
 * 64 KiB are less, and so is a 0.1 sparse map of 500,000 pieces.
 */
export const MAX_PAX_SIZE = 16 << 20;

/** Pieces of a sparse file: a file of 16 GiB of which every second block of 4 KiB is a hole has 2 million. */
export const MAX_SPARSE_SEGMENTS = 1 << 21;

export type TarEntryType = 'file' | 'hardlink' | 'symlink' | 'chardev' | 'blockdev' | 'directory' | 'fifo';

/** A piece of a sparse file that has data, in bytes. */
export interface SparseSegment {
  offset: number;
  length: number;
}

export interface TarEntry {
  type: TarEntryType;
  /** As in the archive: not cleaned, not checked, but without NUL and not empty. */
  name: ByteString;
  /** Target of hardlink and symlink, otherwise empty. */
  linkname: ByteString;
  /** Permission bits, 0 to 0o7777. */
  mode: number;
  uid: number;
  gid: number;
  /** Bytes of the file as its reader sees it, holes included; 0 unless type is `file`. */
  size: number;
  /** Nanoseconds since 1970, may be negative; within 64 bits when counted in seconds. */
  mtime: bigint;
  /** 0 unless type is `chardev` or `blockdev`. */
  major: number;
  minor: number;
  /** Of SCHILY.xattr and LIBARCHIVE.xattr, all namespaces. */
  xattrs: ReadonlyMap<ByteString, Uint8Array>;
  /** What of a sparse file is stored, ascending, without overlap; absent when all of it is. */
  segments?: readonly SparseSegment[];
  /** Offset in the archive of the stored data, and its length without padding, in bytes. */
  dataOffset: number;
  storedSize: number;
}

export type TarEvent =
  /** A file's `data` events follow, those of other entries do not exist. */
  | { kind: 'entry'; entry: TarEntry }
  /** A view of the pushed chunk, to be used before the next event is taken; `offset` is that in the file. */
  | { kind: 'data'; offset: number; bytes: Uint8Array }
  /** All data of the last entry has been given; follows every `entry`. */
  | { kind: 'end' }
  /** Something was ignored; the message names it. */
  | { kind: 'warning'; message: string };

/** A name as messages show it: quoted, control characters escaped, long ones shortened. */
export function quoteName(name: ByteString): string {
  const text = Buffer.from(name, 'latin1').toString('utf8');
  return JSON.stringify(text.length > 300 ? `${text.slice(0, 140)}…${text.slice(-140)}` : text);
}
