/** The images that the cache holds: listed, filled, pinned and removed, never under a mount. */
import type { BlockCache, LayerLease } from '../cache/block-cache.js';
import type { CachedLayer } from '../cache/cached-layer.js';
import type { Logger } from '../telemetry/logger.js';
import type { ImageInfo, PruneAnswer, PulledImage, PullOrder } from './api.js';
import { DaemonError } from './daemon-error.js';
import type { Mounts } from './mounts.js';

/** Blocks that a pull asks for ahead: the scheduler makes large reads of them. */
const AHEAD = 64;
const POLL_MS = 20;
/** Digits of a digest that may stand for all of it. */
const SHORTEST = 6;

export class Images {
  readonly #cache: BlockCache;
  readonly #mounts: Mounts;

  constructor(cache: BlockCache, mounts: Mounts) {
    this.#cache = cache;
    this.#mounts = mounts;
  }

  /** Last used first. */
  async list(): Promise<ImageInfo[]> {
    const mounted = this.#mounts.list();
    return (await this.#cache.images.usage())
      .sort((a, b) => b.lastUse - a.lastUse)
      .map(({ image, name, layers, bytes, pinned, lastUse }) => ({
        ...{ image: name, manifestDigest: image, layers, bytesCached: bytes, pinned, lastUsedAt: lastUse },
        mounts: mounted.filter(({ manifestDigest }) => manifestDigest === image).length,
      }));
  }

  /** By name, digest or the beginning of a digest. Throws NOT_FOUND. */
  async find(name: string): Promise<ImageInfo> {
    const images = await this.list();
    const named = images.filter(({ image, manifestDigest }) => image === name || manifestDigest === name);
    const found = named.length > 0 ? named : images.filter((image) => beginsWith(image, name));
    const [only] = found;
    if (only === undefined) throw new DaemonError('NOT_FOUND', `the cache has no image ${name}`);
    if (found.length > 1) {
      const digests = found.map(({ manifestDigest }) => manifestDigest).join(', ');
      throw new DaemonError('INVALID_REQUEST', `${name} is several images: ${digests}`);
    }
    return only;
  }

  async setPinned(name: string, pinned: boolean): Promise<ImageInfo> {
    const image = await this.find(name);
    if (pinned) await this.#cache.images.pin(image.manifestDigest);
    else await this.#cache.images.unpin(image.manifestDigest);
    return { ...image, pinned };
  }

  /** Throws NOT_FOUND, BUSY. */
  async remove(name: string): Promise<ImageInfo> {
    const image = await this.find(name);
    await this.#mounts.giveUpUnused(image.manifestDigest);
    if (!(await this.#removable(true)).includes(image.manifestDigest)) {
      throw new DaemonError('BUSY', `${image.image} is mounted: unmount it first (orca ps)`);
    }
    await this.#cache.images.remove(image.manifestDigest);
    await this.#cache.eviction.measure();
    return image;
  }

  /** Removes what nobody has mounted; with `all` also what is pinned. */
  async prune(all: boolean): Promise<PruneAnswer> {
    const { eviction } = this.#cache;
    // Documents that came since it was measured last are not counted yet.
    await eviction.measure();
    const before = eviction.used;
    const images = await this.list();
    const removed: ImageInfo[] = [];
    const prunable = images.filter(({ pinned }) => all || !pinned);
    await Promise.all(prunable.map(({ manifestDigest }) => this.#mounts.giveUpUnused(manifestDigest)));
    for (const digest of await this.#removable(all)) {
      const image = images.find(({ manifestDigest }) => manifestDigest === digest);
      // Mounted meanwhile?
      if (image === undefined || !(await this.#removable(all)).includes(digest)) continue;
      await this.#cache.images.remove(digest);
      removed.push(image);
    }
    await eviction.measure();
    // What is mounted meanwhile fills the cache.
    return { images: removed, bytesFreed: Math.max(0, before - eviction.used) };
  }

  /** Mounts of other processes, and those that are just being made, count as well. */
  #removable(pinned: boolean): Promise<string[]> {
    return this.#cache.images.evictable({ pinned });
  }

  /** Fetches what a mount has to know of an image and, with `blocks`, what of it is not in the cache. */
  async pull(
    order: PullOrder,
    onProgress: (done: number, total: number) => void,
    signal: AbortSignal,
    logger?: Logger,
  ): Promise<PulledImage> {
    const { opener } = this.#mounts;
    const opened = await opener.open(order, signal, logger);
    const { image, sources, expandedHere = 0 } = opened;
    const leases: LayerLease[] = [];
    const unused = await this.#cache.images.begin(image);
    let close = opened.close;
    try {
      if (order.willMount) {
        opener.prepared.keep(order, opened);
        close = async () => undefined;
      }
      if (!order.blocks) return { ...(await this.find(image.manifestDigest)), expandedHere };
      for (const { digests } of image.devices) leases.push(await this.#cache.openLayer(digests, sources));
      const total = image.devices.reduce((sum, { size }) => sum + size, 0);
      let done = 0;
      for (const { layer } of leases) {
        await this.#fill(layer, signal, (bytes) => {
          done += bytes;
          onProgress(done, total);
        });
      }
      return { ...(await this.find(image.manifestDigest)), expandedHere };
    } finally {
      unused();
      await Promise.all(leases.map((lease) => lease.close()));
      await close();
    }
  }

  async #fill(layer: CachedLayer, signal: AbortSignal, onBytes: (bytes: number) => void): Promise<void> {
    const { blocks } = layer.blockFile;
    const { blockSize, size, diffID } = layer.digests;
    const { scheduler } = this.#cache;
    for (let first = 0; first < blocks; first += AHEAD) {
      const count = Math.min(AHEAD, blocks - first);
      const wanted = Array.from({ length: count }, (_, i) => first + i).filter(
        (b) => !layer.blockFile.has(b),
      );
      for (const block of wanted) scheduler.demand(layer, block, 1);
      while (wanted.some((block) => layer.wants.has(block))) {
        signal.throwIfAborted();
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
      const failed = wanted.filter((block) => !layer.blockFile.has(block));
      // What the eviction took away again was there; a disk that is full is no reason to go on.
      if (failed.length === wanted.length && failed.length > 0) {
        throw new DaemonError(
          'NO_ANSWER',
          `blocks of layer ${diffID} cannot be fetched or kept: see the log`,
        );
      }
      onBytes(Math.min(size, (first + count) * blockSize) - first * blockSize);
    }
  }
}

function beginsWith({ manifestDigest }: ImageInfo, text: string): boolean {
  const hex = text.replace(/^sha256:/, '');
  return hex.length >= SHORTEST && manifestDigest.startsWith(`sha256:${hex}`);
}
