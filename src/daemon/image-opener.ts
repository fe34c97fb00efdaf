/** From an order to an image and its sources: the one place where the daemon asks a store or a registry for something. */
import type { BlockCache } from '../cache/block-cache.js';
import type { OpenedImage } from '../mount/open-image.js';
import { pinnedReference } from '../oci/reference.js';
import type { ImagesInUse } from '../source/image-assembly.js';
import type { Logger } from '../telemetry/logger.js';
import type { ImageOrder } from './api.js';
import { ClientPool } from './client-pool.js';
import { PreparedImages } from './prepared-images.js';
import { SourcePool } from './source-pool.js';

export type OpenedSources = Omit<OpenedImage, 'image'>;

export class ImageOpener {
  readonly prepared: PreparedImages;
  readonly #cache: BlockCache;
  readonly #pool = new SourcePool();
  readonly #clients = new ClientPool();

  constructor(cache: BlockCache) {
    this.#cache = cache;
    this.prepared = new PreparedImages(cache);
  }

  /** Throws what openImage throws. A store is one source, shared by all mounts from it. */
  async open(
    order: ImageOrder,
    signal?: AbortSignal,
    logger?: Logger,
    inUse?: ImagesInUse,
  ): Promise<OpenedImage> {
    const prepared = this.prepared.take(order);
    if (prepared !== undefined) return prepared;
    const { openImage } = await import('../mount/open-image.js');
    return openImage(order, this.#cache, signal, {
      openStore: ({ store }) => this.#pool.open({ ...order, store }),
      openClient: (options) => this.#clients.open(options),
      ...(logger !== undefined && { logger }),
      ...(inUse !== undefined && { inUse }),
      ...(order.environment !== undefined && { env: environmentOf(order.environment) }),
    });
  }

  /** Only the sources, of an image whose documents are at hand. */
  async openSources(order: ImageOrder, manifestDigest: string): Promise<OpenedSources> {
    const { store } = order;
    if (store === undefined) return this.open(pinned(order, manifestDigest));
    const { storeSources } = await import('../mount/open-image.js');
    return storeSources(await this.#pool.open({ ...order, store }));
  }
}

/** The caller's, with the programs of the daemon: credential helpers are looked for on its PATH. */
function environmentOf(environment: Record<string, string>): NodeJS.ProcessEnv {
  return { PATH: process.env['PATH'], ...environment };
}

/** The same image, whatever its name means by now. */
export function pinned(order: ImageOrder, manifestDigest: string): ImageOrder {
  const { image, store } = order;
  return { ...order, image: store === undefined ? pinnedReference(image, manifestDigest) : manifestDigest };
}
