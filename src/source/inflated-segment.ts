/**
 * One segment of a gzip blob, inflated from its checkpoint as far as somebody has read. It goes on where it is, so
 * bytes are fetched and inflated once while it is kept.
 */
import type { Checkpoints, Segment } from '../layer/checkpoints.js';
import { InflateError, Inflater } from '../native/inflate.js';
import type { KeptSegment } from './blob-tar.js';
import type { ReadBytes } from './range-joiner.js';
import { SourceError } from './source.js';

/** Compressed bytes of one fetch: a common segment comes as a whole, for who reads of it reads on, as a rule. */
const FETCH_SIZE = 2 << 20;

export class InflatedSegment implements KeptSegment {
  readonly #checkpoints: Checkpoints;
  readonly #segment: Segment;
  readonly #fetch: ReadBytes;
  #bytes: Uint8Array | undefined;
  #filled = 0;
  /** Where in the blob the next fetch begins. */
  #next: number;
  #input: Uint8Array = new Uint8Array();
  /** What is fetched before somebody reads. */
  #ahead: Promise<Uint8Array> | undefined;
  #inflater: Inflater | undefined;
  #tail: Promise<void> = Promise.resolve();
  users = 0;

  constructor(checkpoints: Checkpoints, segment: Segment, fetch: ReadBytes) {
    this.#checkpoints = checkpoints;
    this.#segment = segment;
    this.#fetch = fetch;
    this.#next = segment.bits === 0 ? segment.in : segment.in - 1;
  }

  get size(): number {
    return this.#segment.outEnd - this.#segment.out;
  }

  prefetch(): void {
    if (this.#bytes !== undefined || this.#ahead !== undefined) return;
    this.#ahead = this.#fetchMore();
    // Who reads hears of it.
    this.#ahead.catch(() => undefined);
  }

  async read(from: number, to: number): Promise<Uint8Array> {
    this.users++;
    try {
      if (this.#filled < to) {
        const extended = this.#tail.then(() => this.#extend(to));
        this.#tail = extended.catch(() => undefined);
        await extended;
      }
      return this.#bytes?.subarray(from, to) ?? new Uint8Array();
    } finally {
      this.users--;
    }
  }

  async #extend(to: number): Promise<void> {
    this.#bytes ??= Buffer.allocUnsafeSlow(this.size);
    // No more than is read: others wait for the threads, and the rest may not be wanted.
    const target = this.#bytes.subarray(0, to);
    try {
      while (this.#filled < to) {
        if (this.#input.length === 0) this.#input = await this.#fetched();
        await this.#inflate(target);
      }
    } catch (cause) {
      if (!(cause instanceof InflateError)) throw cause;
      throw this.#corrupt(cause.message, cause);
    }
    if (this.#filled < this.size) return;
    this.#inflater = undefined;
    this.#input = new Uint8Array();
  }

  #fetched(): Promise<Uint8Array> {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    return ahead ?? this.#fetchMore();
  }

  async #fetchMore(): Promise<Uint8Array> {
    const rest = this.#segment.inEnd - this.#next;
    if (rest <= 0) throw this.#corrupt('the segment ends too early');
    const wanted = Math.min(rest, FETCH_SIZE);
    const bytes = await this.#fetch(this.#next, wanted);
    this.#next += wanted;
    return bytes;
  }

  async #inflate(target: Uint8Array): Promise<void> {
    if (this.#inflater === undefined) {
      const { bits, isBeginning, index } = this.#segment;
      if (isBeginning) this.#inflater = new Inflater();
      else {
        const byte = bits === 0 ? 0 : (this.#input[0] as number);
        this.#inflater = new Inflater({ bits, byte, window: this.#checkpoints.window(index) });
        if (bits !== 0) this.#input = this.#input.subarray(1);
      }
    }
    const step = await this.#inflater.run(this.#input, target.subarray(this.#filled));
    this.#input = this.#input.subarray(step.consumed);
    this.#filled += step.produced;
  }

  #corrupt(what: string, cause?: unknown): SourceError {
    return new SourceError('CORRUPT', `blob ${this.#checkpoints.digest}: ${what}`, { cause });
  }
}
