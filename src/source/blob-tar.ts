/** Random access to the tar in a compressed blob, by its checkpoints. */
import type { Checkpoints, Segment } from '../layer/checkpoints.js';
import { InflatedSegment } from './inflated-segment.js';
import { RangeJoiner, type ReadBytes } from './range-joiner.js';
import { SourceError } from './source.js';

/** What is kept inflated, of all blobs of a source together. */
const MAX_KEPT_BYTES = 64 << 20;
/** A blob with longer segments is not read at random. */
const MAX_SEGMENT = 32 << 20;

/** What is kept: bytes of memory, and reads under way. */
interface Kept {
  size: number;
  users: number;
}

/** Segments in the order of their last use. */
export class SegmentMemory {
  readonly #kept = new Map<string, Kept>();
  #bytes = 0;

  /** `key` says what kind of segment it is, too. */
  get<T extends Kept>(key: string, make: () => T): T {
    const known = this.#kept.get(key) as T | undefined;
    const segment = known ?? make();
    this.#kept.delete(key);
    this.#kept.set(key, segment);
    if (known === undefined) {
      this.#bytes += segment.size;
      this.#shrink(key);
    }
    return segment;
  }

  drop(key: string): void {
    const segment = this.#kept.get(key);
    if (segment === undefined) return;
    this.#kept.delete(key);
    this.#bytes -= segment.size;
  }

  #shrink(kept: string): void {
    for (const [key, { users }] of this.#kept) {
      if (this.#bytes <= MAX_KEPT_BYTES) return;
      if (users === 0 && key !== kept) this.drop(key);
    }
  }
}

export class BlobTar {
  readonly #checkpoints: Checkpoints;
  readonly #memory: SegmentMemory;
  readonly #joiner: RangeJoiner;

  constructor(checkpoints: Checkpoints, memory: SegmentMemory, read: ReadBytes) {
    this.#checkpoints = checkpoints;
    this.#memory = memory;
    this.#joiner = new RangeJoiner(read);
  }

  /** Whether the checkpoints make random access worth while. */
  static isPossible({ compression, segments, tarSize }: Checkpoints): boolean {
    if (compression === 'plain') return true;
    return (
      compression === 'gzip' &&
      segments.every(({ out, outEnd }) => outEnd - out <= MAX_SEGMENT) &&
      tarSize > 0
    );
  }

  /** Bytes of the tar; a range beyond its end is CORRUPT. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const { compression, tarSize, segments, digest } = this.#checkpoints;
    if (offset + length > tarSize) {
      throw new SourceError('CORRUPT', `the recipe of blob ${digest} goes beyond the end of its tar`);
    }
    if (compression === 'plain') return this.#joiner.read(offset, length);
    const pieces: Promise<Uint8Array>[] = [];
    for (let at = offset; at < offset + length; ) {
      const segment = segments[this.#checkpoints.segmentAt(at)] as Segment;
      const end = Math.min(segment.outEnd, offset + length);
      pieces.push(this.#readSegment(segment, at - segment.out, end - segment.out));
      at = end;
    }
    await Promise.allSettled(pieces);
    return Buffer.concat(await Promise.all(pieces));
  }

  async #readSegment(segment: Segment, from: number, to: number): Promise<Uint8Array> {
    const key = `${this.#checkpoints.digest} ${segment.index}`;
    const read: ReadBytes = (offset, length) => this.#joiner.read(offset, length);
    const make = () => new InflatedSegment(this.#checkpoints, segment, read);
    try {
      return await this.#memory.get(key, make).read(from, to);
    } catch (error) {
      // The bytes may have been damaged on the way: the next read starts anew.
      if (error instanceof SourceError && error.code === 'CORRUPT') this.#memory.drop(key);
      throw error;
    }
  }
}
