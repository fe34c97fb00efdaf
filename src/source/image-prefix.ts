/**
 * The lowest layers of an image as an image of their own: what a builder or a container of containerd stands on that
 * shares these layers and no more.
 */
import { IMAGE_INDEX_TYPE } from '../image/artifact.js';
import { mergeImageIndex } from '../image/image-index.js';
import { BlobCache } from './blob-cache.js';
import type { RemoteImage } from './image-assembly.js';
import { readLayerMetadata } from './layer-metadata.js';
import { type Source, SourceError } from './source.js';

/**
 * Merges the lowest `layers` layers, whose metadata come from `sources`. The image index lies in the cache like any
 * other. Throws SourceError, ImageError and ErofsError.
 */
export async function imagePrefix(
  image: RemoteImage,
  layers: number,
  sources: readonly Source[],
  cacheDir: string,
  signal?: AbortSignal,
): Promise<RemoteImage> {
  const diffIDs = image.config.diffIDs.slice(0, layers);
  if (diffIDs.length !== layers || layers === 0) {
    throw new SourceError(
      'NOT_FOUND',
      `${image.name} has ${image.config.diffIDs.length} layers, not ${layers}`,
    );
  }
  const devices = image.devices.filter(({ diffID }) => diffIDs.includes(diffID));
  const readers = new Map<string, Awaited<ReturnType<typeof readLayerMetadata>>>();
  for (const device of devices) readers.set(device.diffID, await readLayerMetadata(device, sources, signal));
  const { pieces } = mergeImageIndex(
    diffIDs.map((diffID) => ({
      diffID,
      location: image.name,
      open: (use) => {
        const readAt = readers.get(diffID);
        const size = devices.find((device) => device.diffID === diffID)?.size;
        if (readAt === undefined || size === undefined)
          throw new SourceError('NOT_FOUND', `no layer ${diffID}`);
        return use(readAt, size);
      },
    })),
  );
  const blobs = new BlobCache(cacheDir);
  const { digest } = await blobs.keep(IMAGE_INDEX_TYPE, Buffer.concat(pieces));
  const restoreIndex = async () => {
    await imagePrefix(image, layers, sources, cacheDir);
  };
  // What is read of a part says nothing of the whole.
  const { publishProfile: _, ...rest } = image;
  return { ...rest, indexPath: blobs.path(digest), devices, restoreIndex };
}
