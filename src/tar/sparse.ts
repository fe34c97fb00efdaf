/** Maps of sparse files: old GNU format, and the pax formats 0.1 and 1.0 (GNU tar manual, "Sparse Formats"). */
import type { ByteString } from '../erofs/tree.js';
import { decodeNumber } from './header.js';
import { MAX_SPARSE_SEGMENTS, type SparseSegment, TarError } from './tar.js';

const NUMBER_WIDTH = 12;
const PAIR_WIDTH = 2 * NUMBER_WIDTH;

/** Bytes of pairs in an extension block of the old format; the flag for one more follows after them. */
export const EXTENSION_MAP_SIZE = 21 * PAIR_WIDTH;

/** Adds the pairs of an old GNU header or extension block; an empty pair ends them. */
export function addGnuSegments(segments: SparseSegment[], map: Uint8Array): void {
  for (let at = 0; at < map.length; at += PAIR_WIDTH) {
    const length = map.subarray(at + NUMBER_WIDTH, at + PAIR_WIDTH);
    if (length[0] === 0) return;
    addSegment(segments, {
      offset: decodeNumber(map.subarray(at, at + NUMBER_WIDTH), 'sparse offset'),
      length: decodeNumber(length, 'sparse length'),
    });
  }
}

function addSegment(segments: SparseSegment[], segment: SparseSegment): void {
  if (segments.length >= MAX_SPARSE_SEGMENTS) {
    throw new TarError('TOO_LARGE', `tar: sparse file of more than ${MAX_SPARSE_SEGMENTS} pieces`);
  }
  segments.push(segment);
}

/** The value of GNU.sparse.map: `offset,length,offset,length…`. */
export function parseSparseMap(text: ByteString): SparseSegment[] {
  const reader = new SparseNumberReader(0x2c);
  const segments: SparseSegment[] = [];
  if (text === '') return segments;
  for (const byte of Buffer.from(`${text},`, 'latin1')) addNumber(segments, reader, byte);
  if (reader.count % 2 !== 0) throw new TarError('INVALID_SPARSE', 'tar: sparse map of an odd length');
  return segments;
}

function addNumber(segments: SparseSegment[], reader: SparseNumberReader, byte: number): void {
  const value = reader.push(byte);
  if (value === undefined) return;
  if (reader.count % 2 === 1) addSegment(segments, { offset: value, length: 0 });
  else (segments.at(-1) as SparseSegment).length = value;
}

/** Decimal numbers, each ended by a separator, one byte at a time. */
class SparseNumberReader {
  count = 0;
  #value = -1;

  constructor(readonly separator: number) {}

  push(byte: number): number | undefined {
    if (byte === this.separator && this.#value >= 0) {
      const value = this.#value;
      this.#value = -1;
      this.count++;
      return value;
    }
    if (byte < 0x30 || byte > 0x39) throw new TarError('INVALID_SPARSE', 'tar: sparse map with a bad number');
    this.#value = Math.max(this.#value, 0) * 10 + (byte - 0x30);
    if (!Number.isSafeInteger(this.#value)) {
      throw new TarError('INVALID_SPARSE', 'tar: sparse map with a number beyond 53 bits');
    }
    return undefined;
  }
}

/** The map of format 1.0, which lies before the data: a count, then that many pairs, each number on a line. */
export class SparseMapReader {
  readonly segments: SparseSegment[] = [];
  done = false;
  readonly #reader = new SparseNumberReader(0x0a);
  #expected = -1;

  /** Takes the next block; what follows the map in its last block is padding. */
  push(block: Uint8Array): void {
    for (let i = 0; i < block.length && !this.done; i++) this.#pushByte(block[i] as number);
  }

  #pushByte(byte: number): void {
    if (this.#expected < 0) {
      const count = this.#reader.push(byte);
      if (count === undefined) return;
      if (count > MAX_SPARSE_SEGMENTS) {
        throw new TarError('TOO_LARGE', `tar: sparse file of more than ${MAX_SPARSE_SEGMENTS} pieces`);
      }
      this.#expected = count;
      this.#reader.count = 0;
    } else {
      addNumber(this.segments, this.#reader, byte);
    }
    this.done = this.#reader.count === 2 * this.#expected;
  }
}

/**
 * The pieces that have data, after checking that they ascend without overlap, lie in the file, and are as long
 * together as what the archive stores.
 */
export function checkSegments(
  segments: readonly SparseSegment[],
  realSize: number,
  storedSize: number,
): SparseSegment[] {
  let end = 0;
  let total = 0;
  for (const { offset, length } of segments) {
    if (offset < end || offset + length > realSize) {
      throw new TarError('INVALID_SPARSE', 'tar: sparse map with pieces out of order or beyond the file');
    }
    end = offset + length;
    total += length;
  }
  if (total !== storedSize) {
    throw new TarError('INVALID_SPARSE', `tar: sparse map of ${total} bytes, but ${storedSize} are stored`);
  }
  return segments.filter(({ length }) => length > 0);
}
