/** The block digests of one layer VHD: docs/FORMAT.md, "Block digests". */
import { createHash } from 'node:crypto';
import { digestOf } from '../oci/digest.js';
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
/** Of a layer whose blocks have no digests: the sha256 of its chunk map stands in their place. */
const CHUNKED_FORMAT: DocumentFormat = { ...FORMAT, version: 2 };
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
  /** `sha256:…` of the chunk map (chunk-map.ts) by which a source verifies the layer; then no block has a digest. */
  readonly chunkMap: string | undefined;
  readonly #digests: Uint8Array;
  #name: string | undefined;

  /** `digests` is the sha256 of each block, one after the other. Throws RangeError for what does not fit. */
  constructor(
    fields: { diffID: string; blockSize: number; size: number } & (
      | { digests: Uint8Array }
      | { chunkMap: string }
    ),
  ) {
    this.diffID = fields.diffID;
    this.blockSize = fields.blockSize;
    this.size = fields.size;
    this.count = Math.ceil(fields.size / fields.blockSize);
    this.chunkMap = 'chunkMap' in fields ? fields.chunkMap : undefined;
    this.#digests = 'digests' in fields ? fields.digests : new Uint8Array();
    if (
      !DIFF_ID.test(this.diffID) ||
      !isBlockSize(this.blockSize) ||
      !Number.isSafeInteger(this.size) ||
      this.size <= 0 ||
      (this.chunkMap === undefined
        ? this.#digests.length !== this.count * DIGEST_SIZE
        : !DIFF_ID.test(this.chunkMap))
    ) {
      throw new RangeError(`block digests of ${this.diffID} that contradict themselves`);
    }
  }

  /** The sha256 of block `index`, 32 bytes. RangeError of a layer with a chunk map. */
  digest(index: number): Uint8Array {
    this.#checkIndex(index);
    this.#checkDigests();
    return this.#digests.subarray(index * DIGEST_SIZE, (index + 1) * DIGEST_SIZE);
  }

  /** The digests of `count` blocks from `first` on, one after the other. */
  range(first: number, count: number): Uint8Array {
    this.#checkIndex(first);
    this.#checkIndex(first + count - 1);
    this.#checkDigests();
    return this.#digests.subarray(first * DIGEST_SIZE, (first + count) * DIGEST_SIZE);
  }

  /** Length of block `index` in bytes. */
  length(index: number): number {
    this.#checkIndex(index);
    return Math.min(this.blockSize, this.size - index * this.blockSize);
  }

  /** Whether `bytes` are exactly block `index`, as far as that can be known: never of a layer with a chunk map. */
  verify(index: number, bytes: Uint8Array): boolean {
    if (bytes.length !== this.length(index) || this.chunkMap !== undefined) return false;
    return createHash('sha256').update(bytes).digest().equals(this.digest(index));
  }

  #checkIndex(index: number): void {
    if (!Number.isInteger(index) || index < 0 || index >= this.count) {
      throw new RangeError(`block ${index} of ${this.count}`);
    }
  }

  #checkDigests(): void {
    if (this.chunkMap !== undefined) throw new RangeError(`layer ${this.diffID} has no digests of blocks`);
  }

  /** `sha256:…` of the encoded document: what the cache and the teleport artifact know the layer by. */
  get name(): string {
    this.#name ??= digestOf(this.encode());
    return this.#name;
  }

  /** Bytes of the encoded document. */
  get encodedSize(): number {
    return HEADER_SIZE + (this.chunkMap === undefined ? this.#digests.length : DIGEST_SIZE);
  }

  encode(): Uint8Array {
    const digests = this.chunkMap === undefined ? this.#digests : rawDigest(this.chunkMap);
    const { magic, version } = this.chunkMap === undefined ? FORMAT : CHUNKED_FORMAT;
    const bytes = Buffer.alloc(this.encodedSize);
    bytes.write(magic, OFFSETS.magic, 'latin1');
    bytes.writeUInt32LE(version, OFFSETS.version);
    bytes.writeUInt32LE(this.blockSize, OFFSETS.blockSize);
    bytes.writeBigUInt64LE(BigInt(this.size), OFFSETS.size);
    bytes.set(rawDigest(this.diffID), OFFSETS.diffID);
    bytes.set(digests, HEADER_SIZE);
    return bytes;
  }

  /** `name`: `sha256:…` of these bytes, where it is known. Throws LayerError CORRUPT. */
  static decode(encoded: Uint8Array, name?: string): BlockDigests {
    const isChunked = encoded[OFFSETS.version] === CHUNKED_FORMAT.version;
    const decoded = decodeDocument(encoded, isChunked ? CHUNKED_FORMAT : FORMAT, (bytes) => {
      if (bytes.readBigUInt64LE(OFFSETS.reserved) !== 0n) throw new RangeError('reserved bytes are in use');
      const digests = bytes.subarray(HEADER_SIZE);
      return new BlockDigests({
        diffID: `sha256:${bytes.toString('hex', OFFSETS.diffID, OFFSETS.diffID + DIGEST_SIZE)}`,
        blockSize: bytes.readUInt32LE(OFFSETS.blockSize),
        size: Number(bytes.readBigUInt64LE(OFFSETS.size)),
        ...(isChunked ? { chunkMap: `sha256:${digests.toString('hex')}` } : { digests }),
      });
    });
    decoded.#name = name;
    return decoded;
  }
}

function rawDigest(digest: string): Uint8Array {
  return Buffer.from(digest.slice('sha256:'.length), 'hex');
}
