/**
 * What the scheduler knows of a source: whether it may be asked now, and what it has delivered. A circuit breaker.
 *
 * A retryable failure closes the source for a time that doubles with every failure in a row (with jitter, so that
 * hosts do not return in step); after OPEN_AFTER of them it counts as away. When the time is over it is probed: by a
 * read where there is no other source, else in the background, so that no reader pays for the attempt. The first
 * success opens it.
 */
import type { OrcaError } from '../errors.js';
import type { Source } from '../source/source.js';
import { type Logger, log } from '../telemetry/logger.js';
import { withTimeout } from './read-timeout.js';

const FIRST_PAUSE_MS = 100;
/** Short enough that a reader notices a source that is back within a few seconds. */
const LONGEST_PAUSE_MS = 3000;
/** A connection that broke, or a server that restarted, is no reason to stream whole blobs instead. */
const OPEN_AFTER = 3;
/** How long after the pause a reader may still be the one that probes. */
const GRACE_MS = 200;
const PROBE_TIMEOUT_MS = 10_000;
/** The head of a layer VHD: the superblock is within. */
const PROBE_BYTES = 4096;
const NEVER = new AbortController().signal;

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
  readonly #log: Logger;
  /** How many users there are of each layer. */
  readonly #layers = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;

  constructor(source: Source, logger: Logger = log) {
    this.source = source;
    this.#log = logger;
  }

  /** A layer of it is in use from now on: it is probed while it fails. */
  use(diffID: string): void {
    this.#layers.set(diffID, (this.#layers.get(diffID) ?? 0) + 1);
    if (!this.healthy) this.#probeLater();
  }

  leave(diffID: string): void {
    const left = (this.#layers.get(diffID) ?? 0) - 1;
    if (left > 0) this.#layers.set(diffID, left);
    else this.#layers.delete(diffID);
    if (this.#layers.size === 0) clearTimeout(this.#timer);
  }

  get healthy(): boolean {
    return this.#failuresInRow === 0;
  }

  /** It has failed so often that nothing is to be expected of it until a probe succeeds. */
  get away(): boolean {
    return this.#failuresInRow >= OPEN_AFTER;
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
    if (attempt.failuresBefore !== this.#failuresInRow) {
      this.#probeLater();
      return;
    }
    this.#failuresInRow += 1;
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this.#failuresInRow - 1));
    this.#retryAt = now + pause * (0.5 + Math.random() / 2);
    this.#probeLater();
  }

  #probeLater(): void {
    clearTimeout(this.#timer);
    if (this.#layers.size === 0) return;
    const delay = Math.max(0, this.#retryAt - performance.now()) + GRACE_MS;
    this.#timer = setTimeout(() => void this.#probe(), delay).unref();
  }

  /** Reads the head of a layer. Readers are not kept from probing meanwhile: they may have no other source. */
  async #probe(): Promise<void> {
    const [diffID] = this.#layers.keys();
    if (this.healthy || diffID === undefined) return;
    // A reader probes it: what comes of that decides about the next time.
    if (this.#probing) return this.#probeLater();
    const attempt = { probe: false, failuresBefore: this.#failuresInRow };
    try {
      await withTimeout(PROBE_TIMEOUT_MS, NEVER, async (signal) => {
        if (this.source.probe !== undefined) return await this.source.probe(diffID, signal);
        const layer = await this.source.openLayer(diffID, signal);
        try {
          await layer.read(0, Math.min(PROBE_BYTES, layer.size), signal);
        } finally {
          void layer.close().catch(() => undefined);
        }
      });
    } catch (error) {
      const { code = 'UNEXPECTED', message, retryable } = error as Partial<OrcaError> & Error;
      // Whoever answers is back, if only to refuse.
      if (retryable) this.failed(attempt, { code, message, at: Date.now() }, true, performance.now());
      else this.#recovered();
      return;
    }
    this.#recovered();
  }

  #recovered(): void {
    if (this.healthy) return;
    this.#failuresInRow = 0;
    this.#log.info(`${this.source.location} is back`);
  }
}
