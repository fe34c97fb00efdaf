/**
 * What is fetched before anybody asks for it: ranges of blocks, in the order of their priority, then of arrival.
 *
 * A range becomes reads only as the scheduler has room for them, and blocks that are present or under way by then are
 * passed over, so a range may be as large as a layer.
 */
import type { CachedLayer } from './cached-layer.js';

/** In the order in which they are served; all of them after the blocks that somebody waits for. */
export const PREFETCH_PRIORITIES = ['read-ahead', 'startup', 'background'] as const;
export type PrefetchPriority = (typeof PREFETCH_PRIORITIES)[number];

export interface PrefetchOptions {
  priority: PrefetchPriority;
  /** Ends it; what is under way still arrives. */
  signal?: AbortSignal;
  /** Asked before each read: 0 when this many bytes may be read now, or the milliseconds after which to ask again. */
  pace?(bytes: number): number;
}

/** Reads of one range that may fail before the rest of it is given up; readers will ask for what they need. */
const MAX_FAILURES = 3;

/** A range that is being fetched. */
export class Prefetch {
  readonly layer: CachedLayer;
  readonly rank: number;
  readonly done: Promise<void>;
  readonly #end: number;
  readonly #options: PrefetchOptions;
  #next: number;
  #running = 0;
  #failures = 0;
  #notBefore = 0;
  #resolve: () => void = () => undefined;

  constructor(layer: CachedLayer, firstBlock: number, count: number, options: PrefetchOptions) {
    this.layer = layer;
    this.rank = PREFETCH_PRIORITIES.indexOf(options.priority);
    this.#next = firstBlock;
    this.#end = Math.min(firstBlock + count, layer.digests.count);
    this.#options = options;
    this.done = new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  /** Whether no block is left to be asked for. */
  get exhausted(): boolean {
    return this.#next >= this.#end || this.layer.closed || this.#options.signal?.aborted === true;
  }

  /** The next absent blocks, at most `most`; undefined when there are none; or the time from which there may be. */
  next(most: number, now: number): { first: number; count: number } | { waitUntil: number } | undefined {
    while (!this.exhausted && this.layer.isExpected(this.#next)) this.#next += 1;
    if (this.exhausted) return undefined;
    if (this.#notBefore > now) return { waitUntil: this.#notBefore };
    const first = this.#next;
    let count = 1;
    while (count < most && first + count < this.#end && !this.layer.isExpected(first + count)) count += 1;
    const wait = this.#options.pace?.(count * this.layer.digests.blockSize) ?? 0;
    if (wait <= 0) return { first, count };
    this.#notBefore = now + wait;
    return { waitUntil: this.#notBefore };
  }

  begun(count: number): void {
    this.#next += count;
    this.#running += 1;
  }

  /** A read of blocks from `first` on has ended; when it failed, they are read again, or not for ever. */
  ended(first: number, failed: boolean): void {
    this.#running -= 1;
    if (!failed) return;
    this.#failures += 1;
    this.#next = this.#failures < MAX_FAILURES ? Math.min(this.#next, first) : this.#end;
  }

  /** What was begun at `first` has not been read, through nobody's fault. */
  putBack(first: number): void {
    this.#running -= 1;
    this.#next = Math.min(this.#next, first);
  }

  giveUp(): void {
    this.#next = this.#end;
  }

  /** Resolves `done` when nothing is left and nothing is under way. */
  settle(): boolean {
    if (!this.exhausted || this.#running > 0) return false;
    this.#resolve();
    return true;
  }
}

export class PrefetchQueue {
  #ranges: Prefetch[] = [];

  add(range: Prefetch): void {
    const at = this.#ranges.findIndex(({ rank }) => rank > range.rank);
    this.#ranges.splice(at < 0 ? this.#ranges.length : at, 0, range);
  }

  /** In the order in which they are served. Those that are done are taken out. */
  pending(): readonly Prefetch[] {
    this.#ranges = this.#ranges.filter((range) => !range.settle());
    return this.#ranges;
  }
}
