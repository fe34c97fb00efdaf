/** Random access to the tar in a compressed blob, by its checkpoints. */
import type { Checkpoints, Segment } from '../layer/checkpoints.js';
import { InflatedSegment } from './inflated-segment.js';
import { RangeJoiner, type ReadBytes, readPieces } from './range-joiner.js';
import { SourceError } from './source.js';
import { ZstdSegment } from './zstd-segment.js';

/** What is kept inflated, of all blobs of a source together. */
const MAX_KEPT_BYTES = 64 << 20;
/** A blob with longer segments is not read at random. */
const MAX_SEGMENT = 32 << 20;
/** Frames are decompressed as a whole. */
const MAX_ZSTD_SEGMENT = 8 << 20;

interface Kept {
  /** Bytes of memory. */
  readonly size: number;
  /** Reads under way. */
  readonly users: number;
}

/** What a segment gives, as far as somebody has read it. */
export interface KeptSegment extends Kept {
  /** The bytes `from` to `to` of the segment; a view. Throws SourceError CORRUPT, and what fetching throws. */
  read(from: number, to: number): Promise<Uint8Array>;
  /** Fetches what the first read will need. */
  prefetch(): void;
}

/** Segments in the order of their last use. */
export class SegmentMemory {
  readonly #kept = new Map<string, Kept>();
  #bytes = 0;

  has(key: string): boolean {
    return this.#kept.has(key);
  }

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
    const most = compression === 'zstd' ? MAX_ZSTD_SEGMENT : MAX_SEGMENT;
    return tarSize > 0 && segments.every((s) => s.outEnd - s.out <= most && s.inEnd - s.in <= most);
  }

  /** Bytes of the tar; a range beyond its end is CORRUPT. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const { compression, tarSize, segments, digest } = this.#checkpoints;
    if (offset + length > tarSize) {
      throw new SourceError('CORRUPT', `the recipe of blob ${digest} goes beyond the end of its tar`);
    }
    if (compression === 'plain') return this.#joiner.read(offset, length);
    return readPieces(offset, length, (at, last) => {
      const segment = segments[this.#checkpoints.segmentAt(at)] as Segment;
      const end = Math.min(segment.outEnd, last);
      return { bytes: this.#readSegment(segment, at - segment.out, end - segment.out), end };
    });
  }

  async #readSegment({ index }: Segment, from: number, to: number): Promise<Uint8Array> {
    const key = this.#key(index);
    const isFirst = !this.#memory.has(key);
    const segment = this.#kept(index);
    // Files that are used together lie together: the next segment comes with the same request.
    const isLast = index + 1 === this.#checkpoints.segments.length;
    if (isFirst && !isLast && !this.#memory.has(this.#key(index + 1))) this.#kept(index + 1).prefetch();
    try {
      return await segment.read(from, to);
    } catch (error) {
      // The bytes may have been damaged on the way: the next read starts anew.
      if (error instanceof SourceError && error.code === 'CORRUPT') this.#memory.drop(key);
      throw error;
    }
  }

  #key(index: number): string {
    return `${this.#checkpoints.digest} ${index}`;
  }

  #kept(index: number): KeptSegment {
    const read: ReadBytes = (offset, length) => this.#joiner.read(offset, length);
    const Kind = this.#checkpoints.compression === 'zstd' ? ZstdSegment : InflatedSegment;
    return this.#memory.get(
      this.#key(index),
      () => new Kind(this.#checkpoints, this.#checkpoints.segments[index] as Segment, read),
    );
  }
}
