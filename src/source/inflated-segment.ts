/**
 * One segment of a gzip blob, inflated from its checkpoint as far as somebody has read. It goes on where it is, so
 * bytes are fetched and inflated once while it is kept.
 */
import type { Checkpoints, Segment } from '../layer/checkpoints.js';
import { InflateError, Inflater } from '../native/inflate.js';
import type { ReadBytes } from './range-joiner.js';
import { SourceError } from './source.js';

/** More compressed bytes than the proportion says, since a segment does not compress evenly. */
const MARGIN = 1.08;
const MIN_FETCH = 8 << 10;
/** A rest of a segment that is not worth a request of its own. */
const MIN_REST = 16 << 10;

export class InflatedSegment {
  readonly #checkpoints: Checkpoints;
  readonly #segment: Segment;
  readonly #fetch: ReadBytes;
  readonly #bytes: Uint8Array;
  #filled = 0;
  /** Where in the blob the next fetch begins. */
  #next: number;
  #input: Uint8Array = new Uint8Array();
  #inflater: Inflater | undefined;
  #tail: Promise<void> = Promise.resolve();
  /** Reads under way. */
  users = 0;

  constructor(checkpoints: Checkpoints, segment: Segment, fetch: ReadBytes) {
    this.#checkpoints = checkpoints;
    this.#segment = segment;
    this.#fetch = fetch;
    this.#bytes = Buffer.allocUnsafeSlow(segment.outEnd - segment.out);
    this.#next = segment.bits === 0 ? segment.in : segment.in - 1;
  }

  /** Bytes of memory. */
  get size(): number {
    return this.#bytes.length;
  }

  /** The bytes `from` to `to` of the segment; a view. Throws SourceError CORRUPT, and what the fetch throws. */
  async read(from: number, to: number): Promise<Uint8Array> {
    this.users++;
    try {
      if (this.#filled < to) {
        const extended = this.#tail.then(() => this.#extend(to));
        this.#tail = extended.catch(() => undefined);
        await extended;
      }
      return this.#bytes.subarray(from, to);
    } finally {
      this.users--;
    }
  }

  async #extend(to: number): Promise<void> {
    try {
      while (this.#filled < to) {
        if (this.#input.length === 0) this.#input = await this.#fetchFor(to);
        await this.#inflate();
      }
    } catch (cause) {
      if (!(cause instanceof InflateError)) throw cause;
      throw this.#corrupt(cause.message, cause);
    }
    if (this.#filled < this.#bytes.length) return;
    this.#inflater = undefined;
    this.#input = new Uint8Array();
  }

  /** The next compressed bytes, about as many as `to` needs. */
  async #fetchFor(to: number): Promise<Uint8Array> {
    const { inEnd } = this.#segment;
    const rest = inEnd - this.#next;
    if (rest <= 0) throw this.#corrupt('the segment ends too early');
    const share = (to - this.#filled) / (this.#bytes.length - this.#filled);
    const length = Math.max(MIN_FETCH, Math.ceil(share * rest * MARGIN));
    const wanted = rest - length < MIN_REST ? rest : length;
    const bytes = await this.#fetch(this.#next, wanted);
    this.#next += wanted;
    return bytes;
  }

  async #inflate(): Promise<void> {
    if (this.#inflater === undefined) {
      const { bits, isBeginning, index } = this.#segment;
      if (isBeginning) this.#inflater = new Inflater();
      else {
        const byte = bits === 0 ? 0 : (this.#input[0] as number);
        this.#inflater = new Inflater({ bits, byte, window: this.#checkpoints.window(index) });
        if (bits !== 0) this.#input = this.#input.subarray(1);
      }
    }
    const step = await this.#inflater.run(this.#input, this.#bytes.subarray(this.#filled));
    this.#input = this.#input.subarray(step.consumed);
    this.#filled += step.produced;
  }

  #corrupt(what: string, cause?: unknown): SourceError {
    return new SourceError('CORRUPT', `blob ${this.#checkpoints.digest}: ${what}`, { cause });
  }
}
