/**
 * Where in a compressed blob decompressing can begin: docs/FORMAT.md, "Inflate checkpoints".
 *
 * Between two of them lies a segment: some range of the blob that gives some range of the tar.
 */
import { inflateRawSync } from 'node:zlib';
import { WINDOW_SIZE } from '../native/inflate.js';
import { type DocumentFormat, damaged, decodeDocument } from './document.js';

export const CHECKPOINTS_FORMAT: DocumentFormat = {
  magic: 'ORCACKPT',
  version: 1,
  name: 'inflate checkpoints',
  some: 'inflate checkpoints',
  none: 'these are no inflate checkpoints',
};
/** Offsets of the fields of the header, in bytes. */
export const CHECKPOINTS_FIELDS = {
  magic: 0,
  version: 8,
  count: 12,
  blobSize: 16,
  tarSize: 24,
  digest: 32,
  compression: 64,
} as const;
export const CHECKPOINTS_HEADER_SIZE = 72;
/** Offsets of the fields of one checkpoint. */
export const CHECKPOINT_FIELDS = { in: 0, out: 8, windowBytes: 16, bits: 20, kind: 21 } as const;
export const CHECKPOINT_SIZE = 24;
export const COMPRESSIONS = ['plain', 'gzip', 'zstd'] as const;
/** In the middle of a deflate stream, with a window; or at the beginning of a gzip member or a zstd frame. */
export const CHECKPOINT_KIND = { window: 0, beginning: 1 } as const;

/** The recorder doubles the distance rather than have more. */
export const MAX_CHECKPOINTS = 4096;
/** A window that does not compress has a few bytes more. */
export const MAX_WINDOW_BYTES = WINDOW_SIZE + 64;
export const MAX_CHECKPOINTS_BYTES =
  CHECKPOINTS_HEADER_SIZE + MAX_CHECKPOINTS * (CHECKPOINT_SIZE + MAX_WINDOW_BYTES);

const DIGEST_SIZE = 32;

/** From one checkpoint to the next, or the end; bytes of the blob (`in`) and of the tar (`out`). */
export interface Segment {
  index: number;
  in: number;
  inEnd: number;
  out: number;
  outEnd: number;
  /** 0 to 7: as many high bits of the byte before `in` belong to the segment. */
  bits: number;
  /** Decompressing begins with a member or frame, and needs no window. */
  isBeginning: boolean;
}

export class Checkpoints {
  /** Of the compressed blob. */
  readonly digest: string;
  readonly compression: (typeof COMPRESSIONS)[number];
  readonly blobSize: number;
  readonly tarSize: number;
  /** Of the whole tar, in order; never empty. */
  readonly segments: readonly Segment[];
  readonly #windows: readonly Uint8Array[];

  private constructor(
    fields: Pick<Checkpoints, 'digest' | 'compression' | 'blobSize' | 'tarSize' | 'segments'>,
    windows: readonly Uint8Array[],
  ) {
    this.digest = fields.digest;
    this.compression = fields.compression;
    this.blobSize = fields.blobSize;
    this.tarSize = fields.tarSize;
    this.segments = fields.segments;
    this.#windows = windows;
  }

  /** Throws LayerError CORRUPT. */
  static decode(encoded: Uint8Array): Checkpoints {
    return decodeDocument(encoded, CHECKPOINTS_FORMAT, Checkpoints.#decode);
  }

  static #decode(bytes: Buffer): Checkpoints {
    const at = CHECKPOINTS_FIELDS;
    const count = bytes.readUInt32LE(at.count);
    const compression = COMPRESSIONS[bytes.readUInt8(at.compression)];
    const blobSize = Number(bytes.readBigUInt64LE(at.blobSize));
    const tarSize = Number(bytes.readBigUInt64LE(at.tarSize));
    check(count <= MAX_CHECKPOINTS && compression !== undefined);
    check(Number.isSafeInteger(blobSize) && Number.isSafeInteger(tarSize));
    const segments: Segment[] = [];
    const windows: Uint8Array[] = [new Uint8Array()];
    let start = { in: 0, out: 0, bits: 0, isBeginning: true };
    const end = (inEnd: number, outEnd: number): void => {
      check(inEnd >= start.in && outEnd >= start.out);
      segments.push({ ...start, index: segments.length, inEnd, outEnd });
    };
    let windowAt = CHECKPOINTS_HEADER_SIZE + count * CHECKPOINT_SIZE;
    for (let i = 0; i < count; i++) {
      const record = bytes.subarray(CHECKPOINTS_HEADER_SIZE + i * CHECKPOINT_SIZE);
      const input = Number(record.readBigUInt64LE(CHECKPOINT_FIELDS.in));
      const out = Number(record.readBigUInt64LE(CHECKPOINT_FIELDS.out));
      const bits = record.readUInt8(CHECKPOINT_FIELDS.bits);
      const kind = record.readUInt8(CHECKPOINT_FIELDS.kind);
      const windowBytes = record.readUInt32LE(CHECKPOINT_FIELDS.windowBytes);
      check(input > 0 && input <= blobSize && out <= tarSize && bits <= 7 && kind <= 1);
      check(windowBytes <= MAX_WINDOW_BYTES && windowAt + windowBytes <= bytes.length);
      end(input, out);
      start = { in: input, out, bits, isBeginning: kind === CHECKPOINT_KIND.beginning };
      windows.push(bytes.subarray(windowAt, windowAt + windowBytes));
      windowAt += windowBytes;
    }
    check(windowAt === bytes.length);
    end(blobSize, tarSize);
    const digest = `sha256:${bytes.toString('hex', at.digest, at.digest + DIGEST_SIZE)}`;
    return new Checkpoints(
      { digest, compression: compression ?? 'plain', blobSize, tarSize, segments },
      windows,
    );
  }

  /** Index of the segment that holds byte `out` of the tar; RangeError beyond its end. */
  segmentAt(out: number): number {
    if (!(out >= 0 && out < this.tarSize)) throw new RangeError(`byte ${out} of a tar of ${this.tarSize}`);
    let low = 0;
    let high = this.segments.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.segments[middle] as Segment).outEnd > out) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** What the tar has before a segment, at most WINDOW_SIZE bytes. Throws LayerError CORRUPT. */
  window(index: number): Uint8Array {
    const compressed = this.#windows[index] as Uint8Array;
    if (compressed.length === 0) return compressed;
    try {
      return inflateRawSync(compressed, { maxOutputLength: WINDOW_SIZE });
    } catch (cause) {
      throw damaged(CHECKPOINTS_FORMAT.name, cause);
    }
  }
}

function check(condition: boolean): void {
  if (!condition) throw new RangeError('inflate checkpoints that contradict themselves');
}
