/**
 * The blocks of layer VHDs that the host keeps, in one directory that all mounts and processes share:
 *
 *   CACHE/layers/<hex>.data, .map    the blocks of one layer VHD; <hex> is the sha256 of its block digests
 *   CACHE/blobs/sha256/<hex>         small blobs, the block digests among them
 *   CACHE/profiles/<hex>             startup profiles, by manifest digest
 *   CACHE/inventory/<hex>.json       what belongs to an image, by its manifest digest; CACHE/pins/<hex>: keep it
 *   CACHE/images/<hex>.json          what the catalog said of an image, by its manifest digest
 *   CACHE/lock                       flock(2): whoever evicts
 *
 * A layer is kept by its block digests, not by its diffID: whatever is in a file has been verified against the
 * digests that name the file, so no store can plant blocks for the users of another.
 */
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { statfs, utimes } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { BlockDigests } from '../layer/block-digests.js';
import { addon, type BlockFile } from '../native/addon.js';
import { parseDigest } from '../oci/digest.js';
import { BlobCache } from '../source/blob-cache.js';
import type { Source } from '../source/source.js';
import { type Logger, log } from '../telemetry/logger.js';
import { CacheError } from './cache-error.js';
import { CachedLayer } from './cached-layer.js';
import { Eviction } from './eviction.js';
import { type FetchOptions, FetchScheduler } from './fetch-scheduler.js';
import { IdleProcessors } from './idle-processors.js';
import { ImageInventory } from './image-inventory.js';
import { LayerSource } from './layer-source.js';
import { ProfileStore } from './profile-store.js';
import { SourceState } from './source-state.js';

export interface BlockCacheOptions extends FetchOptions {
  /** Bytes of disk that layers may take, at least MIN_LIMIT; default: 80 % of what is free or taken by them. */
  limit?: number;
  /** Bytes that must be missed in sequence before the scheduler reads ahead, and how far at most (0: never). */
  readAhead?: { openAfter: number; most: number };
  /** The share of the host's processors that is idle, which what is fetched in the background waits for. */
  idleShare?: () => number;
  logger?: Logger;
}

/** Less than this could not hold what the readers of one busy mount wait for. */
export const MIN_LIMIT = 64 << 20;
/** Limit of the directory that stands in for one that cannot be written. */
const SPARE_LIMIT = 256 << 20;
/** Enough for the metadata of a few images and some blocks. */
const ROOM_ON_FULL_DISK = 64 << 20;
/** More than the largest block map of a common layer; what has this much room has room to begin with. */
const PROBE_BYTES = 1 << 16;

/** A layer in use by one mount; `close` ends the use. */
export interface LayerLease {
  readonly layer: CachedLayer;
  /** Other sources in place of those that this lease brought; reads under way end as they are. */
  setSources(sources: readonly Source[]): void;
  close(): Promise<void>;
}

interface Entry {
  layer: CachedLayer;
  mapPath: string;
  leases: number;
  /** How many leases brought each source. */
  users: Map<LayerSource, number>;
}

export class BlockCache {
  /** Where it is in fact: the directory that was asked for, or one that stands in. */
  readonly directory: string;
  readonly scheduler: FetchScheduler;
  readonly eviction: Eviction;
  readonly blobs: BlobCache;
  readonly profiles: ProfileStore;
  /** Images: pins, usage, removal. */
  readonly images: ImageInventory;
  readonly idleShare: () => number;
  readonly #log: Logger;
  readonly #spare: boolean;
  readonly #readAhead: BlockCacheOptions['readAhead'];
  readonly #entries = new Map<string, Entry>();
  readonly #layers = new Map<string, CachedLayer>();
  readonly #closing = new Map<string, Promise<void>>();
  readonly #states = new WeakMap<Source, SourceState>();

  private constructor(directory: string, spare: boolean, limit: number, options: BlockCacheOptions) {
    this.directory = directory;
    this.#spare = spare;
    this.#log = options.logger ?? log;
    this.#readAhead = options.readAhead;
    this.scheduler = new FetchScheduler(options, options.logger);
    this.images = new ImageInventory(directory, {
      isOpen: (hex) => this.#layers.has(hex) || addon.blockFileInUse(join(directory, 'layers', `${hex}.map`)),
      evict: (hex) => this.eviction.evictLayer(hex),
    });
    this.eviction = new Eviction(directory, limit, this.#layers, this.images, options.logger);
    this.blobs = new BlobCache(directory);
    this.profiles = new ProfileStore(directory);
    const processors = new IdleProcessors();
    this.idleShare = options.idleShare ?? (() => processors.share());
  }

  /** Makes the directory if it is missing. Throws CacheError. */
  static async open(directory: string, options: BlockCacheOptions = {}): Promise<BlockCache> {
    if (options.limit !== undefined && !(options.limit >= MIN_LIMIT)) {
      throw new CacheError('INVALID_LIMIT', `a cache limit of ${options.limit} bytes is below ${MIN_LIMIT}`);
    }
    let refusal = prepare(directory);
    if (refusal === undefined || refusal === 'ENOSPC') {
      const cache = new BlockCache(directory, false, options.limit ?? Number.POSITIVE_INFINITY, options);
      await cache.eviction.measure();
      // A disk that the cache has filled itself: it gives some room back.
      if (refusal !== undefined && cache.eviction.used > 0) {
        await cache.eviction.free(ROOM_ON_FULL_DISK);
        refusal = prepare(directory);
      }
      if (options.limit === undefined) {
        const { bavail, bsize } = await statfs(directory);
        cache.eviction.limit = Math.max(MIN_LIMIT, 0.8 * (bavail * bsize + cache.eviction.used));
      }
      if (refusal === undefined) return cache;
    }
    const spare = spareDirectory(directory, refusal);
    (options.logger ?? log).warn(
      `cache ${directory} cannot be written (${refusal}): up to ${SPARE_LIMIT >> 20} MiB are cached in ${spare} until this process ends`,
    );
    return new BlockCache(spare, true, Math.min(options.limit ?? SPARE_LIMIT, SPARE_LIMIT), options);
  }

  /**
   * Opens a layer for one mount, to be fed from `sources` in this order, after those that other mounts brought.
   * Throws CacheError UNUSABLE.
   */
  async openLayer(digests: BlockDigests, sources: readonly Source[]): Promise<LayerLease> {
    const { hex } = parseDigest(digests.name);
    while (this.#closing.has(hex)) await this.#closing.get(hex);
    const entry = this.#entries.get(hex) ?? this.#openEntry(hex, digests);
    entry.leases += 1;
    let brought = sources.map((source) => this.#attach(entry, source));
    let open = true;
    return {
      layer: entry.layer,
      setSources: (replacements) => {
        if (!open) return;
        const former = brought;
        brought = replacements.map((source) => this.#attach(entry, source));
        for (const source of former) detach(entry, source);
      },
      close: async () => {
        if (!open) return;
        open = false;
        entry.leases -= 1;
        for (const source of brought) detach(entry, source);
        if (entry.leases > 0) return;
        const closing = this.#closeEntry(hex, entry).finally(() => this.#closing.delete(hex));
        this.#closing.set(hex, closing);
        await closing;
      },
    };
  }

  /** What is known of a source: its health and what it delivered to all layers. */
  stateOf(source: Source): SourceState {
    const state = this.#states.get(source) ?? new SourceState(source, this.#log);
    this.#states.set(source, state);
    return state;
  }

  /** Bytes of disk that the blocks of a layer take, by the digest of its block digests. */
  bytesOf(digest: string): number {
    const path = join(this.directory, 'layers', `${parseDigest(digest).hex}.data`);
    return (statSync(path, { throwIfNoEntry: false })?.blocks ?? 0) * 512;
  }

  /** To be called when all leases are closed. */
  close(): void {
    if (this.#spare) rmSync(this.directory, { recursive: true, force: true });
  }

  #openEntry(hex: string, digests: BlockDigests): Entry {
    const { size, blockSize } = digests;
    const path = join(this.directory, 'layers', hex);
    const dataPath = `${path}.data`;
    const lastUse = statSync(`${path}.map`, { throwIfNoEntry: false })?.mtimeMs ?? 0;
    let blockFile: BlockFile;
    try {
      blockFile = new addon.BlockFile({
        dataPath,
        mapPath: `${path}.map`,
        size,
        blockSize,
        onTouch: (block) => this.scheduler.touched(layer, block),
      });
    } catch (cause) {
      const { code = '', message } = cause as NodeJS.ErrnoException;
      throw new CacheError('UNUSABLE', `${dataPath} cannot be opened (${code || message}): ${REMEDY}`, {
        cause,
      });
    }
    const makeRoom: Eviction['makeRoom'] = (bytes, missing) => this.eviction.makeRoom(bytes, missing);
    const layer: CachedLayer = new CachedLayer(digests, blockFile, {
      dataPath,
      lastUse,
      makeRoom,
      ...(this.#readAhead === undefined ? {} : { readAhead: this.#readAhead }),
    });
    const entry = { layer, mapPath: `${path}.map`, leases: 0, users: new Map() };
    this.#entries.set(hex, entry);
    this.#layers.set(hex, layer);
    return entry;
  }

  async #closeEntry(hex: string, { layer, mapPath }: Entry): Promise<void> {
    this.#entries.delete(hex);
    this.#layers.delete(hex);
    await this.scheduler.drop(layer);
    await layer.blockFile.close();
    const now = new Date();
    await utimes(mapPath, now, now).catch(() => undefined);
  }

  #attach({ layer, users }: Entry, source: Source): LayerSource {
    const state = this.stateOf(source);
    let found = layer.sources.find((known) => known.state === state);
    if (found === undefined) {
      found = new LayerSource(state, layer.digests);
      layer.sources.push(found);
    }
    users.set(found, (users.get(found) ?? 0) + 1);
    return found;
  }
}

function detach({ layer, users }: Entry, source: LayerSource): void {
  const left = (users.get(source) ?? 0) - 1;
  users.set(source, left);
  if (left > 0) return;
  users.delete(source);
  layer.sources.splice(layer.sources.indexOf(source), 1);
  source.close();
}

const REMEDY = 'choose another directory with --cache, or make this one writable';

/** Makes what the cache consists of. Returns the errno of a disk that is full or read-only; throws CacheError. */
function prepare(directory: string): string | undefined {
  try {
    makeDirectory(join(directory, 'layers'));
    makeDirectory(join(directory, 'blobs', 'sha256'));
    const probe = join(directory, `probe.${process.pid}`);
    try {
      writeFileSync(probe, Buffer.alloc(PROBE_BYTES), { mode: 0o600 });
    } finally {
      rmSync(probe, { force: true });
    }
    return undefined;
  } catch (cause) {
    const { code = '', message } = cause as NodeJS.ErrnoException;
    if (code === 'EROFS' || code === 'ENOSPC' || code === 'EDQUOT') return code;
    throw new CacheError('UNUSABLE', `cache ${directory} cannot be used (${code || message}): ${REMEDY}`, {
      cause,
    });
  }
}

/** As mkdir -p does it; Node's recursive mkdir reports ENOENT where the file system is read-only. */
function makeDirectory(path: string): void {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && statSync(path).isDirectory()) return;
    if (code !== 'ENOENT' || dirname(path) === path) throw error;
    makeDirectory(dirname(path));
    makeDirectory(path);
  }
}

function spareDirectory(directory: string, refusal: string): string {
  for (const parent of [tmpdir(), '/dev/shm']) {
    try {
      const spare = mkdtempSync(join(parent, 'orca-cache-'));
      if (prepare(spare) === undefined) return spare;
    } catch {
      // The next one may do.
    }
  }
  throw new CacheError(
    'UNUSABLE',
    `cache ${directory} cannot be written (${refusal}), nor can ${tmpdir()}: ${REMEDY}`,
  );
}

/** $XDG_CACHE_HOME/orca, or for root /var/cache/orca. */
export function defaultCacheDirectory(): string {
  if (process.getuid?.() === 0) return '/var/cache/orca';
  return join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'orca');
}
