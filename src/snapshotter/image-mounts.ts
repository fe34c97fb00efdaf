/** Images mounted by this process: what `orca snapshotter --no-daemon` does. They end with it. */
import type { BlockCache } from '../cache/block-cache.js';
import { type Mount, mountImage, settingsOf } from '../mount/mount.js';
import { type OpenedImage, openImage } from '../mount/open-image.js';
import { type Logger, log } from '../telemetry/logger.js';
import type { FoundImage, ImageFinder } from './image-finder.js';
import type { RemoteImageInfo, RemoteImages } from './remote-images.js';

interface Mounted {
  mount: Mount;
  opened: OpenedImage;
}

export class ImageMounts implements RemoteImages {
  readonly #cache: BlockCache;
  readonly #finder: ImageFinder;
  readonly #log: Logger;
  /** By mount point. */
  readonly #mounts = new Map<string, Promise<Mounted>>();
  /** These, and those that were unmounted while something used them. */
  readonly #live = new Set<Mount>();

  constructor(cache: BlockCache, finder: ImageFinder, logger: Logger = log) {
    this.#cache = cache;
    this.#finder = finder;
    this.#log = logger;
  }

  find(reference: string, manifestDigest: string | undefined): Promise<RemoteImageInfo | { reason: string }> {
    return this.#finder.find(reference, manifestDigest);
  }

  async mount(image: FoundImage, layers: number, at: string): Promise<void> {
    const known = this.#mounts.get(at);
    if (known !== undefined) {
      await known;
      return;
    }
    const mounting = this.#mount(image, layers, at);
    this.#mounts.set(at, mounting);
    try {
      const { mount, opened } = await mounting;
      this.#live.add(mount);
      void mount.ended.then(async ({ message }) => {
        this.#live.delete(mount);
        if (this.#mounts.get(at) === mounting) this.#mounts.delete(at);
        this.#log.info(`${at}: ${message}`);
        await opened.close();
      });
    } catch (error) {
      this.#mounts.delete(at);
      throw error;
    }
  }

  async #mount(found: FoundImage, layers: number, mountpoint: string): Promise<Mounted> {
    const request = this.#finder.requestFor(found, layers);
    const opened = await openImage(request, this.#cache);
    try {
      const { image, sources } = opened;
      const settings = settingsOf(request);
      const mount = await mountImage({ image, sources, cache: this.#cache, mountpoint, ...settings });
      this.#log.info(`mounted ${image.name} at ${mountpoint}, ${opened.served}`);
      return { mount, opened };
    } catch (error) {
      await opened.close();
      throw error;
    }
  }

  /** How many images are mounted. */
  get count(): number {
    return this.#live.size;
  }

  /** Containers that still use it keep it until they end, or this process does. */
  async unmount(mountpoint: string): Promise<void> {
    const mounting = this.#mounts.get(mountpoint);
    if (mounting === undefined) return;
    const { mount } = await mounting;
    mount.detach({ lazy: true });
    this.#mounts.delete(mountpoint);
  }

  /** Ends all mounts, in use or not: readers get errors from then on. */
  async close(): Promise<void> {
    await Promise.allSettled([...this.#mounts.keys()].map((mountpoint) => this.unmount(mountpoint)));
    await Promise.allSettled([...this.#live].map((mount) => mount.close()));
  }
}
