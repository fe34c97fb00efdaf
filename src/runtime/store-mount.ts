/** From the name of an image in a store to its mount: source, image, cache and session in one step. */
import { BlockCache } from '../cache/block-cache.js';
import { type MountEnd, mountImage } from '../mount/mount.js';
import type { ProcessConfig } from '../oci/image-config.js';
import { openSource } from '../source/open-source.js';
import { loadImage } from '../source/remote-image.js';
import { isLogged, log } from '../telemetry/logger.js';

export interface StoreMountOptions {
  /** `file:DIR`, a path, or an smb URL, which may hold a password and is shown nowhere. */
  store: string;
  /** Name or digest in the store. */
  image: string;
  /** A directory that exists. */
  mountpoint: string;
  /** Directory of the block cache. */
  cache: string;
  /** Bytes; without it the cache decides. */
  cacheSize?: number | undefined;
  /** A file in the format of mount.cifs. */
  credentials?: string | undefined;
  signal?: AbortSignal | undefined;
}

export interface StoreMount {
  config: ProcessConfig;
  /** What is mounted, and which source serves it and why. */
  description: string;
  /** Unmounts, even while somebody uses it. */
  unmount(): Promise<void>;
  /** Resolves when the kernel has ended the mount. */
  ended: Promise<MountEnd>;
}

/** Resolves when the mount answers; when it throws, nothing is left mounted. */
export async function mountFromStore(options: StoreMountOptions): Promise<StoreMount> {
  const { signal, credentials } = options;
  const source = await openSource(
    options.store,
    credentials === undefined ? {} : { credentialsFile: credentials },
  );
  let cache: BlockCache | undefined;
  try {
    cache = await BlockCache.open(options.cache, {
      ...(options.cacheSize === undefined ? {} : { limit: options.cacheSize }),
    });
    const image = await loadImage(source, options.image, cache.directory, signal);
    signal?.throwIfAborted();
    const mount = await mountImage({ image, sources: [source], cache, mountpoint: options.mountpoint });
    const description = `${image.name} at ${mount.mountpoint}, served by ${source.location} (${source.kind}, ${WHY})`;
    log.info(`mounted ${description}`, { digest: image.manifestDigest, cache: cache.directory });
    const opened = cache;
    const ended = mount.ended.then(async (end) => {
      await source.close();
      opened.close();
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
    await source.close();
    cache?.close();
    throw error;
  }
}

/** There is one way to a store as yet: the one that the user named. */
const WHY = 'as --store says';
