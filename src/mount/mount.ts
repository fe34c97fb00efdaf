/**
 * One mounted image: image index, cached layers and sources, tied to one native session.
 *
 * While it is up, nothing in this process may touch the mounted tree synchronously: a READ that misses is answered
 * by the event loop, which would wait for itself. To spawn a program that lies on it counts: spawn waits for exec.
 */
import { closeSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { fetchInBackground } from '../cache/background-fetch.js';
import type { BlockCache, LayerLease } from '../cache/block-cache.js';
import type { CachedLayer } from '../cache/cached-layer.js';
import { addon, type FileRead, type Session, type SessionStats, type Touch } from '../native/addon.js';
import type { RemoteImage } from '../source/remote-image.js';
import type { Source, SourceKind } from '../source/source.js';
import type { Histogram } from '../telemetry/histogram.js';
import type { Logger } from '../telemetry/logger.js';
import { useImage } from './image-use.js';
import { MountError } from './mount-error.js';
import { isDead, locate, MNT_DETACH, prepareMountPoint } from './mount-point.js';
import { MountProfile } from './mount-profile.js';
import { mountAt, ORCA_TYPE } from './mount-table.js';
import type { ProfileUse } from './profile-use.js';
import { raiseReadAhead } from './read-ahead.js';
import { sessionTuning } from './session-tuning.js';

/** KiB; more than 1 MiB is no faster. */
const READ_AHEAD = 1024;

/** How a mount starts; plain JSON. */
export interface MountSettings {
  /** Walk what containers of the image asked for earlier through the mount, before they ask again; default true. */
  preload?: boolean | undefined;
  /** What becomes of startup profiles; default keep. */
  profiles?: ProfileUse | undefined;
  /** Fetch the rest of the image when the host is idle, at most so many bytes per second; default: never. */
  background?: number | undefined;
}

export function settingsOf({ preload, profiles, background }: MountSettings): MountSettings {
  return { preload, profiles, background };
}

export interface MountOptions extends MountSettings {
  image: RemoteImage;
  /** Where absent blocks come from, in order of preference. */
  sources: readonly Source[];
  cache: BlockCache;
  mountpoint: string;
  /** KiB; default 1024. */
  readAhead?: number;
  logger?: Logger;
  /** Told of the mount's descriptor before anything is served by it, so that it can be stored elsewhere. */
  onDescriptor?: (fd: number) => void;
}

interface SessionMountOptions extends MountOptions {
  /** Of the image index; need not last. */
  indexPath: string;
}

export interface LayerSourceStats {
  kind: SourceKind;
  location: string;
  bytes: number;
  healthy: boolean;
  problem?: string;
  /** How long readers waited for blocks that came from it. */
  waits: Histogram;
}

export interface LayerStats {
  diffID: string;
  blocks: number;
  blocksPresent: number;
  /**
   * In order of preference: the first that is healthy serves. `problem` is what it last failed with, and so why a
   * later one served; `bytes` are those of this layer that came from it and verified.
   */
  sources: LayerSourceStats[];
}

/** How a mount came to its end. */
export interface MountEnd {
  reason: 'unmounted' | 'closed' | 'failed';
  message: string;
}

export interface MountStats {
  session: SessionStats;
  /** READs that were answered without waiting ÷ all READs; 1 before the first. */
  hitRatio: number;
  /** KiB, when it can be known. */
  readAhead: number | undefined;
  layers: LayerStats[];
  /** Verified bytes by the location of the source, over all layers (and all mounts that share them). */
  bytesBySource: Record<string, number>;
}

/**
 * Mounts an image and resolves when the mount answers. Throws MountError, CacheError, or what the kernel refuses;
 * then nothing is left mounted.
 */
export async function mountImage(options: MountOptions): Promise<Mount> {
  const place = await prepareMountPoint(options.mountpoint, options.logger);
  return useImage(options, (leases, indexPath) => Mount.start(place, leases, { ...options, indexPath }));
}

/**
 * Goes on with a mount that another process served, by its descriptor; `mountpoint` is absolute. What that process had
 * in hand is answered. Asks no source for anything. When it throws, the descriptor is closed, and the mount is only
 * alive when somebody else holds it too.
 */
export async function adoptMount(options: MountOptions & { fd: number }): Promise<Mount> {
  // From the session on, the descriptor is the session's.
  let own = true;
  try {
    return await useImage(options, async (leases, indexPath) => {
      own = false;
      return Mount.adopt(options.fd, leases, { ...options, indexPath });
    });
  } catch (error) {
    if (own) closeSync(options.fd);
    throw error;
  }
}

export class Mount {
  /** Absolute, without symbolic links. */
  readonly mountpoint: string;
  /** Resolves when the kernel has ended the mount, whoever asked for it, and all that belongs to it is closed. */
  readonly ended: Promise<MountEnd>;
  /** `performance.now()` when the session began; times of touches and first READs count from it. */
  readonly begunAt = performance.now();
  readonly #session: Session;
  readonly #leases: readonly LayerLease[];
  readonly #ending = new AbortController();
  readonly #profile: MountProfile | undefined;
  #readAhead: number | undefined;

  private constructor(
    place: string,
    fd: number,
    leases: readonly LayerLease[],
    options: SessionMountOptions,
    adopt = false,
  ) {
    const { scheduler } = options.cache;
    const { promise, resolve } = withResolvers<MountEnd>();
    this.mountpoint = place;
    this.#leases = leases;
    this.#session = new addon.Session({
      fd,
      indexPath: options.indexPath,
      blockFiles: leases.map(({ layer }) => layer.blockFile),
      adopt,
      ...sessionTuning(process.env),
      onMiss: (device, firstBlock, count) => {
        const lease = leases[device];
        if (lease !== undefined) scheduler.demand(lease.layer, firstBlock, count);
      },
      onEnd: (reason, message) => resolve({ reason, message }),
    });
    const { profiles = 'keep', preload = true, cache, image, logger } = options;
    if (profiles !== 'off' && !adopt) {
      this.#profile = new MountProfile({
        ...{ cache, image, session: this.#session, leases, mountpoint: place, preload, logger },
        use: profiles,
        signal: this.#ending.signal,
      });
    }
    if (options.background !== undefined) {
      const { background: rate } = options;
      void fetchInBackground(cache, leases, { rate, signal: this.#ending.signal });
    }
    this.ended = promise.then(async (end) => {
      this.#ending.abort();
      await this.#session.close();
      await this.#profile?.end();
      await Promise.all(leases.map((lease) => lease.close()));
      return end;
    });
  }

  /** Keeps the startup profile as it is by now: for a process that is about to leave its mounts to another. */
  async saveProfile(): Promise<void> {
    await this.#profile?.save();
  }

  /** Mounts at a prepared mount point. When it throws, the leases are the caller's again. */
  static async start(
    place: string,
    leases: readonly LayerLease[],
    options: SessionMountOptions,
  ): Promise<Mount> {
    const fd = mountFuse(place, `orca:${options.image.name}`);
    let mount: Mount | undefined;
    try {
      options.onDescriptor?.(fd);
      mount = new Mount(place, fd, leases, options);
      await mount.#answer();
      mount.#readAhead = await raiseReadAhead(place, options.readAhead ?? READ_AHEAD);
      return mount;
    } catch (cause) {
      try {
        addon.umount(place, MNT_DETACH);
      } catch {
        // The kernel has ended it already; what counts is the cause.
      }
      await mount?.close();
      if (cause instanceof MountError) throw cause;
      const { message } = cause as Error;
      throw new MountError('FAILED', `${options.image.name} cannot be mounted at ${place}: ${message}`, {
        cause,
      });
    }
  }

  /** As adoptMount has it. When it throws, the leases are the caller's again. */
  static adopt(fd: number, leases: readonly LayerLease[], options: SessionMountOptions): Mount {
    const mount = new Mount(options.mountpoint, fd, leases, options, true);
    // It has what its first server gave it; what counts is to know the number.
    raiseReadAhead(mount.mountpoint, options.readAhead ?? READ_AHEAD).then(
      (readAhead) => {
        mount.#readAhead = readAhead;
      },
      () => undefined,
    );
    return mount;
  }

  /** True from the end of the session on: there is nothing to be asked any more. */
  get ending(): boolean {
    return this.#ending.signal.aborted;
  }

  /** Reads what is absent from these sources from now on. */
  setSources(sources: readonly Source[]): void {
    for (const lease of this.#leases) lease.setSources(sources);
  }

  /** The blocks that were read, in the order of their first reads. */
  touched(): Touch[] {
    return this.#session.touched();
  }

  /** The files that were read, in the order of their first READs. */
  filesRead(): FileRead[] {
    return this.#session.filesRead();
  }

  /** The layers as the cache has them, in the order of the devices. */
  get layers(): readonly CachedLayer[] {
    return this.#leases.map(({ layer }) => layer);
  }

  stats(): MountStats {
    const session = this.#session.stats();
    const reads = session.readHits + session.readMisses;
    const layers = this.#leases.map(({ layer }) => ({
      diffID: layer.digests.diffID,
      blocks: layer.blockFile.blocks,
      blocksPresent: layer.blockFile.count(),
      sources: layer.sources.map(({ state, bytes, lastProblem, waits }) => ({
        kind: state.source.kind,
        location: state.source.location,
        bytes,
        healthy: state.healthy,
        waits,
        ...(lastProblem === undefined ? {} : { problem: `${lastProblem.code}, ${lastProblem.message}` }),
      })),
    }));
    const bytesBySource: Record<string, number> = {};
    for (const { location, bytes } of layers.flatMap((layer) => layer.sources)) {
      bytesBySource[location] = (bytesBySource[location] ?? 0) + bytes;
    }
    const hitRatio = reads === 0 ? 1 : session.readHits / reads;
    return { session, hitRatio, readAhead: this.#readAhead, layers, bytesBySource };
  }

  /**
   * Unmounts and waits for the end; with `lazy`, only takes it out of the file tree, and it ends when nobody uses it
   * any more. Throws MountError BUSY.
   */
  async unmount(options: { lazy?: boolean } = {}): Promise<void> {
    this.detach(options);
    if (!options.lazy) await this.ended;
  }

  /** The same without waiting: a copy in another mount namespace keeps it alive. Throws MountError BUSY. */
  detach(options: { lazy?: boolean } = {}): void {
    this.#session.stopPreload();
    detach(this.mountpoint, options.lazy ?? false);
  }

  /** Ends the session whatever uses it: readers get an error from now on. The mount point has to be unmounted. */
  async close(): Promise<void> {
    await this.#session.close();
    await this.ended;
  }

  /** A first answer from the session's threads; statfs(2) does not run on the event loop. */
  async #answer(): Promise<void> {
    await Promise.race([
      statfs(this.mountpoint),
      this.ended.then(({ message }) => {
        throw new MountError('FAILED', `the mount at ${this.mountpoint} ended at once: ${message}`);
      }),
    ]);
  }
}

/** Unmounts what a process of this host, alive or dead, has mounted. Throws MountError NOT_MOUNTED or BUSY. */
export async function unmountImage(path: string, options: { lazy?: boolean } = {}): Promise<void> {
  const place = await locate(path);
  const there = await mountAt(place);
  if (there?.type !== ORCA_TYPE) {
    throw new MountError(
      'NOT_MOUNTED',
      `${place} is not a mount of Orca (see grep ${ORCA_TYPE} /proc/mounts)`,
    );
  }
  detach(place, options.lazy === true || (await isDead(place)));
}

function detach(place: string, lazy: boolean): void {
  try {
    addon.umount(place, lazy ? MNT_DETACH : 0);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'EBUSY') {
      throw new MountError(
        'BUSY',
        `${place} is in use: end what uses it (fuser -vm ${place} lists it), or unmount lazily`,
        { cause },
      );
    }
    // Somebody else was faster.
    if (code === 'EINVAL') return;
    throw new MountError('FAILED', `${place} cannot be unmounted: ${message}`, { cause });
  }
}

function mountFuse(place: string, source: string): number {
  try {
    return addon.mountFuse(place, { source });
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'EPERM') {
      throw new MountError('NOT_PERMITTED', `this user may not mount at ${place} (${message}): run as root`, {
        cause,
      });
    }
    if (code === 'ENODEV') {
      throw new MountError('NO_FUSE', 'the kernel has no FUSE: load the module (modprobe fuse)', { cause });
    }
    throw new MountError('FAILED', `${place} cannot be mounted: ${message}`, { cause });
  }
}

function withResolvers<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((r) => {
    resolve = r;
  });
  return { promise, resolve };
}
