/** The snapshotter as a process of its own, until it is told to end. */
import { BlockCache } from '../cache/block-cache.js';
import type { DaemonClient } from '../daemon/client.js';
import { log } from '../telemetry/logger.js';
import { DaemonImages } from './daemon-images.js';
import { type ImageDefaults, ImageFinder } from './image-finder.js';
import { ImageMounts } from './image-mounts.js';
import { serveSnapshots } from './server.js';
import { Snapshotter } from './snapshotter.js';

export interface SnapshotterSettings {
  root: string;
  socket: string;
  /** Directory of the block cache. */
  cache: string;
  /** Bytes; without it the cache decides. */
  cacheSize?: number | undefined;
  /** How images of registries are opened. */
  images: ImageDefaults;
  /** Who mounts images; without it this process does. */
  daemon?: DaemonClient | undefined;
}

/** Resolves when `signal` is aborted and the requests under way have been answered. */
export async function serveSnapshotter(
  settings: SnapshotterSettings,
  signal: AbortSignal,
  onListening: (socket: string) => void,
): Promise<void> {
  const { cacheSize: limit, root, socket, daemon } = settings;
  const cache = await BlockCache.open(settings.cache, limit === undefined ? {} : { limit });
  const finder = new ImageFinder(cache, settings.images);
  const own = new ImageMounts(cache, finder);
  const images = daemon === undefined ? own : new DaemonImages(daemon, finder);
  const server = await serveSnapshots(await Snapshotter.open({ root, images }), socket);
  onListening(socket);
  if (!signal.aborted) {
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  }
  await server.close();
  if (own.count > 0) {
    log.warn(`${own.count} mounted images end with this process, and containers on them get errors`);
  }
  await own.close();
  cache.close();
}
