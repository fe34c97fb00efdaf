/**
 * Where in a gzip blob the data of a layer lie, in pieces that begin with a gzip member, each with its digest:
 * docs/FORMAT.md, "Chunk map". Together with the layer recipe, whose offsets of the tar count in the chunks one after
 * the other, it determines every byte of the layer VHD.
 */
import { digestOf } from '../oci/digest.js';
import { type DocumentFormat, decodeDocument } from './document.js';

const FORMAT: DocumentFormat = {
  magic: 'ORCACHNK',
  version: 1,
  name: 'chunk map',
  some: 'a chunk map',
  none: 'this is no chunk map',
};
/** Offsets of the fields of the header, and of one chunk, in bytes. */
const FIELDS = { magic: 0, version: 8, count: 12, blobSize: 16, recipe: 24 } as const;
const HEADER_SIZE = 56;
const CHUNK = { offset: 0, compressed: 8, skip: 12, length: 16, digest: 20 } as const;
const CHUNK_SIZE = 52;
const DIGEST_SIZE = 32;

/** A table of contents that is read has fewer. */
export const MAX_CHUNKS = 2 << 20;
/**
 * Bytes of one chunk, which are verified together. Chunks have 4 MiB unless who made the image wanted it otherwise.
 */
export const MAX_CHUNK_BYTES = 32 << 20;
/** Bytes that are inflated for nothing before a chunk: members of several chunks are small. */
export const MAX_SKIP = 4 << 20;

/** Bytes. */
export interface Chunk {
  /** In the blob, where a gzip member begins. */
  offset: number;
  /** Of the blob: enough to inflate to the end of the chunk. */
  compressed: number;
  /** Of the inflated data, before the chunk. */
  skip: number;
  /** Of the inflated data. */
  length: number;
  /** sha256 of the chunk, 32 bytes. */
  digest: Uint8Array;
}

export class ChunkMap {
  /** Bytes of all chunks, which is where the next would begin. */
  readonly size: number;
  /** Where each chunk begins, counted in chunks one after the other. */
  readonly #starts: Float64Array;

  private constructor(
    /** Digest of the encoded map. */
    readonly digest: string,
    readonly blobSize: number,
    /** Digest of the encoded recipe. */
    readonly recipe: string,
    readonly count: number,
    private readonly records: Buffer,
  ) {
    this.#starts = new Float64Array(count);
    let at = 0;
    for (let index = 0; index < count; index++) {
      this.#starts[index] = at;
      const { offset, compressed, skip, length } = this.chunk(index);
      const isInside = Number.isSafeInteger(offset) && compressed > 0 && offset + compressed <= blobSize;
      const isBounded = length > 0 && length <= MAX_CHUNK_BYTES && skip <= MAX_SKIP;
      if (!isInside || !isBounded || compressed > compressedBound(skip + length)) {
        throw new RangeError(`chunk ${index}`);
      }
      at += length;
    }
    this.size = at;
  }

  static encode(blobSize: number, recipe: string, chunks: readonly Chunk[]): Uint8Array {
    const bytes = Buffer.alloc(HEADER_SIZE + chunks.length * CHUNK_SIZE);
    bytes.write(FORMAT.magic, FIELDS.magic, 'latin1');
    bytes.writeUInt32LE(FORMAT.version, FIELDS.version);
    bytes.writeUInt32LE(chunks.length, FIELDS.count);
    bytes.writeBigUInt64LE(BigInt(blobSize), FIELDS.blobSize);
    bytes.write(recipe.slice('sha256:'.length), FIELDS.recipe, 'hex');
    for (const [index, { offset, compressed, skip, length, digest }] of chunks.entries()) {
      const at = HEADER_SIZE + index * CHUNK_SIZE;
      bytes.writeBigUInt64LE(BigInt(offset), at + CHUNK.offset);
      bytes.writeUInt32LE(compressed, at + CHUNK.compressed);
      bytes.writeUInt32LE(skip, at + CHUNK.skip);
      bytes.writeUInt32LE(length, at + CHUNK.length);
      bytes.set(digest, at + CHUNK.digest);
    }
    return bytes;
  }

  /** Throws LayerError CORRUPT. */
  static decode(encoded: Uint8Array): ChunkMap {
    return decodeDocument(encoded, FORMAT, (bytes) => {
      const count = bytes.readUInt32LE(FIELDS.count);
      const blobSize = Number(bytes.readBigUInt64LE(FIELDS.blobSize));
      if (count > MAX_CHUNKS || !Number.isSafeInteger(blobSize)) throw new RangeError('caps of a chunk map');
      if (bytes.length !== HEADER_SIZE + count * CHUNK_SIZE) throw new RangeError('length of a chunk map');
      const recipe = `sha256:${bytes.toString('hex', FIELDS.recipe, FIELDS.recipe + DIGEST_SIZE)}`;
      return new ChunkMap(digestOf(encoded), blobSize, recipe, count, bytes.subarray(HEADER_SIZE));
    });
  }

  /** `index` is below `count`. */
  chunk(index: number): Chunk {
    const { records } = this;
    const at = index * CHUNK_SIZE;
    return {
      offset: Number(records.readBigUInt64LE(at + CHUNK.offset)),
      compressed: records.readUInt32LE(at + CHUNK.compressed),
      skip: records.readUInt32LE(at + CHUNK.skip),
      length: records.readUInt32LE(at + CHUNK.length),
      digest: records.subarray(at + CHUNK.digest, at + CHUNK.digest + DIGEST_SIZE),
    };
  }

  /** Where chunk `index` begins, counted in chunks one after the other. */
  start(index: number): number {
    return this.#starts[index] as number;
  }

  /** The chunk that holds byte `at`, counted in chunks one after the other; RangeError beyond their end. */
  chunkAt(at: number): number {
    if (!(at >= 0 && at < this.size)) throw new RangeError(`byte ${at} of chunks of ${this.size}`);
    let low = 0;
    let high = this.count - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.start(middle) <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}

/** What `length` bytes take at most in a gzip member: stored blocks, as small as zlib makes them, and a long header. */
export function compressedBound(length: number): number {
  return length + Math.ceil(length / 1024) + (64 << 10);
}

/** True of an encoded chunk map, whatever else is wrong with it. */
export function isChunkMap(encoded: Uint8Array): boolean {
  return Buffer.from(encoded.subarray(0, FORMAT.magic.length)).toString('latin1') === FORMAT.magic;
}
