/** The block digests of one layer VHD: docs/FORMAT.md, "Block digests". */
import { createHash } from 'node:crypto';
import { type DocumentFormat, decodeDocument } from './document.js';

export const DEFAULT_BLOCK_SIZE = 131072;
export const MIN_BLOCK_SIZE = 4096;
export const MAX_BLOCK_SIZE = 16 << 20;

const FORMAT: DocumentFormat = {
  magic: 'ORCADGST',
  version: 1,
  name: 'block digests',
  some: 'block digests',
  none: 'these are no block digests',
};
const DIGEST_SIZE = 32;
const DIFF_ID = /^sha256:[0-9a-f]{64}$/;

/** Offsets of the fields, in bytes; the digests follow the header. */
const OFFSETS = { magic: 0, version: 8, blockSize: 12, size: 16, diffID: 24, reserved: 56 } as const;
const HEADER_SIZE = 64;

/** True of what the format can hold: a power of two, MIN_BLOCK_SIZE to MAX_BLOCK_SIZE. */
export function isBlockSize(value: number): boolean {
  return value >= MIN_BLOCK_SIZE && value <= MAX_BLOCK_SIZE && (value & (value - 1)) === 0;
}

export class BlockDigests {
  /** `sha256:…` of the uncompressed tar. */
  readonly diffID: string;
  /** Bytes. */
  readonly blockSize: number;
  /** Length of the layer VHD in bytes, footer included. */
  readonly size: number;
  /** Number of blocks; the last one may be short. */
  readonly count: number;
  readonly #digests: Uint8Array;

  /** `digests` is the sha256 of each block, one after the other. Throws RangeError for what does not fit. */
  constructor(fields: { diffID: string; blockSize: number; size: number; digests: Uint8Array }) {
    this.diffID = fields.diffID;
    this.blockSize = fields.blockSize;
    this.size = fields.size;
    this.count = Math.ceil(fields.size / fields.blockSize);
    this.#digests = fields.digests;
    if (
      !DIFF_ID.test(this.diffID) ||
      !isBlockSize(this.blockSize) ||
      !Number.isSafeInteger(this.size) ||
      this.size <= 0 ||
      this.#digests.length !== this.count * DIGEST_SIZE
    ) {
      throw new RangeError(`block digests of ${this.diffID} that contradict themselves`);
    }
  }

  /** The sha256 of block `index`, 32 bytes. */
  digest(index: number): Uint8Array {
    this.#checkIndex(index);
    return this.#digests.subarray(index * DIGEST_SIZE, (index + 1) * DIGEST_SIZE);
  }

  /** The digests of `count` blocks from `first` on, one after the other. */
  range(first: number, count: number): Uint8Array {
    this.#checkIndex(first);
    this.#checkIndex(first + count - 1);
    return this.#digests.subarray(first * DIGEST_SIZE, (first + count) * DIGEST_SIZE);
  }

  /** Length of block `index` in bytes. */
  length(index: number): number {
    this.#checkIndex(index);
    return Math.min(this.blockSize, this.size - index * this.blockSize);
  }

  /** Whether `bytes` are exactly block `index`. */
  verify(index: number, bytes: Uint8Array): boolean {
    if (bytes.length !== this.length(index)) return false;
    return createHash('sha256').update(bytes).digest().equals(this.digest(index));
  }

  #checkIndex(index: number): void {
    if (!Number.isInteger(index) || index < 0 || index >= this.count) {
      throw new RangeError(`block ${index} of ${this.count}`);
    }
  }

  encode(): Uint8Array {
    const bytes = Buffer.alloc(HEADER_SIZE + this.#digests.length);
    bytes.write(FORMAT.magic, OFFSETS.magic, 'latin1');
    bytes.writeUInt32LE(FORMAT.version, OFFSETS.version);
    bytes.writeUInt32LE(this.blockSize, OFFSETS.blockSize);
    bytes.writeBigUInt64LE(BigInt(this.size), OFFSETS.size);
    bytes.write(this.diffID.slice('sha256:'.length), OFFSETS.diffID, 'hex');
    bytes.set(this.#digests, HEADER_SIZE);
    return bytes;
  }

  /** Throws LayerError CORRUPT. */
  static decode(encoded: Uint8Array): BlockDigests {
    return decodeDocument(encoded, FORMAT, (bytes) => {
      if (bytes.readBigUInt64LE(OFFSETS.reserved) !== 0n) throw new RangeError('reserved bytes are in use');
      return new BlockDigests({
        diffID: `sha256:${bytes.toString('hex', OFFSETS.diffID, OFFSETS.diffID + DIGEST_SIZE)}`,
        blockSize: bytes.readUInt32LE(OFFSETS.blockSize),
        size: Number(bytes.readBigUInt64LE(OFFSETS.size)),
        digests: bytes.subarray(HEADER_SIZE),
      });
    });
  }
}
