/**
 * Images that were pulled to be mounted: each stays open for a while for the mount that is about to come, which then
 * asks its registry nothing, and what its containers want first is fetched meanwhile.
 */
import type { BlockCache, LayerLease } from '../cache/block-cache.js';
import type { OpenedImage } from '../mount/open-image.js';
import { fetchStartup, profileOf } from '../mount/startup-fetch.js';
import { parseReference } from '../oci/reference.js';
import { log } from '../telemetry/logger.js';
import type { ImageOrder, PullOrder } from './api.js';

/** From the pull to the mount. */
const KEPT_MS = 60_000;

interface Prepared {
  opened: OpenedImage;
  timer: NodeJS.Timeout;
  stop: AbortController;
  /** Never rejects. */
  fetched: Promise<void>;
}

export class PreparedImages {
  readonly #cache: BlockCache;
  readonly #kept = new Map<string, Prepared>();

  constructor(cache: BlockCache) {
    this.#cache = cache;
  }

  /** From now on what was opened is closed here, unless it is taken. */
  keep(order: PullOrder, opened: OpenedImage): void {
    const key = keyOf(order, opened.image.manifestDigest);
    void this.#giveUp(key);
    const stop = new AbortController();
    const fetched = order.profiles === 'off' ? Promise.resolve() : this.#fetch(opened, stop.signal);
    const timer = setTimeout(() => void this.#giveUp(key), KEPT_MS).unref();
    this.#kept.set(key, { opened, timer, stop, fetched });
  }

  /** What was kept of the same order, whose image is named by its digest; from now on the caller's. */
  take(order: ImageOrder): OpenedImage | undefined {
    if (this.#kept.size === 0 || order.store !== undefined) return undefined;
    const { digest } = parseReference(order.image);
    const key = digest === undefined ? '' : keyOf(order, digest);
    const prepared = this.#kept.get(key);
    if (prepared === undefined) return undefined;
    const { opened, timer } = prepared;
    if (order.layers !== undefined && order.layers !== opened.image.config.diffIDs.length) return undefined;
    clearTimeout(timer);
    this.#kept.delete(key);
    return opened;
  }

  /** Closes all of them, or those of one image. Never rejects. */
  async giveUp(manifestDigest?: string): Promise<void> {
    const keys = [...this.#kept]
      .filter(([, { opened }]) => [undefined, opened.image.manifestDigest].includes(manifestDigest))
      .map(([key]) => key);
    await Promise.all(keys.map((key) => this.#giveUp(key)));
  }

  async #giveUp(key: string): Promise<void> {
    const prepared = this.#kept.get(key);
    if (prepared === undefined) return;
    this.#kept.delete(key);
    clearTimeout(prepared.timer);
    prepared.stop.abort();
    await prepared.fetched;
    await prepared.opened.close().catch((error: Error) => log.debug(error.message));
  }

  async #fetch({ image, sources }: OpenedImage, signal: AbortSignal): Promise<void> {
    const cache = this.#cache;
    const leases: LayerLease[] = [];
    const unused = await cache.images.begin(image);
    try {
      for (const { digests } of image.devices) leases.push(await cache.openLayer(digests, sources));
      const profile = await profileOf({ cache, image, signal });
      await fetchStartup({ cache, image, leases, signal }, profile?.usual());
    } catch (error) {
      // The mount will say it.
      log.debug(`${image.name} is not fetched ahead: ${(error as Error).message}`);
    } finally {
      unused();
      await Promise.all(leases.map((lease) => lease.close()));
    }
  }
}

/** Of all that decides what is opened and by whose right, with the image by its digest. */
function keyOf(order: ImageOrder, manifestDigest: string): string {
  const { image, region, transports, platform, pull, registry, environment } = order;
  const { domain, path } = parseReference(image);
  return JSON.stringify([
    domain,
    path,
    manifestDigest,
    ...[region, transports, platform, pull, registry, environment].map((part) => part ?? null),
  ]);
}
