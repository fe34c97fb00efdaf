/** One segment of a zstd blob: some frames, decompressed as a whole when somebody reads of them. */
import { Readable } from 'node:stream';
import type { Checkpoints, Segment } from '../layer/checkpoints.js';
import { LayerError } from '../layer/layer-error.js';
import { decompressAside } from '../layer/layer-threads.js';
import type { KeptSegment } from './blob-tar.js';
import type { ReadBytes } from './range-joiner.js';
import { SourceError } from './source.js';

export class ZstdSegment implements KeptSegment {
  readonly #checkpoints: Checkpoints;
  readonly #segment: Segment;
  readonly #fetch: ReadBytes;
  #compressed: Promise<Uint8Array> | undefined;
  #bytes: Promise<Uint8Array> | undefined;
  users = 0;

  constructor(checkpoints: Checkpoints, segment: Segment, fetch: ReadBytes) {
    this.#checkpoints = checkpoints;
    this.#segment = segment;
    this.#fetch = fetch;
  }

  get size(): number {
    return this.#segment.outEnd - this.#segment.out;
  }

  prefetch(): void {
    this.#compressed ??= this.#fetch(this.#segment.in, this.#segment.inEnd - this.#segment.in);
    // Who reads hears of it.
    this.#compressed.catch(() => undefined);
  }

  async read(from: number, to: number): Promise<Uint8Array> {
    this.users++;
    try {
      this.#bytes ??= this.#decompress();
      return (await this.#bytes).subarray(from, to);
    } catch (error) {
      this.#bytes = undefined;
      this.#compressed = undefined;
      throw error;
    } finally {
      this.users--;
    }
  }

  async #decompress(): Promise<Uint8Array> {
    this.prefetch();
    const compressed = (await this.#compressed) as Uint8Array;
    this.#compressed = undefined;
    const bytes = Buffer.allocUnsafeSlow(this.size);
    let filled = 0;
    try {
      for await (const chunk of decompressAside(Readable.from([compressed]), true)) {
        if (filled + chunk.length > bytes.length) throw this.#corrupt('a segment is too long');
        bytes.set(chunk, filled);
        filled += chunk.length;
      }
    } catch (cause) {
      throw cause instanceof LayerError ? this.#corrupt(cause.message, cause) : cause;
    }
    if (filled < bytes.length) throw this.#corrupt('a segment is too short');
    return bytes;
  }

  #corrupt(what: string, cause?: unknown): SourceError {
    return new SourceError('CORRUPT', `blob ${this.#checkpoints.digest}: ${what}`, { cause });
  }
}
