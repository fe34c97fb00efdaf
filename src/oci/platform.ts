/** Choosing the manifest of one platform among several (OCI image-spec, image-index.md, "platform"). */
import { printable } from './digest.js';
import type { Descriptor, Platform } from './manifest.js';
import { OciError } from './oci-error.js';

export const DEFAULT_PLATFORM: Platform = { os: 'linux', architecture: 'amd64' };

/** Names that other tools use for an architecture. */
const ALIASES: Record<string, string> = {
  x86_64: 'amd64',
  'x86-64': 'amd64',
  aarch64: 'arm64',
  armhf: 'arm',
  armel: 'arm',
};
/** What an absent variant stands for: the level that every machine of the architecture has, or Docker's default. */
const BASE_VARIANT: Record<string, number> = { amd64: 1, arm64: 8, arm: 7 };

/** Parses `os/architecture[/variant]`, such as `linux/arm/v7`. Throws OciError UNSUPPORTED. */
export function parsePlatform(text: string): Platform {
  const match = /^([a-z0-9]+)\/([a-z0-9_-]+)(?:\/([a-z0-9.]+))?$/i.exec(text);
  if (match === null) {
    throw new OciError(
      'UNSUPPORTED',
      `${printable(text)} is not a platform; write one like linux/amd64 or linux/arm/v7`,
    );
  }
  const [, os = '', architecture = '', variant] = match;
  return normalized({ os, architecture, ...(variant === undefined ? {} : { variant }) });
}

export function formatPlatform({ os, architecture, variant }: Platform): string {
  return `${os || 'unknown'}/${architecture || 'unknown'}${variant === undefined ? '' : `/${variant}`}`;
}

function normalized(platform: Platform): Platform {
  const architecture = platform.architecture.toLowerCase();
  return { ...platform, os: platform.os.toLowerCase(), architecture: ALIASES[architecture] ?? architecture };
}

/**
 * How well an image of platform `offered` runs on `wanted`: undefined if not, otherwise the distance between the
 * variants, 0 for the same. A machine runs its own variant and lower ones (arm v7 runs v6; amd64 v3 runs v1).
 */
export function platformDistance(offered: Platform, wanted: Platform): number | undefined {
  const a = normalized(offered);
  const b = normalized(wanted);
  if (a.os !== b.os || a.architecture !== b.architecture) return undefined;
  const level = ({ architecture, variant }: Platform) =>
    variant === undefined ? BASE_VARIANT[architecture] : Number(/^v?(\d+)/.exec(variant)?.[1] ?? Number.NaN);
  const distance = (level(b) ?? Number.NaN) - (level(a) ?? Number.NaN);
  if (Number.isNaN(distance)) return a.variant === b.variant ? 0 : undefined;
  return distance >= 0 ? distance : undefined;
}

/**
 * The manifest of `candidates` that suits the platform best; the first of equals. One that names no platform is
 * taken only if it is the only candidate. Throws OciError NOT_FOUND with the platforms that are there.
 */
export function selectPlatform(
  candidates: readonly Descriptor[],
  wanted: Platform,
  what: string,
): Descriptor {
  const [only] = candidates;
  if (candidates.length === 1 && only !== undefined && only.platform === undefined) return only;
  let best: { descriptor: Descriptor; distance: number } | undefined;
  for (const descriptor of candidates) {
    const distance = descriptor.platform && platformDistance(descriptor.platform, wanted);
    if (distance !== undefined && (best === undefined || distance < best.distance))
      best = { descriptor, distance };
  }
  if (best !== undefined) return best.descriptor;
  const platforms = candidates.flatMap(({ platform }) =>
    platform === undefined || platform.os === 'unknown' ? [] : [formatPlatform(platform)],
  );
  throw new OciError(
    'NOT_FOUND',
    `${what}: no image for ${formatPlatform(wanted)}; it has ${[...new Set(platforms)].join(', ') || 'none with a platform'}`,
  );
}
