/** The startup profile of an image, as this host has it or as it was published, and its publication. */
import { BlockCache } from '../cache/block-cache.js';
import { MAX_PROFILE_BYTES, StartupProfile } from '../cache/startup-profile.js';
import { type ImageRequest, openImage } from '../mount/open-image.js';
import { findRelatedProfile } from '../mount/related-profile.js';
import type { RemoteImage } from '../source/remote-image.js';
import type { Source } from '../source/source.js';
import { RuntimeError } from './runtime-error.js';

export interface ImageProfile {
  image: string;
  manifestDigest: string;
  /** `host`: recorded or merged here; `published`: what a store or a registry has. */
  from: 'host' | 'published';
  profile: StartupProfile;
}

/** Throws RuntimeError NO_PROFILE, CacheError INVALID_PROFILE of a published one, and what openImage throws. */
export async function readImageProfile(
  request: ImageRequest,
  cacheDirectory: string,
  signal?: AbortSignal,
): Promise<ImageProfile> {
  return withImage(request, cacheDirectory, signal, async ({ image }, cache) => {
    const { name, manifestDigest } = image;
    const kept = await cache.profiles.read(manifestDigest);
    if (kept !== undefined) return { image: name, manifestDigest, from: 'host', profile: kept };
    const published = await image.publishedProfile?.(MAX_PROFILE_BYTES, signal);
    if (published === undefined) throw noProfile(name, await helpOf(cache, image, signal));
    return { image: name, manifestDigest, from: 'published', profile: StartupProfile.decode(published) };
  });
}

/**
 * Publishes what this host has recorded: into the store on a local disk that `store` is, or to the image's registry.
 * Throws RuntimeError NO_PROFILE and NOT_LOCAL, ImageError, RegistryError, and what openImage throws.
 */
export async function publishImageProfile(
  request: ImageRequest,
  cacheDirectory: string,
  signal?: AbortSignal,
): Promise<ImageProfile> {
  return withImage(request, cacheDirectory, signal, async ({ image, sources }, cache) => {
    const { name, manifestDigest } = image;
    const profile = await cache.profiles.read(manifestDigest);
    if (profile === undefined) throw noProfile(name);
    if (request.store !== undefined) {
      const { Store } = await import('../image/store.js');
      const store = await Store.open(localDirectory(sources));
      await store.putProfile(manifestDigest, profile.encode());
    } else if (image.publishProfile === undefined) {
      throw new RuntimeError(
        'NOT_EXPANDED',
        `${name} was expanded by this host, so its registry keeps no startup profile of it`,
      );
    } else {
      await image.publishProfile(profile.encode(), signal);
    }
    return { image: name, manifestDigest, from: 'host', profile };
  });
}

async function withImage<T>(
  request: ImageRequest,
  cacheDirectory: string,
  signal: AbortSignal | undefined,
  use: (opened: Awaited<ReturnType<typeof openImage>>, cache: BlockCache) => Promise<T>,
): Promise<T> {
  const cache = await BlockCache.open(cacheDirectory);
  try {
    const opened = await openImage(request, cache, signal, { onlyExpanded: true });
    try {
      return await use(opened, cache);
    } finally {
      await opened.close();
    }
  } finally {
    cache.close();
  }
}

function localDirectory([source]: readonly Source[]): string {
  if (source?.kind === 'file') return source.location;
  throw new RuntimeError(
    'NOT_LOCAL',
    'a startup profile is written into a store on a local disk: run this where the store is, with --store DIR',
  );
}

/** What the first start of an image without startup profile has instead. */
async function helpOf(
  cache: BlockCache,
  image: RemoteImage,
  signal: AbortSignal | undefined,
): Promise<string> {
  const related = await findRelatedProfile(cache, image, signal).catch(() => undefined);
  if (related === undefined) return '';
  const whose = related.name ?? 'an earlier version, which its registry has';
  return `; that start is helped by the one of ${whose}`;
}

function noProfile(name: string, help = ''): RuntimeError {
  return new RuntimeError(
    'NO_PROFILE',
    `there is no startup profile of ${name}: one is recorded when a container of it runs here${help}`,
  );
}
