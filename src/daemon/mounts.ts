/**
 * The mounts of this host: made, adopted from a daemon that has gone, listed and removed.
 *
 * Order of things, so that a crash at any point leaves nothing that the next daemon does not find: the state file
 * knows a mount before the kernel does; its descriptor is stored before a request is served; at the end the kernel
 * comes first, then the descriptor, then the state file.
 */
import { closeSync } from 'node:fs';
import type { BlockCache } from '../cache/block-cache.js';
import { adoptMount, type Mount, mountImage, settingsOf } from '../mount/mount.js';
import { MountError } from '../mount/mount-error.js';
import { isDead, locate, MNT_DETACH } from '../mount/mount-point.js';
import { mountAt, ORCA_TYPE } from '../mount/mount-table.js';
import type { OpenedImage } from '../mount/open-image.js';
import { addon } from '../native/addon.js';
import { duplicate } from '../native/supervision.js';
import { type Logger, log } from '../telemetry/logger.js';
import type { MountInfo, MountRequest } from './api.js';
import { DaemonError } from './daemon-error.js';
import type { Descriptor, DescriptorStore } from './descriptors.js';
import { ImageOpener, pinned } from './image-opener.js';
import { ImageRecords, recordImage } from './image-record.js';
import { BackgroundSources, type CompleteRecord, ServedMount } from './served-mount.js';
import type { MountRecord, StateFile } from './state-file.js';

/** Descriptors of mounts are stored under this and the mount's id. */
const PREFIX = 'mount-';
/** After umount(2) the kernel ends a mount at once, unless another mount namespace has a copy of it, as new ones do. */
const ELSEWHERE_MS = { force: 2000, otherwise: 10_000 };
/** Before an adoption that failed is tried again, in milliseconds. */
const LATER = 1000;

export class Mounts {
  readonly opener: ImageOpener;
  readonly #cache: BlockCache;
  readonly #state: StateFile;
  readonly #store: DescriptorStore;
  readonly #log: Logger;
  readonly #served = new Map<string, ServedMount>();
  readonly #starting = new Map<string, Promise<ServedMount>>();
  /** Descriptors of mounts that cannot be served yet, by id. */
  readonly #waiting = new Map<string, number>();
  readonly #descriptors = new Map<string, number>();

  constructor(cache: BlockCache, state: StateFile, store: DescriptorStore, logger: Logger = log) {
    this.#cache = cache;
    this.#state = state;
    this.#store = store;
    this.#log = logger;
    this.opener = new ImageOpener(cache);
  }

  get size(): number {
    return this.#served.size + this.#starting.size + this.#waiting.size;
  }

  /** The descriptors of all mounts, to be kept over an exec. */
  descriptors(): Descriptor[] {
    const held = new Map([...this.#descriptors, ...this.#waiting]);
    return [...held].map(([id, fd]) => ({ name: `${PREFIX}${id}`, fd }));
  }

  list(): MountInfo[] {
    return this.all().map((served) => served.info());
  }

  all(): ServedMount[] {
    return [...this.#served.values()].filter(isListed);
  }

  get(id: string): ServedMount {
    const served = this.#served.get(id);
    if (served === undefined || !isListed(served))
      throw new DaemonError('NOT_FOUND', `there is no mount ${id}`);
    return served;
  }

  /** The mount at a path; undefined when it is none of ours. */
  at(mountpoint: string): ServedMount | undefined {
    return [...this.#served.values()].find(({ record }) => record.mountpoint === mountpoint);
  }

  /** Resolves when nothing is being mounted. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#starting.values());
  }

  async ended(): Promise<void> {
    await Promise.all([...this.#served.values()].map(({ mount }) => mount.ended));
  }

  /** Makes the mount, or finds it made: a client whose daemon died asks again. Throws what mounting throws. */
  async create(
    id: string,
    request: MountRequest,
    signal: AbortSignal,
    logger = this.#log,
  ): Promise<MountInfo> {
    const known = this.#served.get(id);
    if (known !== undefined && isListed(known)) return known.info();
    if (known?.record.isElsewhere)
      throw new DaemonError(
        'BUSY',
        `the mount ${id} is still used in another mount namespace: give another id`,
      );
    const starting = this.#starting.get(id) ?? this.#start(id, request, signal, logger);
    this.#starting.set(id, starting);
    try {
      return (await starting).info();
    } finally {
      this.#starting.delete(id);
    }
  }

  async #start(id: string, request: MountRequest, signal: AbortSignal, logger: Logger): Promise<ServedMount> {
    const mountpoint = await locate(request.mountpoint);
    const record: MountRecord = { id, mountpoint, request, createdAt: Date.now() };
    this.#state.mounts.set(id, record);
    let opened: OpenedImage | undefined;
    try {
      const [, image] = await Promise.all([this.#save(), this.opener.open(request, signal, logger)]);
      opened = image;
      signal.throwIfAborted();
      record.image = await recordImage(image.image);
      const { sources } = image;
      record.sources = sources.map(({ kind, location }) => ({ kind, location }));
      const saved = this.#save();
      const mount = await mountImage({
        image: image.image,
        sources,
        cache: this.#cache,
        mountpoint,
        ...settingsOf(request),
        onDescriptor: (fd) => this.#hold(id, fd),
      });
      await saved;
      const served = new ServedMount(record as CompleteRecord, mount);
      served.use(image);
      this.#serve(served);
      this.#log.info(`mounted ${record.image.name} at ${mountpoint}`, { id });
      if (signal.aborted) await this.remove(id, { force: true });
      signal.throwIfAborted();
      return served;
    } catch (error) {
      await opened?.close();
      await this.#forget(id);
      throw error;
    }
  }

  #hold(id: string, fd: number): void {
    this.#descriptors.set(id, fd);
    this.#store.store(`${PREFIX}${id}`, fd);
  }

  #serve(served: ServedMount): void {
    const { id, image, mountpoint } = served.record;
    this.#served.set(id, served);
    void served.mount.ended.then(async ({ reason, message }) => {
      this.#served.delete(id);
      this.#descriptors.delete(id);
      // The descriptor before the sources, which may be slow to close: a daemon that ends meanwhile must not leave it.
      await this.#forget(id);
      await served.closeSources();
      const text = `${image.name} at ${mountpoint} is unmounted`;
      if (reason === 'failed') this.#log.error(`${text}: ${message}`, { id });
      else this.#log.info(text, { id });
    });
  }

  /** A disk that refuses the state makes mounts mortal, and nothing worse. */
  async #save(): Promise<void> {
    await this.#state.save().catch((error: Error) => {
      this.#log.error('the state file cannot be written: mounts would not survive a crash of the daemon', {
        error,
      });
    });
  }

  async #forget(id: string): Promise<void> {
    this.#descriptors.delete(id);
    this.#store.forget(`${PREFIX}${id}`);
    if (this.#state.mounts.delete(id)) await this.#save();
  }

  /**
   * Unmounts. Throws MountError BUSY; with `lazy` the mount goes when nobody uses it any more, with `force` at once,
   * and its users get errors.
   */
  async remove(id: string, { lazy = false, force = false } = {}): Promise<void> {
    await this.#starting.get(id)?.catch(() => undefined);
    const { mount, record } = (force && this.#served.get(id)) || this.get(id);
    try {
      mount.detach({ lazy });
    } catch (error) {
      if (!force || !(error instanceof MountError) || error.code !== 'BUSY') throw error;
      this.#log.warn(`${mount.mountpoint} is still in use, and what uses it gets errors from now on`);
      mount.detach({ lazy: true });
      return await this.#end(id, mount);
    }
    if (lazy || (await isSettledWithin(mount.ended, ELSEWHERE_MS[force ? 'force' : 'otherwise']))) return;
    const elsewhere = `${mount.mountpoint} is unmounted, and lives on in another mount namespace`;
    if (!force) {
      this.#log.warn(`${elsewhere} until that ends`);
      record.isElsewhere = true;
      return await this.#save();
    }
    this.#log.warn(`${elsewhere}, which gets errors from now on`);
    await this.#end(id, mount);
  }

  /** Ends a session that somebody still uses. */
  async #end(id: string, mount: Mount): Promise<void> {
    // As long as anybody holds the descriptor, the kernel waits for answers.
    this.#store.forget(`${PREFIX}${id}`);
    this.#store.barrier();
    await mount.close();
  }

  /** Goes on with what an earlier daemon left, all mounts at once, and clears away what cannot go on. */
  async adopt(descriptors: readonly Descriptor[]): Promise<number> {
    const left = new Map<string, number>();
    for (const { name, fd } of descriptors)
      if (name.startsWith(PREFIX)) left.set(name.slice(PREFIX.length), fd);
    const images = new ImageRecords(this.#cache);
    const records = [...this.#state.mounts.values()];
    const attached = await Promise.all(
      records.map(async (record) => {
        const fd = left.get(record.id);
        left.delete(record.id);
        if (fd === undefined || record.image === undefined) return void (await this.#abandon(record, fd));
        await this.#attach(record as CompleteRecord, fd, images);
        return record;
      }),
    );
    for (const [id, fd] of left) await this.#abandon({ id }, fd);
    return attached.filter((record) => record !== undefined).length;
  }

  async #attach(record: CompleteRecord, fd: number, images: ImageRecords): Promise<void> {
    const { id, mountpoint } = record;
    let mount: Mount;
    let own: number;
    const background = new BackgroundSources(record, this.opener, (opened) => {
      const served = this.#served.get(id);
      served?.mount.setSources(opened.sources);
      served?.use(opened);
    });
    try {
      const image = await images.read(record.image);
      // What fails to be adopted closes the descriptor that it was given.
      own = duplicate(fd);
      mount = await adoptMount({
        image,
        sources: background.placeholders,
        cache: this.#cache,
        mountpoint,
        background: record.request.background,
        fd: own,
      });
    } catch (error) {
      background.close();
      this.#attachLater(record, fd, error as Error);
      return;
    }
    closeSync(fd);
    this.#descriptors.set(id, own);
    const served = new ServedMount(record, mount);
    this.#serve(served);
    served.openInBackground(background);
  }

  /** Its readers wait meanwhile: what the cache has lost is fetched again first. */
  #attachLater(record: CompleteRecord, fd: number, error: Error): void {
    const { id, image, mountpoint, request } = record;
    this.#waiting.set(id, fd);
    this.#log.warn(`${mountpoint} cannot be served yet, trying again: ${error.message}`, { id });
    setTimeout(async () => {
      try {
        const opened = await this.opener.open(pinned(request, image.manifestDigest));
        await opened.close();
      } catch {}
      this.#waiting.delete(id);
      await this.#attach(record, fd, new ImageRecords(this.#cache));
    }, LATER);
  }

  /** Of a mount that cannot go on nothing stays, neither in the kernel nor in the store. */
  async #abandon({ id, mountpoint }: Partial<MountRecord> & { id: string }, fd?: number): Promise<void> {
    this.#log.warn('clearing away a mount that was left behind', {
      id,
      mountpoint,
      adoptable: fd !== undefined,
    });
    this.#state.mounts.delete(id);
    this.#store.forget(`${PREFIX}${id}`);
    if (fd !== undefined) {
      this.#store.barrier();
      closeSync(fd);
    }
    if (mountpoint !== undefined) await removeDead(mountpoint);
    await this.#save();
  }

  /** Ends all of them, whoever uses them. */
  async removeAll(): Promise<void> {
    await Promise.all([...this.#served.keys()].map((id) => this.remove(id, { force: true })));
  }

  /** Unmounts what can be unmounted; returns how many mounts are still in use. */
  async removeUnused(): Promise<number> {
    await Promise.all([...this.#served.keys()].map((id) => this.remove(id).catch(() => undefined)));
    return this.size;
  }

  /** Keeps the startup profiles of what goes on under another daemon. */
  async saveProfiles(): Promise<void> {
    await Promise.all([...this.#served.values()].map(({ mount }) => mount.saveProfile()));
  }

  /** Directories of the containers that have mounts here. */
  containers(): string[] {
    return [...this.#served.values()].flatMap(({ record }) => record.request.container ?? []);
  }

  /** Ends the mounts of one container, whoever uses them. */
  async removeBelow(container: string): Promise<void> {
    const own = [...this.#served.values()].filter(({ record }) => record.request.container === container);
    await Promise.all(own.map(({ record }) => this.remove(record.id, { force: true })));
  }
}

/** Takes a mount of ours whose server has gone out of the file tree. */
export async function removeDead(mountpoint: string): Promise<void> {
  if ((await mountAt(mountpoint))?.type !== ORCA_TYPE || !(await isDead(mountpoint))) return;
  addon.umount(mountpoint, MNT_DETACH);
}

/** Neither over nor out of this file tree. */
function isListed({ mount, record }: ServedMount): boolean {
  return !mount.ending && !record.isElsewhere;
}

async function isSettledWithin(promise: Promise<unknown>, milliseconds: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), milliseconds);
  });
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
