/**
 * The startup profile of an earlier version of an image, for its first start: most of what a version asks for is where
 * it was in the last one, whatever layers it lies in by now.
 */
import type { BlockCache } from '../cache/block-cache.js';
import { MAX_PROFILE_BYTES, StartupProfile } from '../cache/startup-profile.js';
import type { Session } from '../native/addon.js';
import type { RemoteImage } from '../source/remote-image.js';

export interface EarlierProfile {
  /** What this host mounted the earlier version by; undefined when it is the registry that has its profile. */
  name: string | undefined;
  profile: StartupProfile;
}

/**
 * That of the image of the same repository that this host mounted last and has one of, or else what the registry
 * offers. Throws CacheError INVALID_PROFILE, and what reading from the registry throws.
 */
export async function findEarlierProfile(
  { images, profiles }: Pick<BlockCache, 'images' | 'profiles'>,
  image: RemoteImage,
  signal?: AbortSignal,
): Promise<EarlierProfile | undefined> {
  for (const version of await images.versionsOf(image)) {
    const profile = await profiles.read(version.image);
    if (profile !== undefined) return { name: version.name, profile };
  }
  const encoded = await image.earlierProfile?.(MAX_PROFILE_BYTES, signal);
  return encoded && { name: undefined, profile: StartupProfile.decode(encoded) };
}

/** What is usual of an earlier version's profile, for the image of a session; undefined when that has no block of it. */
export async function inheritedProfile(
  earlier: StartupProfile,
  session: Pick<Session, 'locate'>,
  layers: readonly string[],
): Promise<StartupProfile | undefined> {
  const usual = earlier.usual();
  const profile = StartupProfile.inherit(usual, layers, await session.locate(usual.steps));
  return profile.entries.length === 0 ? undefined : profile;
}
