/** The images that the daemon has opened, and what of them lies in the cache. */
import type { BlockCache, LayerLease } from '../cache/block-cache.js';
import type { CachedLayer } from '../cache/cached-layer.js';
import type { ImageInfo, ImageOrder } from './api.js';
import { DaemonError } from './daemon-error.js';
import { recordImage } from './image-record.js';
import type { Mounts } from './mounts.js';
import type { StateFile } from './state-file.js';

/** Blocks that a pull asks for ahead: the scheduler makes large reads of them. */
const AHEAD = 64;
const POLL_MS = 20;

export class Images {
  readonly #cache: BlockCache;
  readonly #state: StateFile;
  readonly #mounts: Mounts;

  constructor(cache: BlockCache, state: StateFile, mounts: Mounts) {
    this.#cache = cache;
    this.#state = state;
    this.#mounts = mounts;
  }

  /** Last used first. */
  list(): ImageInfo[] {
    const mounted = this.#mounts.list();
    return [...this.#state.images.values()]
      .sort((a, b) => b.lastUsedAt - a.lastUsedAt)
      .map(({ devices, ...image }) => ({
        ...image,
        bytesCached: devices.reduce((sum, { digest }) => sum + this.#cache.bytesOf(digest), 0),
        mounts: mounted.filter(({ manifestDigest }) => manifestDigest === image.manifestDigest).length,
      }));
  }

  /** Fetches what of an image is not in the cache. */
  async pull(
    order: ImageOrder,
    onProgress: (done: number, total: number) => void,
    signal: AbortSignal,
  ): Promise<ImageInfo> {
    const { image, sources, close } = await this.#mounts.opener.open(order, signal);
    const leases: LayerLease[] = [];
    try {
      for (const { digests } of image.devices) leases.push(await this.#cache.openLayer(digests, sources));
      const total = image.devices.reduce((sum, { size }) => sum + size, 0);
      let done = 0;
      for (const { layer } of leases) {
        await this.#fill(layer, signal, (bytes) => {
          done += bytes;
          onProgress(done, total);
        });
      }
      const { name, manifestDigest, index: _, config: __, ...record } = await recordImage(image);
      const known = { image: name, manifestDigest, layers: record.devices.length, bytes: total };
      this.#state.images.set(manifestDigest, { ...known, lastUsedAt: Date.now(), devices: record.devices });
      await this.#state.save();
      return this.list().find((info) => info.manifestDigest === manifestDigest) as ImageInfo;
    } finally {
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
