/** The snapshotter as a process of its own, until it is told to end. */
import { BlockCache } from '../cache/block-cache.js';
import { log } from '../telemetry/logger.js';
import { type ImageDefaults, ImageMounts } from './image-mounts.js';
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
}

/** Resolves when `signal` is aborted and the requests under way have been answered. */
export async function serveSnapshotter(
  settings: SnapshotterSettings,
  signal: AbortSignal,
  onListening: (socket: string) => void,
): Promise<void> {
  const { cacheSize: limit, root, socket } = settings;
  const cache = await BlockCache.open(settings.cache, limit === undefined ? {} : { limit });
  const images = new ImageMounts(cache, settings.images);
  const snapshotter = await Snapshotter.open({ root, images });
  const server = await serveSnapshots(snapshotter, socket);
  onListening(socket);
  if (!signal.aborted) {
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  }
  await server.close();
  if (images.count > 0) {
    log.warn(`${images.count} mounted images end with this process, and containers on them get errors`);
  }
  await images.close();
  cache.close();
}
