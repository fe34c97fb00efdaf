/**
 * Looks for images that can be mounted. One that its registry has not expanded is made so here, by its blobs: the host
 * expands them, or reads them lazily where they have tables of contents. What is left to containerd is what neither can.
 */
import { readFile } from 'node:fs/promises';
import type { BlockCache } from '../cache/block-cache.js';
import type { MountSettings } from '../mount/mount.js';
import { type ImageRequest, openImage } from '../mount/open-image.js';
import { verifyBytes } from '../oci/digest.js';
import { parseImageConfig } from '../oci/image-config.js';
import { parseManifest } from '../oci/manifest.js';
import { pinnedReference } from '../oci/reference.js';
import { BlobCache } from '../source/blob-cache.js';
import type { RemoteImageInfo } from './remote-images.js';
import { SnapshotError } from './snapshot-error.js';

/** How images of registries are opened. */
export type ImageDefaults = Omit<ImageRequest, 'image' | 'store' | 'credentials' | 'layers'> & MountSettings;

export type FoundImage = Pick<RemoteImageInfo, 'reference' | 'manifestDigest'>;

/** Makes an image so that it can be mounted, with its documents in the cache. Throws what keeps it from that. */
export type PrepareImage = (request: ImageRequest, signal?: AbortSignal) => Promise<PreparedImage>;

export interface PreparedImage {
  manifestDigest: string;
  /** Bytes of the layer VHDs that this host has expanded itself. */
  expandedHere: number;
}

/** What was found is not looked for again within this time: a client asks once for every layer. */
const REMEMBER_MS = 60_000;

export class ImageFinder {
  readonly #cache: BlockCache;
  readonly #defaults: ImageDefaults;
  readonly #signal: AbortSignal | undefined;
  readonly #prepare: PrepareImage;
  readonly #found = new Map<string, Promise<RemoteImageInfo | { reason: string }>>();

  /** `signal` ends what is looked for and expanded; by default this process does it. */
  constructor(cache: BlockCache, defaults: ImageDefaults, signal?: AbortSignal, prepare?: PrepareImage) {
    this.#cache = cache;
    this.#defaults = defaults;
    this.#signal = signal;
    this.#prepare = prepare ?? ((request) => this.#prepareHere(request));
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
    const forget = () => setTimeout(() => this.#found.delete(key), REMEMBER_MS).unref();
    search.then(forget, forget);
    return search;
  }

  async #find(reference: string, digest: string | undefined): Promise<RemoteImageInfo | { reason: string }> {
    try {
      // Who pulls now does not wait for a registry's expansion: this host begins at once.
      const image = digest === undefined ? reference : pinnedReference(reference, digest);
      const request = { ...this.#defaults, image, wait: 0 };
      const { manifestDigest, expandedHere } = await this.#prepare(request, this.#signal);
      const { limit } = this.#cache.eviction;
      // It would be fetched from its registry again and again; unpacked, it is fetched once.
      if (expandedHere > limit)
        return {
          reason: `its layers have ${expandedHere} bytes, and the cache may have ${Math.floor(limit)}`,
        };
      const { layers, config } = parseManifest(
        await this.#document(manifestDigest, `manifest of ${reference}`),
        `manifest of ${reference}`,
      );
      const what = `config of ${reference}`;
      const { diffIDs } = parseImageConfig(await this.#document(config.digest, what), what);
      return { reference, manifestDigest, blobs: layers.map((layer) => layer.digest), diffIDs };
    } catch (error) {
      if (this.#signal?.aborted)
        throw new SnapshotError('UNAVAILABLE', `${reference}: the snapshotter is ending, pull again`);
      return { reason: (error as Error).message };
    }
  }

  async #prepareHere(request: ImageRequest): Promise<PreparedImage> {
    const opened = await openImage(request, this.#cache, this.#signal);
    await opened.close();
    return { manifestDigest: opened.image.manifestDigest, expandedHere: opened.expandedHere ?? 0 };
  }

  async #document(digest: string, what: string): Promise<Uint8Array> {
    const bytes = await readFile(new BlobCache(this.#cache.directory).path(digest));
    verifyBytes(bytes, { digest, size: bytes.length }, what);
    return bytes;
  }
}
