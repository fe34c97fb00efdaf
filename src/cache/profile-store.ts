/** Startup profiles of a host: CACHE/profiles/<hex of the manifest digest>; and their replay. */
import { mkdir, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { parseDigest } from '../oci/digest.js';
import { replaceFile } from '../oci/durable-file.js';
import type { LayerLease } from './block-cache.js';
import type { FetchScheduler } from './fetch-scheduler.js';
import { joined } from './profile-extents.js';
import { MAX_PROFILE_BYTES, MAX_RUNS, type ProfileEntry, StartupProfile } from './startup-profile.js';

/** Ranges that wait for the scheduler at once: enough to keep it busy, few enough to stop quickly. */
const RANGES_AHEAD = 32;
/** The blocks of so many bytes are sorted, so that neighbours come in one read. */
const SORTED_BYTES = 8 << 20;

/** A run as it was added. */
export interface AddedRun {
  /** What was known of the image before. */
  before: StartupProfile | undefined;
  encoded: Uint8Array;
}

export class ProfileStore {
  readonly #directory: string;

  constructor(cacheDirectory: string) {
    this.#directory = join(cacheDirectory, 'profiles');
  }

  /** Undefined when there is none, or it is of no use. */
  async read(manifestDigest: string): Promise<StartupProfile | undefined> {
    try {
      const file = await open(this.#path(manifestDigest));
      try {
        if ((await file.stat()).size > MAX_PROFILE_BYTES) return undefined;
        return StartupProfile.decode(await file.readFile());
      } finally {
        await file.close();
      }
    } catch {
      return undefined;
    }
  }

  /**
   * Adds a run to what is known of the image. Without room for it nothing is kept: a profile is only a hint. `earlier`
   * is what was returned for the same run when it had read less: unless others were added since, it is replaced.
   */
  async add(manifestDigest: string, run: StartupProfile, earlier?: AddedRun): Promise<AddedRun | undefined> {
    const found = await this.read(manifestDigest);
    const isLast =
      earlier !== undefined && Buffer.from(earlier.encoded).equals(found?.encode() ?? Buffer.of());
    if (earlier !== undefined && !isLast) return undefined;
    const known = earlier === undefined ? found : earlier.before;
    if (run.size === 0 || known?.runs === MAX_RUNS) return undefined;
    const encoded = (known?.merge(run) ?? run).encode();
    const kept = await this.write(manifestDigest, encoded);
    return kept ? { before: known, encoded } : undefined;
  }

  /** Keeps a profile in place of what is known of the image; false when there is no room for it. */
  async write(manifestDigest: string, encoded: Uint8Array): Promise<boolean> {
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      await replaceFile(this.#path(manifestDigest), encoded);
      return true;
    } catch {
      return false;
    }
  }

  async remove(manifestDigest: string): Promise<void> {
    await rm(this.#path(manifestDigest), { force: true });
  }

  #path(manifestDigest: string): string {
    return join(this.#directory, parseDigest(manifestDigest).hex);
  }
}

interface PrefetchLimits {
  /** Bytes. */
  budget?: number;
  signal?: AbortSignal;
}

interface LayerRange {
  diffID: string;
  first: number;
  count: number;
}

/** Fetches what a profile lists, in its order and up to `budget` bytes, for a mount with these layers. Never rejects. */
export function prefetchProfile(
  scheduler: FetchScheduler,
  leases: readonly LayerLease[],
  profile: StartupProfile,
  limits: PrefetchLimits = {},
): Promise<void> {
  return prefetchRanges(scheduler, leases, (most) => ranges(profile, most), limits);
}

/** The same of the blocks at the front of layers. */
export function prefetchFronts(
  scheduler: FetchScheduler,
  leases: readonly LayerLease[],
  fronts: readonly { diffID: string; bytes: number }[],
  limits: PrefetchLimits = {},
): Promise<void> {
  const pieces = (most: number, blockSize: number) =>
    fronts.flatMap(({ diffID, bytes }) => {
      const blocks = Math.ceil(bytes / blockSize);
      return Array.from({ length: Math.ceil(blocks / most) }, (_, index) => {
        const first = index * most;
        return { diffID, first, count: Math.min(most, blocks - first) };
      });
    });
  return prefetchRanges(scheduler, leases, pieces, limits);
}

/** `wanted`: as ranges of some `most` blocks. */
async function prefetchRanges(
  scheduler: FetchScheduler,
  leases: readonly LayerLease[],
  wanted: (most: number, blockSize: number) => Iterable<LayerRange>,
  { budget = Number.POSITIVE_INFINITY, signal }: PrefetchLimits,
): Promise<void> {
  let left = budget;
  const blockSize = leases[0]?.layer.digests.blockSize ?? 1;
  const most = Math.max(1, Math.floor(SORTED_BYTES / blockSize));
  const layers = new Map(leases.map(({ layer }) => [layer.digests.diffID, layer]));
  const ahead = new Set<Promise<void>>();
  for (const { diffID, first: block, count } of wanted(most, blockSize)) {
    const layer = layers.get(diffID);
    if (layer === undefined || block >= layer.digests.count) continue;
    left -= count * layer.digests.blockSize;
    if (signal?.aborted || left < 0) break;
    const options = { priority: 'startup' as const, ...(signal === undefined ? {} : { signal }) };
    const fetched: Promise<void> = scheduler
      .prefetch(layer, block, count, options)
      .finally(() => ahead.delete(fetched));
    ahead.add(fetched);
    if (ahead.size >= RANGES_AHEAD) await Promise.race(ahead);
  }
  await Promise.all(ahead);
}

/** The profile's blocks as ranges: window by window in the order of time, within a window in that of the layers. */
function* ranges(profile: StartupProfile, most: number): Generator<LayerRange> {
  let window: ProfileEntry[] = [];
  let size = 0;
  const flush = () => {
    const sorted = window.toSorted((a, b) => a.layer - b.layer || a.first - b.first);
    window = [];
    size = 0;
    const neighbours = joined(
      sorted.map((entry) => ({ ...entry, seen: 1 })),
      ({ layer }) => layer,
    );
    return neighbours.map(({ layer, first, count }) => ({ diffID: profile.layers[layer]!, first, count }));
  };
  for (const entry of profile.entries) {
    window.push(entry);
    size += entry.count;
    if (size >= most) yield* flush();
  }
  yield* flush();
}
