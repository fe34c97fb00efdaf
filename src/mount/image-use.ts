/** What of an image a mount holds on to while it is up. */
import { type FileHandle, open } from 'node:fs/promises';
import type { BlockCache, LayerLease } from '../cache/block-cache.js';
import type { RemoteImage } from '../source/remote-image.js';
import type { Source } from '../source/source.js';

/** An index that is evicted as soon as it is back is evicted by somebody who should not. */
const INDEX_TRIES = 3;

export interface UsedImage {
  image: RemoteImage;
  cache: BlockCache;
  sources: readonly Source[];
}

/**
 * Opens what a mount of the image needs before anybody can evict it: the image counts as used, the layers are locked,
 * and the image index is open at the path that `mount` gets. All of it ends with the mount, or when there is none.
 */
export async function useImage<T extends { ended: Promise<unknown> }>(
  { image, cache, sources }: UsedImage,
  mount: (leases: readonly LayerLease[], indexPath: string) => Promise<T>,
): Promise<T> {
  const leases: LayerLease[] = [];
  const beginning = cache.images.begin(image);
  let index: FileHandle | undefined;
  try {
    for (const { digests } of image.devices) leases.push(await cache.openLayer(digests, sources));
    const unused = await beginning;
    index = await openIndex(image);
    const mounted = await mount(leases, `/proc/self/fd/${index.fd}`);
    void mounted.ended.then(unused);
    return mounted;
  } catch (error) {
    (await beginning)();
    await Promise.all(leases.map((lease) => lease.close()));
    throw error;
  } finally {
    await index?.close();
  }
}

/** It may have been evicted since the image was loaded. */
async function openIndex({ indexPath, restoreIndex }: RemoteImage): Promise<FileHandle> {
  for (let tries = 1; ; tries++) {
    try {
      return await open(indexPath, 'r');
    } catch (error) {
      const isGone = (error as NodeJS.ErrnoException).code === 'ENOENT';
      if (!isGone || restoreIndex === undefined || tries === INDEX_TRIES) throw error;
    }
    await restoreIndex();
  }
}
