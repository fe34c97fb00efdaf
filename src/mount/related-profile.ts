/**
 * The startup profile of a related image, for the first start of one that has none: most of what a version asks for is
 * where it was in the last one, whatever layers it lies in by now, and images that are built on the same layers begin
 * with the same interpreter and libraries.
 */
import type { BlockCache } from '../cache/block-cache.js';
import type { NamedImage } from '../cache/image-inventory.js';
import { MAX_PROFILE_BYTES, StartupProfile } from '../cache/startup-profile.js';
import type { Session } from '../native/addon.js';
import type { RemoteImage } from '../source/remote-image.js';

export interface RelatedProfile {
  /** What this host mounted the related image by; undefined when it is the registry that has its profile. */
  name: string | undefined;
  /** Of the same image at another time, or else of one on the same layers, which runs whatever it runs. */
  isVersion: boolean;
  profile: StartupProfile;
}

/**
 * That of the image of the same repository that this host mounted last and has one of, or else what the registry offers
 * of an earlier version, or else that of the image on this host that has most layers in common with it. Throws CacheError
 * INVALID_PROFILE, and what reading from the registry throws.
 */
export async function findRelatedProfile(
  { images, profiles }: Pick<BlockCache, 'images' | 'profiles'>,
  image: RemoteImage,
  signal?: AbortSignal,
): Promise<RelatedProfile | undefined> {
  const { versions, sharing } = await images.relativesOf(image);
  const firstOf = async (relatives: readonly NamedImage[], isVersion: boolean) => {
    for (const { image, name } of relatives) {
      const profile = await profiles.read(image);
      if (profile !== undefined) return { name, isVersion, profile };
    }
    return undefined;
  };
  const version = await firstOf(versions, true);
  if (version !== undefined) return version;
  const encoded = await image.earlierProfile?.(MAX_PROFILE_BYTES, signal);
  if (encoded !== undefined)
    return { name: undefined, isVersion: true, profile: StartupProfile.decode(encoded) };
  return firstOf(sharing, false);
}

/** What is usual of a related image's profile, for the image of a session; undefined when that has no block of it. */
export async function inheritedProfile(
  related: StartupProfile,
  session: Pick<Session, 'locate'>,
  layers: readonly string[],
): Promise<StartupProfile | undefined> {
  const usual = related.usual();
  const profile = StartupProfile.inherit(usual, layers, await session.locate(usual.steps));
  return profile.entries.length === 0 ? undefined : profile;
}
