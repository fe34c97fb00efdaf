/**
 * What containers of an image want first, fetched before they ask: what a startup profile lists, of this host or
 * published by others, or else what the image itself says comes first.
 */
import type { BlockCache, LayerLease } from '../cache/block-cache.js';
import { prefetchFronts, prefetchProfile } from '../cache/profile-store.js';
import { MAX_PROFILE_BYTES, StartupProfile } from '../cache/startup-profile.js';
import type { RemoteImage } from '../source/remote-image.js';
import { type Logger, log } from '../telemetry/logger.js';

/** Of the cache's limit, what may be fetched so: anybody may have written a profile. */
const CACHE_SHARE = 0.25;

export interface StartupFetch {
  cache: BlockCache;
  image: RemoteImage;
  leases: readonly LayerLease[];
  /** Ends it. */
  signal: AbortSignal;
}

/**
 * The profile of an image: what this host has of it, by default read from its cache, or what others have published, kept
 * from now on. One that cannot be had or used is none.
 */
export async function profileOf(
  fetch: Omit<StartupFetch, 'leases'>,
  logger: Logger = log,
  kept: Promise<StartupProfile | undefined> = fetch.cache.profiles.read(fetch.image.manifestDigest),
): Promise<StartupProfile | undefined> {
  return (await kept) ?? (await publishedProfile(fetch, logger));
}

async function publishedProfile(
  { cache, image, signal }: Omit<StartupFetch, 'leases'>,
  logger: Logger,
): Promise<StartupProfile | undefined> {
  try {
    const encoded = await image.publishedProfile?.(MAX_PROFILE_BYTES, signal);
    if (encoded === undefined) return undefined;
    const profile = StartupProfile.decode(encoded);
    void cache.profiles.write(image.manifestDigest, encoded);
    return profile;
  } catch (error) {
    logger.debug(`the startup profile of ${image.name} is not used: ${(error as Error).message}`);
    return undefined;
  }
}

/** Resolves when all has come or is given up. Never rejects. */
export async function fetchStartup(
  { cache, image, leases, signal }: StartupFetch,
  profile: StartupProfile | undefined,
): Promise<void> {
  const limits = { budget: cache.eviction.limit * CACHE_SHARE, signal };
  if (profile !== undefined) await prefetchProfile(cache.scheduler, leases, profile, limits);
  else await prefetchFronts(cache.scheduler, leases, image.fronts ?? [], limits);
}
