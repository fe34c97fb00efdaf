/** Images of registries, found and mounted by this process: what `orca snapshotter` needs when no daemon does it. */
import { readFile } from 'node:fs/promises';
import type { BlockCache } from '../cache/block-cache.js';
import { type Mount, mountImage } from '../mount/mount.js';
import { type ImageRequest, type OpenedImage, openImage } from '../mount/open-image.js';
import { verifyBytes } from '../oci/digest.js';
import { parseManifest } from '../oci/manifest.js';
import { familiarReference, parseReference } from '../oci/reference.js';
import { BlobCache } from '../source/blob-cache.js';
import { type Logger, log } from '../telemetry/logger.js';
import type { RemoteImageInfo, RemoteImages } from './remote-images.js';

export type ImageDefaults = Omit<ImageRequest, 'image' | 'store' | 'credentials' | 'layers'>;

/** What was found is not asked for again within this time: a client asks once for every layer. */
const REMEMBER_MS = 60_000;

interface Mounted {
  mount: Mount;
  opened: OpenedImage;
}

export class ImageMounts implements RemoteImages {
  readonly #cache: BlockCache;
  readonly #defaults: ImageDefaults;
  readonly #log: Logger;
  readonly #found = new Map<string, Promise<RemoteImageInfo | { reason: string }>>();
  readonly #mounts = new Map<string, Promise<Mounted>>();

  constructor(cache: BlockCache, defaults: ImageDefaults = {}, logger: Logger = log) {
    this.#cache = cache;
    this.#defaults = defaults;
    this.#log = logger;
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
      const opened = await openImage(
        { ...this.#defaults, image: pinned(reference, digest), wait: 0 },
        this.#cache,
      );
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

  async mount(
    image: { reference: string; manifestDigest: string },
    layers: number,
    at: string,
  ): Promise<void> {
    const known = this.#mounts.get(at);
    if (known !== undefined) {
      await known;
      return;
    }
    const mounting = this.#mount(image, layers, at);
    this.#mounts.set(at, mounting);
    try {
      const { mount, opened } = await mounting;
      void mount.ended.then(async ({ message }) => {
        if (this.#mounts.get(at) === mounting) this.#mounts.delete(at);
        this.#log.info(`${at}: ${message}`);
        await opened.close();
      });
    } catch (error) {
      this.#mounts.delete(at);
      throw error;
    }
  }

  async #mount(
    { reference, manifestDigest }: { reference: string; manifestDigest: string },
    layers: number,
    mountpoint: string,
  ): Promise<Mounted> {
    const request = { ...this.#defaults, image: pinned(reference, manifestDigest), layers };
    const opened = await openImage(request, this.#cache);
    try {
      const { image, sources } = opened;
      const mount = await mountImage({ image, sources, cache: this.#cache, mountpoint });
      this.#log.info(`mounted ${reference} at ${mountpoint}, ${opened.served}`, { digest: manifestDigest });
      return { mount, opened };
    } catch (error) {
      await opened.close();
      throw error;
    }
  }

  /** How many images are mounted. */
  get count(): number {
    return this.#mounts.size;
  }

  async unmount(mountpoint: string): Promise<void> {
    const mounting = this.#mounts.get(mountpoint);
    if (mounting === undefined) return;
    const { mount } = await mounting;
    await mount.unmount({ lazy: true });
    await mount.ended;
  }

  /** Unmounts everything, in use or not. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.#mounts.keys()].map((mountpoint) => this.unmount(mountpoint)));
  }
}

/** The reference with the digest that it must have. */
function pinned(reference: string, digest: string | undefined): string {
  return digest === undefined ? reference : familiarReference({ ...parseReference(reference), digest });
}
