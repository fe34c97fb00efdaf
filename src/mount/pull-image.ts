/** Fetching what a mount needs to know of an image, without mounting it. */
import { BlockCache } from '../cache/block-cache.js';
import { counted } from '../counted.js';
import { log } from '../telemetry/logger.js';
import { type ImageRequest, openImage } from './open-image.js';

/** Returns the digest of the platform's manifest. Throws what openImage throws. */
export async function pullImage(
  request: ImageRequest,
  place: { cache: string; cacheSize?: number | undefined },
  signal?: AbortSignal,
): Promise<string> {
  const limit = place.cacheSize;
  const cache = await BlockCache.open(place.cache, limit === undefined ? {} : { limit });
  try {
    const opened = await openImage(request, cache, signal);
    const { name, manifestDigest, devices } = opened.image;
    log.info(`${name} has ${counted(devices.length, 'layer')} and can be ${opened.served}`);
    await opened.close();
    return manifestDigest;
  } finally {
    cache.close();
  }
}
