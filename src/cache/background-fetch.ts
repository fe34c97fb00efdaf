/**
 * Fetches what is left of an image while the host has nothing better to do: at most `rate` bytes per second, only when
 * no reader has waited for a block for a while and processors are idle, after everything else that is fetched ahead,
 * and only into room that the cache has free.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { BlockCache, LayerLease } from './block-cache.js';

/** A host is idle when nobody has waited for a block for so long, in milliseconds. */
const IDLE_MS = 2000;
const LOOK_MS = 250;
/** To fetch and verify takes processor time, which others need when less than this share of all of it is idle. */
const IDLE_SHARE = 0.25;
/** Between tries to fetch what a source could not give or the cache had no room for. */
const AGAIN_MS = 60_000;
/** Eviction begins at the limit and goes down to 0.9 of it: what nobody has asked for yet must not lead there. */
const FREE_SHARE = 0.85;

export interface BackgroundOptions {
  /** Bytes per second. */
  rate: number;
  /** Ends it. */
  signal: AbortSignal;
  /** Milliseconds; for tests. */
  idle?: number;
  again?: number;
}

type Place = Pick<BlockCache, 'scheduler' | 'idleShare'> & { eviction: { used: number; limit: number } };

/** Resolves when all of the image is in the cache, or the signal is aborted. Never rejects. */
export async function fetchInBackground(
  cache: Place,
  leases: readonly LayerLease[],
  { rate, signal, idle = IDLE_MS, again = AGAIN_MS }: BackgroundOptions,
): Promise<void> {
  const pacer = new Pacer(cache, rate, idle);
  // What has just been mounted starts first.
  for (let pause = idle; ; pause = again) {
    await sleep(pause, undefined, { signal, ref: false }).catch(() => undefined);
    if (signal.aborted) return;
    for (const { layer } of leases) {
      await cache.scheduler.prefetch(layer, 0, layer.digests.count, {
        priority: 'background',
        signal,
        pace: (bytes) => pacer.pace(bytes),
      });
    }
    if (leases.every(({ layer }) => layer.blockFile.count() === layer.digests.count)) return;
  }
}

/** When the next read may begin. */
class Pacer {
  readonly #cache: Place;
  readonly #rate: number;
  readonly #idle: number;
  #nextAt = 0;
  #wanted: number;
  #wantedAt = performance.now();

  constructor(cache: Place, rate: number, idle: number) {
    this.#cache = cache;
    this.#rate = rate;
    this.#idle = idle;
    this.#wanted = cache.scheduler.stats.blocksWanted;
  }

  /** As PrefetchOptions has it. */
  pace(bytes: number): number {
    const now = performance.now();
    const { blocksWanted } = this.#cache.scheduler.stats;
    if (blocksWanted !== this.#wanted) {
      this.#wanted = blocksWanted;
      this.#wantedAt = now;
    }
    const busyFor = this.#wantedAt + this.#idle - now;
    if (busyFor > 0) return busyFor;
    if (this.#cache.idleShare() < IDLE_SHARE) return LOOK_MS;
    const { used, limit } = this.#cache.eviction;
    if (used + bytes > limit * FREE_SHARE) return LOOK_MS;
    if (this.#nextAt > now) return this.#nextAt - now;
    this.#nextAt = Math.max(this.#nextAt, now - LOOK_MS) + (bytes / this.#rate) * 1000;
    return 0;
  }
}
