/** Reads a run of neighbouring blocks from one source, and keeps account of what that says of the source. */
import { OrcaError } from '../errors.js';
import type { FetchLog } from './fetch-log.js';
import type { LayerSource } from './layer-source.js';
import { withTimeout } from './read-timeout.js';
import type { Attempt } from './source-state.js';
import type { Want } from './want.js';

/** Wanted blocks of one layer, each following the one before it. */
export type Run = readonly [Want, ...Want[]];

/** A block that this process was too busy, or asleep, to ask for in time still gets one try of this length. */
export const LAST_TRY_MS = 500;
/** A source that lacks a layer, or has it wrong, comes last for this long, if there is another. */
export const AVOID_MS = 5000;

export class RunReader {
  readonly #attemptTimeout: number;
  readonly #log: FetchLog;

  /** `attemptTimeout`: milliseconds that one read may take. */
  constructor(attemptTimeout: number, log: FetchLog) {
    this.#attemptTimeout = attemptTimeout;
    this.#log = log;
  }

  /**
   * The bytes of the run; undefined when they did not come, which its blocks and the source then know, or when the
   * layer is found to be a stream.
   */
  async read(run: Run, source: LayerSource, now: number): Promise<Uint8Array | undefined> {
    const { layer, block: first } = run[0];
    const { blockSize, size } = layer.digests;
    const offset = first * blockSize;
    const length = Math.min(size, offset + run.length * blockSize) - offset;
    const remaining = Math.max(LAST_TRY_MS, Math.min(...run.map((want) => want.deadline)) - now);
    const attempt = source.state.begin();
    try {
      const bytes = await withTimeout(Math.min(this.#attemptTimeout, remaining), layer.signal, (signal) =>
        source.read(offset, length, signal),
      );
      if (bytes === undefined) source.state.abandoned(attempt);
      else this.succeeded(source, attempt, length);
      return bytes;
    } catch (error) {
      if (layer.closed) source.state.abandoned(attempt);
      else this.failed(run, source, attempt, error);
      return undefined;
    }
  }

  succeeded(source: LayerSource, attempt: Attempt, length: number): void {
    const { state } = source;
    if (!state.healthy) this.#log.sourceBack(state.source.location);
    state.succeeded(attempt, length);
  }

  /** The source has failed those who waited for it. */
  failed(wants: readonly Want[], source: LayerSource, attempt: Attempt, error: unknown): void {
    const { state } = source;
    const code = error instanceof OrcaError ? error.code : 'UNEXPECTED';
    const message = (error as Error).message;
    const retryable = error instanceof OrcaError && error.retryable;
    const wasHealthy = state.healthy;
    state.failed(attempt, { code, message, at: Date.now() }, retryable, performance.now());
    if (retryable && wasHealthy) {
      this.#log.sourceFails(state.source.location, code, message);
    }
    if (!retryable) source.avoidUntil = performance.now() + AVOID_MS;
    source.lastProblem = { code, message, at: Date.now() };
    for (const want of wants) want.failed(source, `${code}, ${message}`, retryable);
  }
}
