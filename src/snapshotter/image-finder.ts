/** Looks for images that can be mounted at once. */
import { readFile } from 'node:fs/promises';
import type { BlockCache } from '../cache/block-cache.js';
import type { MountSettings } from '../mount/mount.js';
import { type ImageRequest, openImage } from '../mount/open-image.js';
import { verifyBytes } from '../oci/digest.js';
import { parseManifest } from '../oci/manifest.js';
import { pinnedReference } from '../oci/reference.js';
import { BlobCache } from '../source/blob-cache.js';
import type { RemoteImageInfo } from './remote-images.js';

/** How images of registries are opened. */
export type ImageDefaults = Omit<ImageRequest, 'image' | 'store' | 'credentials' | 'layers'> & MountSettings;

export type FoundImage = Pick<RemoteImageInfo, 'reference' | 'manifestDigest'>;

/** What was found is not asked for again within this time: a client asks once for every layer. */
const REMEMBER_MS = 60_000;

export class ImageFinder {
  readonly #cache: BlockCache;
  readonly #defaults: ImageDefaults;
  readonly #found = new Map<string, Promise<RemoteImageInfo | { reason: string }>>();

  constructor(cache: BlockCache, defaults: ImageDefaults) {
    this.#cache = cache;
    this.#defaults = defaults;
  }

  /** The request that mounts the lowest layers of an image that was found. */
  requestFor({ reference, manifestDigest }: FoundImage, layers: number): ImageRequest & MountSettings {
    return { ...this.#defaults, image: pinnedReference(reference, manifestDigest), layers };
  }

  find(reference: string, manifestDigest: string | undefined): Promise<RemoteImageInfo | { reason: string }> {
    const key = `${reference} ${manifestDigest ?? ''}`;
    const known = this.#found.get(key);
    if (known !== undefined) return known;
    const search = this.#find(reference, manifestDigest);
    this.#found.set(key, search);
    setTimeout(() => this.#found.delete(key), REMEMBER_MS).unref();
    return search;
  }

  async #find(reference: string, digest: string | undefined): Promise<RemoteImageInfo | { reason: string }> {
    try {
      // Who pulls now does not wait for an expansion; the next one finds it done.
      const image = digest === undefined ? reference : pinnedReference(reference, digest);
      const request = { ...this.#defaults, image, wait: 0 };
      const opened = await openImage(request, this.#cache, undefined, { onlyExpanded: true });
      await opened.close();
      const { manifestDigest, config } = opened.image;
      const bytes = await readFile(new BlobCache(this.#cache.directory).path(manifestDigest));
      verifyBytes(bytes, { digest: manifestDigest, size: bytes.length }, `manifest of ${reference}`);
      const { layers } = parseManifest(bytes, `manifest of ${reference}`);
      return {
        reference,
        manifestDigest,
        blobs: layers.map((layer) => layer.digest),
        diffIDs: config.diffIDs,
      };
    } catch (error) {
      return { reason: (error as Error).message };
    }
  }
}
