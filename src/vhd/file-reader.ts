import { fstatSync, readSync } from 'node:fs';
import { LRUCache } from 'lru-cache';
import { checkRange, type ReadAt } from '../erofs/read-at.js';

/** Metadata is read in small pieces that lie together: 4 MiB in all. */
const PAGE_SIZE = 1 << 16;
const PAGES_KEPT = 64;

/**
 * Reads an open file with pread(2), keeping a few of its pages. The caller closes the descriptor, and the file
 * must not change meanwhile. The ReadAt throws ErofsError TRUNCATED beyond the end of the file.
 */
export function fileReader(fd: number): ReadAt {
  const { size } = fstatSync(fd);
  const pages = new LRUCache<number, Uint8Array>({ max: PAGES_KEPT });

  const read = (offset: number, length: number): Uint8Array => {
    const bytes = Buffer.allocUnsafe(length);
    for (let done = 0; done < length; ) {
      const count = readSync(fd, bytes, done, length - done, offset + done);
      if (count === 0) checkRange('a read', offset, length, offset + done);
      done += count;
    }
    return bytes;
  };

  return (offset, length) => {
    checkRange('a read', offset, length, size);
    const page = Math.floor(offset / PAGE_SIZE);
    const start = page * PAGE_SIZE;
    if (offset + length > start + PAGE_SIZE) return read(offset, length);
    let bytes = pages.get(page);
    if (bytes === undefined) {
      bytes = read(start, Math.min(PAGE_SIZE, size - start));
      pages.set(page, bytes);
    }
    return bytes.subarray(offset - start, offset - start + length);
  };
}
