import { ErofsError } from './erofs-error.js';

/**
 * Reads `length` bytes at `offset` of an image, synchronously; throws ErofsError TRUNCATED beyond the end. The
 * bytes may be a view into a cache: they do not change, but whoever keeps a few of them should copy them.
 */
export type ReadAt = (offset: number, length: number) => Uint8Array;

/** Checks that a range lies within `size` bytes; `what` names it in the error. */
export function checkRange(what: string, offset: number, length: number, size: number): void {
  if (!(offset >= 0 && length >= 0 && offset + length <= size)) {
    throw new ErofsError(
      'TRUNCATED',
      `${what} lies at byte ${offset}, beyond the ${size} bytes of the image`,
    );
  }
}

/** A ReadAt of bytes in memory. */
export function bytesReader(bytes: Uint8Array): ReadAt {
  return (offset, length) => {
    checkRange('a read', offset, length, bytes.length);
    return bytes.subarray(offset, offset + length);
  };
}
