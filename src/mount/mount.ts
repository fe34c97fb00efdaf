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
import type { StartupProfile } from '../cache/startup-profile.js';
import { addon, type FileRead, type Session, type SessionStats, type Touch } from '../native/addon.js';
import type { RemoteImage } from '../source/remote-image.js';
import type { Source, SourceKind } from '../source/source.js';
import type { Histogram } from '../telemetry/histogram.js';
import type { Logger } from '../telemetry/logger.js';
import { useImage } from './image-use.js';
import { MountError } from './mount-error.js';
import { isDead, locate, MNT_DETACH, MNT_FORCE, prepareMountPoint } from './mount-point.js';
import { MountProfile } from './mount-profile.js';
import { mountAt, ORCA_TYPE } from './mount-table.js';
import type { ProfileUse } from './profile-use.js';
import { raiseReadAhead } from './read-ahead.js';
import { sessionTuning } from './session-tuning.js';
import { withResolvers } from './with-resolvers.js';

/** KiB; more than 1 MiB is no faster. */
const READ_AHEAD = 1024;

/** How a mount starts; plain JSON. */
export interface MountSettings {
  /** Walk what containers of the image asked for earlier through the mount, before they ask again; default true. */
  preload?: boolean | undefined;
  /** What becomes of startup profiles; default keep. */
  profiles?: ProfileUse | undefined;
  /** Milliseconds after which a startup profile is replayed, unless `replay` is called before. */
  replayAfter?: number | undefined;
  /** Fetch the rest of the image when the host is idle, at most so many bytes per second; default: never. */
  background?: number | undefined;
}

export function settingsOf({ preload, profiles, replayAfter, background }: MountSettings): MountSettings {
  return { preload, profiles, replayAfter, background };
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
  /** What the cache has of the image. */
  knownProfile?: Promise<StartupProfile | undefined> | undefined;
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
  const { cache, image, profiles, mountpoint, logger } = options;
  const knownProfile = profiles === 'off' ? undefined : cache.profiles.read(image.manifestDigest);
  const place = await prepareMountPoint(mountpoint, logger);
  return useImage(options, (leases, indexPath) =>
    Mount.start(place, leases, { ...options, indexPath, knownProfile }),
  );
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
    const { foresee = true, ...tuning } = sessionTuning(process.env);
    this.#session = new addon.Session({
      fd,
      indexPath: options.indexPath,
      blockFiles: leases.map(({ layer }) => layer.blockFile),
      adopt,
      ...tuning,
      onMiss: (device, firstBlock, count, end) => {
        const lease = leases[device];
        if (lease !== undefined) scheduler.demand(lease.layer, firstBlock, count, end || undefined);
      },
      ...(foresee && {
        onLikely: (device, firstBlock, count) => {
          const lease = leases[device];
          if (lease === undefined) return;
          void scheduler.prefetch(lease.layer, firstBlock, count, { priority: 'read-ahead' });
        },
      }),
      onEnd: (reason, message) => resolve({ reason, message }),
    });
    const { profiles = 'keep', preload = true, cache, image, logger, knownProfile } = options;
    if (profiles !== 'off' && !adopt) {
      this.#profile = new MountProfile({
        ...{ cache, image, session: this.#session, leases, mountpoint: place, preload, logger },
        use: profiles,
        known: knownProfile,
        after: options.replayAfter,
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

  /** Whatever was to be done first is done: the startup profile is replayed now. */
  replay(): void {
    this.#profile?.replay();
  }

  /** Keeps the startup profile as it is by now: for a process that is about to leave its mounts to another. */
  async saveProfile(): Promise<void> {
    await this.#profile?.save();
  }

  /** What is read from now on is of no start. Resolves when the startup profile is kept, before it is published. */
  async endProfile(): Promise<void> {
    await this.#profile?.endRecording();
  }

  /** Mounts at a prepared mount point. When it throws, the leases are the caller's again. */
  static async start(
    place: string,
    leases: readonly LayerLease[],
    options: SessionMountOptions,
  ): Promise<Mount> {
    const fd = mountFuse(place, options.image.name);
    let mount: Mount | undefined;
    try {
      options.onDescriptor?.(fd);
      mount = new Mount(place, fd, leases, options);
      const raised = mount.#raiseReadAhead(options.readAhead);
      await mount.#answer();
      // It looks at the mount, which could not be unmounted meanwhile.
      await raised;
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
    void mount.#raiseReadAhead(options.readAhead);
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

  /** Never rejects: the mount works without. */
  async #raiseReadAhead(kib = READ_AHEAD): Promise<void> {
    this.#readAhead = await raiseReadAhead(this.mountpoint, kib).catch(() => undefined);
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

/**
 * Unmounts what a process of this host, alive or dead, has mounted; with `force` although it is in use, and its users
 * get errors. Throws MountError NOT_MOUNTED or BUSY.
 */
export async function unmountImage(
  path: string,
  options: { lazy?: boolean; force?: boolean } = {},
): Promise<void> {
  const place = await locate(path);
  const there = await mountAt(place);
  if (there?.type !== ORCA_TYPE) {
    throw new MountError(
      'NOT_MOUNTED',
      `${place} is not a mount of Orca (see grep ${ORCA_TYPE} /proc/mounts)`,
    );
  }
  detach(place, options.lazy === true || (await isDead(place)), options.force);
}

/** Takes a mount out of the file tree; one that has gone is no error. Throws MountError BUSY or FAILED. */
export function detach(place: string, lazy: boolean, force = false): void {
  try {
    // Of a FUSE mount, MNT_FORCE ends the connection.
    addon.umount(place, force ? MNT_FORCE | MNT_DETACH : lazy ? MNT_DETACH : 0);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'EBUSY') {
      throw new MountError(
        'BUSY',
        `${place} is in use: end what uses it (fuser -vm ${place} lists it), or give --force`,
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
