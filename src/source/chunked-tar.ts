/** Random access to the chunks of a gzip blob, by its chunk map. What it gives has been verified, chunk by chunk. */
import { createHash } from 'node:crypto';
import type { Chunk, ChunkMap } from '../layer/chunk-map.js';
import { InflateError, Inflater } from '../native/inflate.js';
import type { SegmentMemory } from './blob-tar.js';
import { RangeJoiner, type ReadBytes } from './range-joiner.js';
import { SourceError } from './source.js';

export class ChunkedTar {
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
    const pieces: Promise<Uint8Array>[] = [];
    for (let at = offset; at < offset + length; ) {
      const index = this.#map.chunkAt(at);
      const start = this.#map.start(index);
      const chunk = this.#map.chunk(index);
      const end = Math.min(start + chunk.length, offset + length);
      pieces.push(this.#readChunk(index, chunk, at - start, end - start));
      at = end;
    }
    await Promise.allSettled(pieces);
    return Buffer.concat(await Promise.all(pieces));
  }

  async #readChunk(index: number, chunk: Chunk, from: number, to: number): Promise<Uint8Array> {
    const key = `${this.#map.digest} ${index}`;
    const piece = this.#memory.get(
      key,
      () => new VerifiedChunk(chunk, (offset, length) => this.#joiner.read(offset, length)),
    );
    try {
      return await piece.read(from, to);
    } catch (error) {
      // The next read fetches it anew.
      this.#memory.drop(key);
      throw error;
    }
  }
}

class VerifiedChunk {
  readonly #chunk: Chunk;
  readonly #bytes: Promise<Uint8Array>;
  /** Reads under way. */
  users = 0;

  constructor(chunk: Chunk, fetch: ReadBytes) {
    this.#chunk = chunk;
    this.#bytes = this.#load(fetch);
    this.#bytes.catch(() => undefined);
  }

  /** Bytes of memory. */
  get size(): number {
    return this.#chunk.skip + this.#chunk.length;
  }

  async read(from: number, to: number): Promise<Uint8Array> {
    this.users++;
    try {
      return (await this.#bytes).subarray(from, to);
    } finally {
      this.users--;
    }
  }

  async #load(fetch: ReadBytes): Promise<Uint8Array> {
    const { offset, compressed, skip, digest } = this.#chunk;
    const bytes = (await inflate(await fetch(offset, compressed), this.size)).subarray(skip);
    if (createHash('sha256').update(bytes).digest().equals(digest)) return bytes;
    throw new SourceError('CORRUPT', `the chunk at byte ${offset} of the blob does not match its digest`);
  }
}

/** The first `size` bytes of what the gzip members are. */
async function inflate(compressed: Uint8Array, size: number): Promise<Uint8Array> {
  const output = Buffer.allocUnsafeSlow(size);
  const inflater = new Inflater();
  let input = compressed;
  try {
    for (let filled = 0; filled < size; ) {
      const step = await inflater.run(input, output.subarray(filled));
      filled += step.produced;
      input = input.subarray(step.consumed);
      if (filled < size && step.needsInput && input.length === 0) {
        throw new SourceError('CORRUPT', 'a chunk of the blob is cut short');
      }
    }
  } catch (cause) {
    if (!(cause instanceof InflateError)) throw cause;
    throw new SourceError('CORRUPT', `a chunk of the blob: ${cause.message}`, { cause });
  }
  return output;
}
