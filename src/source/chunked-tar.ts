/** Random access to the chunks of a gzip blob, by its chunk map. What it gives has been verified, chunk by chunk. */
import { createHash } from 'node:crypto';
import type { Chunk, ChunkMap } from '../layer/chunk-map.js';
import { InflateError, Inflater } from '../native/inflate.js';
import type { SegmentMemory } from './blob-tar.js';
import { RangeJoiner, type ReadBytes, readPieces } from './range-joiner.js';
import { SourceError } from './source.js';

/** Compressed bytes that are in memory at once, of one layer: a hostile map has many chunks in the same bytes. */
const MAX_UNDER_WAY = 16 << 20;
/** What comes before a chunk is inflated into this many bytes, again and again. */
const SCRATCH_SIZE = 64 << 10;

export class ChunkedTar {
  readonly #budget = new Budget(MAX_UNDER_WAY);
  readonly #map: ChunkMap;
  readonly #memory: SegmentMemory;
  readonly #joiner: RangeJoiner;

  constructor(map: ChunkMap, memory: SegmentMemory, read: ReadBytes) {
    this.#map = map;
    this.#memory = memory;
    this.#joiner = new RangeJoiner(read);
  }

  /** `offset` counts in chunks one after the other; a range beyond their end is CORRUPT. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const { size, digest } = this.#map;
    if (offset + length > size) {
      throw new SourceError('CORRUPT', `a recipe goes beyond the end of chunk map ${digest}`);
    }
    return readPieces(offset, length, (at, last) => {
      const index = this.#map.chunkAt(at);
      const start = this.#map.start(index);
      const chunk = this.#map.chunk(index);
      const end = Math.min(start + chunk.length, last);
      return { bytes: this.#readChunk(index, chunk, at - start, end - start), end };
    });
  }

  async #readChunk(index: number, chunk: Chunk, from: number, to: number): Promise<Uint8Array> {
    const key = `${this.#map.digest} ${index}`;
    const piece = this.#memory.get(key, () => new VerifiedChunk(chunk, this.#load(chunk)));
    try {
      return await piece.read(from, to);
    } catch (error) {
      // The next read fetches it anew.
      this.#memory.drop(key);
      throw error;
    }
  }

  async #load({ offset, compressed, skip, length, digest }: Chunk): Promise<Uint8Array> {
    await this.#budget.take(compressed);
    try {
      const bytes = await inflate(await this.#joiner.read(offset, compressed), skip, length);
      if (createHash('sha256').update(bytes).digest().equals(digest)) return bytes;
    } finally {
      this.#budget.give(compressed);
    }
    throw new SourceError('CORRUPT', `the chunk at byte ${offset} of the blob does not match its digest`);
  }
}

class VerifiedChunk {
  /** Bytes of memory. */
  readonly size: number;
  /** Reads under way. */
  users = 0;
  readonly #bytes: Promise<Uint8Array>;

  constructor({ length }: Chunk, bytes: Promise<Uint8Array>) {
    this.size = length;
    this.#bytes = bytes;
    bytes.catch(() => undefined);
  }

  async read(from: number, to: number): Promise<Uint8Array> {
    this.users++;
    try {
      return (await this.#bytes).subarray(from, to);
    } finally {
      this.users--;
    }
  }
}

/** Hands out bytes in the order of the questions; to who asks for more than there are, when nobody has any. */
class Budget {
  #free: number;
  #waiting: { bytes: number; resolve(): void }[] = [];

  constructor(private readonly total: number) {
    this.#free = total;
  }

  take(bytes: number): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push({ bytes, resolve });
      this.#serve();
    });
  }

  give(bytes: number): void {
    this.#free += bytes;
    this.#serve();
  }

  #serve(): void {
    for (let [next] = this.#waiting; next !== undefined; [next] = this.#waiting) {
      if (next.bytes > this.#free && this.#free < this.total) return;
      this.#waiting.shift();
      this.#free -= next.bytes;
      next.resolve();
    }
  }
}

/** `length` bytes of what the gzip members are, after `skip` others. */
async function inflate(compressed: Uint8Array, skip: number, length: number): Promise<Uint8Array> {
  const output = Buffer.allocUnsafeSlow(length);
  const scratch = Buffer.allocUnsafeSlow(Math.min(skip, SCRATCH_SIZE));
  const inflater = new Inflater();
  let input = compressed;
  try {
    for (let at = 0; at < skip + length; ) {
      const target = at < skip ? scratch.subarray(0, skip - at) : output.subarray(at - skip);
      const step = await inflater.run(input, target);
      at += step.produced;
      input = input.subarray(step.consumed);
      if (at < skip + length && step.needsInput && input.length === 0) {
        throw new SourceError('CORRUPT', 'a chunk of the blob is cut short');
      }
    }
  } catch (cause) {
    if (!(cause instanceof InflateError)) throw cause;
    throw new SourceError('CORRUPT', `a chunk of the blob: ${cause.message}`, { cause });
  }
  return output;
}
