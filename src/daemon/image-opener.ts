/** From an order to an image and its sources: the one place where the daemon asks a store or a registry for something. */
import type { BlockCache } from '../cache/block-cache.js';
import type { RemoteImage } from '../source/image-assembly.js';
import type { Source } from '../source/source.js';
import type { ImageOrder, MountInfo } from './api.js';
import { SourcePool } from './source-pool.js';

export interface OpenedSources {
  /** Best first. */
  sources: Source[];
  passedOver: MountInfo['passedOver'];
  served: string;
  close(): Promise<void>;
}

export interface OpenedOrder extends OpenedSources {
  image: RemoteImage;
}

export class ImageOpener {
  readonly #cache: BlockCache;
  readonly #pool = new SourcePool();

  constructor(cache: BlockCache) {
    this.#cache = cache;
  }

  /** Throws what openImage throws. */
  async open(order: ImageOrder, signal?: AbortSignal): Promise<OpenedOrder> {
    const { store } = order;
    if (store === undefined) {
      const { openImage } = await import('../mount/open-image.js');
      return openImage(order, this.#cache, signal);
    }
    const { loadImage } = await import('../source/remote-image.js');
    const opened = await this.#openStore({ ...order, store });
    try {
      const image = await loadImage(opened.sources[0], order.image, this.#cache.directory, signal);
      return { ...opened, image };
    } catch (error) {
      await opened.close();
      throw error;
    }
  }

  /** Only the sources, of an image whose documents are at hand. */
  async openSources(order: ImageOrder, manifestDigest: string): Promise<OpenedSources> {
    const { store } = order;
    if (store === undefined) return this.open(pinned(order, manifestDigest));
    return this.#openStore({ ...order, store });
  }

  /** A store is one source, shared by all mounts from it. */
  async #openStore(order: ImageOrder & { store: string }): Promise<OpenedSources & { sources: [Source] }> {
    const { servedBy } = await import('../mount/source-choice.js');
    const { source, close } = await this.#pool.open(order);
    return { sources: [source], passedOver: [], served: servedBy([source], 'as --store says', []), close };
  }
}

/** The same image, whatever its name means by now. */
export function pinned(order: ImageOrder, manifestDigest: string): ImageOrder {
  if (order.store !== undefined) return { ...order, image: manifestDigest };
  return { ...order, image: order.image.includes('@') ? order.image : `${order.image}@${manifestDigest}` };
}
