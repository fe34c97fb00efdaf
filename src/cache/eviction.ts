/**
 * Keeps the cache directory under its limit: block groups go in the order of their last use, oldest first.
 *
 * Of a layer that is open here, the last use of each group is known: when it was last filled. (What is read often
 * stays in the kernel's page cache and needs the file no more.) Of every other layer, one time is known, the
 * modification time of its map, which every change and every close renews. So the order survives restarts without a
 * file of its own, and it is right where it matters: what is not mounted goes before what is, and of that the layer
 * that was used longest ago. Layers that another process has open go last, as those that are open here. Layers of
 * pinned images never go. The blobs of an image that nobody uses go after the blocks of what is not mounted, and count
 * like them.
 */
import { type FileHandle, open, readdir, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { addon, type BlockFile } from '../native/addon.js';
import { type Logger, log } from '../telemetry/logger.js';
import { type Geometry, readGeometry } from './block-map.js';
import { blocksPerGroup, type CachedLayer } from './cached-layer.js';
import type { ImageInventory } from './image-inventory.js';

/** A pass evicts down to this part of the limit, so that there are few passes. */
const LOW_WATER = 0.9;
/** Tries for the lock of another process that evicts, 20 ms apart, before writing on over the limit. */
const LOCK_TRIES = 50;

/** What may go: block groups of a layer that is not open here, one group of one that is, or the blobs of an image. */
interface Candidate {
  hex: string;
  lastUse: number;
  /** Another process has it open. */
  elsewhere?: boolean;
  image?: string;
  open?: { layer: CachedLayer; group: number };
}

export class Eviction {
  /** Bytes of disk that layers may take. */
  limit: number;
  /** Bytes of disk that the layers have, as far as this process knows. */
  used = 0;
  bytesEvicted = 0;
  /** Asked for what is not needed when all that may go is not enough. Never rejects. */
  lastResort: () => Promise<void> = async () => undefined;
  readonly #layers: string;
  readonly #blobs: string;
  readonly #lock: string;
  readonly #openLayers: ReadonlyMap<string, CachedLayer>;
  readonly #log: Logger;
  readonly #inventory: ImageInventory;
  #pass: Promise<void> | undefined;
  /** Of each promise of room: how many of its bytes are not on the disk yet. */
  readonly #promises = new Set<() => number>();

  /** `openLayers`: by the hex digits of their file names. */
  constructor(
    directory: string,
    limit: number,
    openLayers: ReadonlyMap<string, CachedLayer>,
    inventory: ImageInventory,
    logger: Logger = log,
  ) {
    this.#inventory = inventory;
    this.#layers = join(directory, 'layers');
    this.#blobs = join(directory, 'blobs', 'sha256');
    this.#lock = join(directory, 'lock');
    this.limit = limit;
    this.#openLayers = openLayers;
    this.#log = logger;
  }

  /**
   * Resolves when `bytes` more fit under the limit, or cannot be made to fit, with a function that is to be called
   * when they have been written. `missing`: how many of them are not on the disk yet. Never rejects.
   */
  async makeRoom(bytes: number, missing: () => number = () => bytes): Promise<() => void> {
    while (this.used + bytes > this.limit) {
      if (this.#pass === undefined) {
        this.#pass = this.#evict(this.limit * LOW_WATER - bytes);
        await this.#pass;
        this.#pass = undefined;
        break;
      }
      await this.#pass;
    }
    this.used += bytes;
    // A function of its own, since callers may share one.
    const promise = () => missing();
    this.#promises.add(promise);
    return () => {
      this.#promises.delete(promise);
    };
  }

  /** Counts what is there and what is on its way, since other processes fill the cache as well. */
  async measure(): Promise<void> {
    const blobs = await this.#blobBytes();
    const layers = new Map<string, number>();
    for (const hex of await this.#files()) {
      const found = await stat(join(this.#layers, `${hex}.data`)).catch(() => undefined);
      layers.set(hex, (found?.blocks ?? 0) * 512);
    }
    // In one turn of the event loop: what is on its way must count once, on the disk or as a promise.
    for (const [hex, { blockFile }] of this.#openLayers) layers.set(hex, blockFile.bytesOnDisk());
    this.used = blobs;
    for (const bytes of layers.values()) this.used += bytes;
    for (const missing of this.#promises) this.used += missing();
  }

  /** Frees the blocks of a layer that this process has not open, and their files. Never rejects. */
  async evictLayer(hex: string): Promise<void> {
    try {
      await this.#evictClosed(hex, Number.NEGATIVE_INFINITY);
    } catch (error) {
      this.#log.warn(`blocks cannot be evicted from ${this.#layers}: ${(error as Error).message}`);
    }
  }

  async #blobBytes(): Promise<number> {
    let bytes = 0;
    for (const name of await readdir(this.#blobs).catch(() => [])) {
      bytes += ((await stat(join(this.#blobs, name)).catch(() => undefined))?.blocks ?? 0) * 512;
    }
    return bytes;
  }

  /** Evicts `bytes`, whatever the limit. Never rejects. */
  async free(bytes: number): Promise<void> {
    await this.#evict(this.used - bytes);
  }

  /** Evicts until at most `target` bytes are used. */
  async #evict(target: number): Promise<void> {
    let lock: FileHandle | undefined;
    try {
      lock = await open(this.#lock, 'w');
      if (!(await tryLock(lock))) return;
      await this.measure();
      await this.#evictCandidates(target);
      if (this.used <= target) return;
      await this.lastResort();
      await this.#evictCandidates(target);
    } catch (error) {
      this.#log.warn(`blocks cannot be evicted from ${this.#layers}: ${(error as Error).message}`);
    } finally {
      await lock?.close();
    }
  }

  async #evictCandidates(target: number): Promise<void> {
    for (const candidate of await this.#candidates()) {
      if (this.used <= target) break;
      if (candidate.image !== undefined) await this.#evictImage(candidate.image);
      else if (candidate.open === undefined) await this.#evictClosed(candidate.hex, target);
      else
        this.#evictGroup(candidate.open.layer.blockFile, candidate.open.group, candidate.open.layer.digests);
      await turn();
    }
  }

  /** In the order in which they go. */
  async #candidates(): Promise<Candidate[]> {
    const candidates: Candidate[] = [];
    const pinned = await this.#inventory.pinnedLayers();
    for (const hex of await this.#files()) {
      if (pinned.has(hex)) continue;
      const layer = this.#openLayers.get(hex);
      if (layer === undefined) {
        const map = join(this.#layers, `${hex}.map`);
        candidates.push({ hex, lastUse: await lastUseOf(map), elsewhere: addon.blockFileInUse(map) });
        continue;
      }
      layer.lastUse.forEach((lastUse, group) => {
        if (!layer.isWanted(group)) candidates.push({ hex, lastUse, open: { layer, group } });
      });
    }
    const images = await this.#inventory.evictable();
    for (const [age, image] of images.entries()) candidates.push({ hex: '', lastUse: age, image });
    const rank = ({ image, open, elsewhere }: Candidate) =>
      image !== undefined ? 1 : open !== undefined || elsewhere ? 2 : 0;
    return candidates.sort((a, b) => rank(a) - rank(b) || a.lastUse - b.lastUse);
  }

  async #evictImage(image: string): Promise<void> {
    const before = await this.#blobBytes();
    await this.#inventory.remove(image);
    const freed = before - (await this.#blobBytes());
    this.used -= freed;
    this.bytesEvicted += freed;
  }

  /** Evicts groups of a layer that this process has not open, until the target is reached; at the end, its files. */
  async #evictClosed(hex: string, target: number): Promise<void> {
    const dataPath = join(this.#layers, `${hex}.data`);
    const mapPath = join(this.#layers, `${hex}.map`);
    const geometry = await readGeometry(mapPath);
    if (this.#openLayers.has(hex)) return;
    if (geometry !== undefined) {
      const { size, blockSize, count } = geometry;
      const lastUse = await lastUseOf(mapPath);
      const file = new addon.BlockFile({ dataPath, mapPath, size, blockSize });
      try {
        for (let group = 0; group * blocksPerGroup(blockSize) < count && this.used > target; group++) {
          this.#evictGroup(file, group, geometry);
        }
      } finally {
        await file.close();
      }
      await utimes(mapPath, new Date(), new Date(lastUse));
      if (this.used <= target || this.#openLayers.has(hex)) return;
    }
    const left = ((await stat(dataPath).catch(() => undefined))?.blocks ?? 0) * 512;
    if (!this.#openLayers.has(hex) && addon.removeBlockFile(dataPath, mapPath)) this.used -= left;
  }

  #evictGroup(file: BlockFile, group: number, { blockSize, count }: Geometry): void {
    const first = group * blocksPerGroup(blockSize);
    const before = file.bytesOnDisk();
    file.evict(first, Math.min(blocksPerGroup(blockSize), count - first));
    const freed = before - file.bytesOnDisk();
    this.used -= freed;
    this.bytesEvicted += freed;
  }

  async #files(): Promise<string[]> {
    const names = await readdir(this.#layers);
    return names.filter((name) => name.endsWith('.data')).map((name) => name.slice(0, -'.data'.length));
  }
}

/** Milliseconds since 1970; 0 when there is no such file. */
async function lastUseOf(mapPath: string): Promise<number> {
  return (await stat(mapPath).catch(() => undefined))?.mtimeMs ?? 0;
}

async function tryLock(lock: FileHandle): Promise<boolean> {
  for (let tries = 0; tries < LOCK_TRIES; tries++) {
    if (addon.tryLock(lock.fd, 'exclusive')) return true;
    await sleep(20);
  }
  return false;
}
