/**
 * What the scheduler knows of a source: whether it may be asked now, and what it has delivered.
 *
 * A retryable failure closes the source for a time that doubles with every failure in a row (with jitter, so that
 * hosts do not return in step). When the time is over, one read at a time probes it; the first success opens it.
 */
import type { Source } from '../source/source.js';

const FIRST_PAUSE_MS = 100;
/** Short enough that a reader notices a source that is back within a few seconds. */
const LONGEST_PAUSE_MS = 3000;

export interface SourceFailure {
  code: string;
  message: string;
  /** Milliseconds since 1970. */
  at: number;
}

/** A read that was begun, to be ended by `succeeded`, `failed` or `abandoned`. */
export interface Attempt {
  probe: boolean;
  failuresBefore: number;
}

export class SourceState {
  readonly source: Source;
  /** Bytes and reads that the source has answered, whether they verified or not. */
  bytes = 0;
  reads = 0;
  failures = 0;
  corruptBlocks = 0;
  lastFailure: SourceFailure | undefined;
  #failuresInRow = 0;
  #retryAt = 0;
  #probing = false;

  constructor(source: Source) {
    this.source = source;
  }

  get healthy(): boolean {
    return this.#failuresInRow === 0;
  }

  /** The time (of `performance.now()`) from which it may be asked; Infinity while a probe is under way. */
  get usableAt(): number {
    return this.healthy ? 0 : this.#probing ? Number.POSITIVE_INFINITY : this.#retryAt;
  }

  /** Lets the next read probe it now. */
  endPause(): void {
    this.#retryAt = 0;
  }

  begin(): Attempt {
    const probe = !this.healthy;
    if (probe) this.#probing = true;
    return { probe, failuresBefore: this.#failuresInRow };
  }

  succeeded(attempt: Attempt, bytes: number): void {
    if (attempt.probe) this.#probing = false;
    this.#failuresInRow = 0;
    this.reads += 1;
    this.bytes += bytes;
  }

  /** Nobody waits for the read any more; it says nothing about the source. */
  abandoned(attempt: Attempt): void {
    if (attempt.probe) this.#probing = false;
  }

  failed(attempt: Attempt, failure: SourceFailure, retryable: boolean, now: number): void {
    if (attempt.probe) this.#probing = false;
    this.failures += 1;
    this.lastFailure = failure;
    if (!retryable) {
      // It answered, if not with what was asked: the reader decides whether to ask it again.
      if (attempt.probe) this.#failuresInRow = 0;
      return;
    }
    // Reads that were under way together fail together; they count once.
    if (attempt.failuresBefore !== this.#failuresInRow) return;
    this.#failuresInRow += 1;
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this.#failuresInRow - 1));
    this.#retryAt = now + pause * (0.5 + Math.random() / 2);
  }
}
