/** The snapshotter as a process of its own, until it is told to end. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { BlockCache } from '../cache/block-cache.js';
import type { DaemonClient } from '../daemon/client.js';
import { FileLock } from '../image/lock.js';
import { log } from '../telemetry/logger.js';
import { DaemonImages, prepareByDaemon } from './daemon-images.js';
import { type ImageDefaults, ImageFinder } from './image-finder.js';
import { ImageMounts } from './image-mounts.js';
import { serveSnapshots } from './server.js';
import { SnapshotError } from './snapshot-error.js';
import { Snapshotter } from './snapshotter.js';

/** So long a snapshotter waits for its predecessor, which answers the requests under way before it ends. */
const LOCK_MS = 5000;

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

/**
 * Resolves when `signal` is aborted and the requests under way have been answered. Throws SnapshotError ALREADY_EXISTS
 * when another process uses the root, or answers at the socket.
 */
export async function serveSnapshotter(
  settings: SnapshotterSettings,
  signal: AbortSignal,
  onListening: (socket: string) => void,
): Promise<void> {
  const lock = await lockRoot(settings.root, signal);
  try {
    await serve(settings, signal, onListening);
  } finally {
    lock.release();
  }
}

/** Two that share a root would each remove what the other makes, and give one directory to two snapshots. */
async function lockRoot(root: string, signal: AbortSignal): Promise<FileLock> {
  await mkdir(root, { recursive: true, mode: 0o700 });
  const waiting = AbortSignal.timeout(LOCK_MS);
  try {
    return await FileLock.acquire(join(root, 'lock'), AbortSignal.any([signal, waiting]));
  } catch (error) {
    if (!waiting.aborted) throw error;
    throw new SnapshotError('ALREADY_EXISTS', `${root}: another snapshotter uses this root`);
  }
}

async function serve(
  settings: SnapshotterSettings,
  signal: AbortSignal,
  onListening: (socket: string) => void,
): Promise<void> {
  const { cacheSize: limit, root, socket, daemon } = settings;
  const cache = await BlockCache.open(settings.cache, limit === undefined ? {} : { limit });
  const finder = new ImageFinder(cache, settings.images, signal, daemon && prepareByDaemon(daemon));
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
