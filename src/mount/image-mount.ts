/** From a request to a mounted image: cache, index, sources and session in one step, in this process. */
import { BlockCache } from '../cache/block-cache.js';
import type { ProcessConfig } from '../oci/image-config.js';
import { isLogged, log } from '../telemetry/logger.js';
import { type MountEnd, type MountSettings, mountImage, settingsOf } from './mount.js';
import { type ImageRequest, type OpenOptions, openImage } from './open-image.js';
import { surprises } from './source-choice.js';

/** Plain JSON, as ImageRequest is. */
export interface ImageMountRequest extends ImageRequest, MountSettings {
  /** A directory that exists. */
  mountpoint: string;
  /** Directory of the block cache. */
  cache: string;
  /** Bytes; without it the cache decides. */
  cacheSize?: number | undefined;
}

export interface ImageMount {
  config: ProcessConfig;
  /** What is mounted where, which source serves it and why, and why no better one does. */
  description: string;
  /** Unmounts, even while somebody uses it. */
  unmount(): Promise<void>;
  /** Resolves when the kernel has ended the mount. */
  ended: Promise<MountEnd>;
}

/** Resolves when the mount answers; when it throws, nothing is left mounted. */
export async function mountRequested(
  request: ImageMountRequest,
  signal?: AbortSignal,
  options?: OpenOptions,
): Promise<ImageMount> {
  const { cacheSize: limit, mountpoint } = request;
  const cache = await BlockCache.open(request.cache, limit === undefined ? {} : { limit });
  try {
    const opened = await openImage(request, cache, signal, options);
    const { image, sources, passedOver } = opened;
    try {
      signal?.throwIfAborted();
      const mount = await mountImage({ image, sources, cache, mountpoint, ...settingsOf(request) });
      const description = `${image.name} at ${mount.mountpoint}, ${opened.served}`;
      log.info(`mounted ${description}`, { digest: image.manifestDigest, cache: cache.directory });
      for (const { kind, reason } of surprises(passedOver))
        log.warn(`${image.name} is not served by ${kind}: ${reason}`);
      const ended = mount.ended.then(async (end) => {
        await opened.close();
        cache.close();
        return end;
      });
      return {
        config: image.config.process,
        description,
        ended,
        async unmount() {
          if (isLogged('debug')) log.debug('statistics of the mount', { ...mount.stats() });
          await mount.unmount().catch(async (error: Error & { code?: string }) => {
            if (error.code !== 'BUSY') throw error;
            log.warn(`${mount.mountpoint} is still in use, and what uses it gets errors from now on`);
            await mount.unmount({ lazy: true });
            await mount.close();
          });
          await ended;
        },
      };
    } catch (error) {
      await opened.close();
      throw error;
    }
  } catch (error) {
    cache.close();
    throw error;
  }
}
