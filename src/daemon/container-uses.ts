/**
 * The image mounts of containers: each is a bind mount of one that all containers of the image share (image-mounts.ts),
 * and a record without a descriptor. The state file knows it before the kernel does, and forgets it afterwards.
 */
import { existsSync } from 'node:fs';
import { detach } from '../mount/mount.js';
import { MountError } from '../mount/mount-error.js';
import { locate, prepareMountPoint } from '../mount/mount-point.js';
import { mountAt, ORCA_TYPE } from '../mount/mount-table.js';
import { addon } from '../native/addon.js';
import { type Logger, log } from '../telemetry/logger.js';
import type { MountInfo, MountRequest } from './api.js';
import { ContainerUse } from './container-use.js';
import { DaemonError } from './daemon-error.js';
import type { HeldMounts } from './held-mounts.js';
import type { ImageMounts } from './image-mounts.js';
import type { ImageOpener } from './image-opener.js';
import type { Removal } from './mount-removal.js';
import type { CompleteRecord } from './served-mount.js';
import type { MountRecord } from './state-file.js';

/** mount(2) */
const MS_BIND = 4096;

export class ContainerUses {
  readonly #opener: ImageOpener;
  readonly #held: HeldMounts;
  readonly #images: ImageMounts;
  readonly #uses = new Map<string, MountRecord>();
  /** Those that are about to begin. */
  readonly #making = new Map<string, MountRecord>();
  readonly #starting = new Map<string, Promise<MountInfo>>();
  /** Directories of containers. */
  readonly #directories = new Set<string>();
  readonly #closed = new AbortController();

  /** `images` makes them of what tells whether one is used. */
  constructor(
    opener: ImageOpener,
    held: HeldMounts,
    images: (isUsed: (id: string) => boolean) => ImageMounts,
  ) {
    this.#opener = opener;
    this.#held = held;
    this.#images = images((id) => this.#records().some(({ uses }) => uses === id));
  }

  get images(): ImageMounts {
    return this.#images;
  }

  /** Those that are being made count as well. */
  get size(): number {
    return this.#uses.size + this.#making.size;
  }

  /** Those whose mount is served. */
  all(): ContainerUse[] {
    return [...this.#uses.keys()].flatMap((id) => this.find(id) ?? []);
  }

  find(id: string): ContainerUse | undefined {
    const record = this.#uses.get(id);
    const served = record?.uses === undefined ? undefined : this.#held.find(record.uses);
    if (served === undefined || served.mount.ending) return undefined;
    return new ContainerUse(record as CompleteRecord, served);
  }

  /** Also of one that is being made. */
  has(id: string): boolean {
    return this.#uses.has(id) || this.#starting.has(id);
  }

  /** Of the containers that have not been removed, those that had a use. */
  directories(): string[] {
    for (const directory of this.#directories)
      if (!existsSync(directory)) this.#directories.delete(directory);
    return [...this.#directories];
  }

  /** Begins the use, or finds it begun. Throws what mounting throws. */
  async create(id: string, request: MountRequest, signal: AbortSignal, logger: Logger): Promise<MountInfo> {
    this.#closed.signal.throwIfAborted();
    const either = AbortSignal.any([signal, this.#closed.signal]);
    const starting = this.#starting.get(id) ?? this.#begin(id, request, either, logger);
    this.#starting.set(id, starting);
    try {
      return await starting;
    } finally {
      if (this.#starting.get(id) === starting) this.#starting.delete(id);
    }
  }

  /** Goes on with those that an earlier daemon left, as far as their mounts are alive. */
  async adopt(isAlive: (id: string) => boolean): Promise<number> {
    for (const record of this.#held.records()) {
      const { id, mountpoint, uses, request } = record;
      if (uses === undefined) continue;
      if (isAlive(uses)) {
        this.#uses.set(id, record);
        if (request.container !== undefined) this.#directories.add(request.container);
        continue;
      }
      log.warn('the image of a container is no longer served', { id, mountpoint });
      await unbind(mountpoint, true).catch((error: Error) => log.warn(error.message));
      await this.#held.erase(id);
    }
    return this.#uses.size;
  }

  /** Throws MountError BUSY when somebody looks into it; the container itself goes on in any case. */
  async remove(id: string, { lazy = false, force = false }: Removal = {}): Promise<void> {
    await this.#starting.get(id)?.catch(() => undefined);
    const record = this.#uses.get(id);
    if (record === undefined) throw new DaemonError('NOT_FOUND', `there is no mount ${id}`);
    await unbind(record.mountpoint, lazy || force);
    await this.#forget(record);
  }

  /** Of one container. */
  async removeBelow(container: string): Promise<void> {
    const own = this.#records().filter(({ request }) => request.container === container);
    await Promise.all(
      own.map(async ({ id }) => {
        await this.#starting.get(id)?.catch(() => undefined);
        if (this.#uses.has(id)) await this.remove(id, { force: true });
      }),
    );
  }

  /** A shared mount is over, and so is what used it. */
  async ended(mount: string): Promise<void> {
    const over = [...this.#uses.values()].filter(({ uses }) => uses === mount);
    await Promise.all(over.map((record) => this.#end(record)));
  }

  /** Makes no more, and gives up what is being made. */
  async close(): Promise<void> {
    this.#closed.abort(new DaemonError('ENDING', 'the daemon is ending: try again', { retryable: true }));
    await this.settled();
  }

  /** Resolves when nothing is being made. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#starting.values(), this.#images.settled()]);
  }

  /** Ends all of them. Never rejects. */
  async end(): Promise<void> {
    await Promise.all([...this.#uses.values()].map((record) => this.#end(record)));
  }

  #records(): MountRecord[] {
    return [...this.#uses.values(), ...this.#making.values()];
  }

  async #begin(id: string, request: MountRequest, signal: AbortSignal, logger: Logger): Promise<MountInfo> {
    const known = this.find(id);
    if (known !== undefined && (await isBound(known.record.mountpoint))) return known.info();
    const stale = this.#uses.get(id);
    // A daemon that died between the record and the mount, or a shared mount that cannot be served.
    if (stale !== undefined) await this.#end(stale);
    const { image, container, mountpoint } = request;
    const record: MountRecord = {
      id,
      mountpoint: await locate(mountpoint),
      request: { image, mountpoint, ...(container !== undefined && { container }) },
      createdAt: Date.now(),
    };
    if (container !== undefined) this.#directories.add(container);
    this.#making.set(id, record);
    try {
      const opened = await this.#opener.open(request, signal, logger, this.#images.inUse);
      const served = await this.#images.mountFor(record, request, opened);
      signal.throwIfAborted();
      await this.#held.record(record);
      await bind(served.mount.mountpoint, record.mountpoint);
      this.#uses.set(id, record);
      this.#making.delete(id);
      const { passedOver } = opened;
      if (signal.aborted) await this.#end(record);
      signal.throwIfAborted();
      return { ...new ContainerUse(record as CompleteRecord, served).info(), passedOver };
    } catch (error) {
      await this.#held.erase(id);
      this.#making.delete(id);
      if (record.uses !== undefined) this.#images.release(record.uses);
      throw error;
    }
  }

  async #end(record: MountRecord): Promise<void> {
    await unbind(record.mountpoint, true).catch((error: Error) => log.warn(error.message));
    await this.#forget(record);
  }

  async #forget({ id, uses = '' }: MountRecord): Promise<void> {
    this.#uses.delete(id);
    // A profile is what the first container has caused.
    await Promise.all([this.#held.erase(id), this.#held.find(uses)?.mount.endProfile()]);
    this.#images.release(uses);
  }
}

/** The mount at `from` also at `to`, a directory that exists and is empty. Throws MountError. */
async function bind(from: string, to: string): Promise<void> {
  const place = await prepareMountPoint(to);
  try {
    addon.mount(from, place, 'none', MS_BIND, '');
  } catch (cause) {
    throw new MountError('FAILED', `${from} cannot be mounted at ${to}: ${(cause as Error).message}`, {
      cause,
    });
  }
}

async function unbind(place: string, lazy: boolean): Promise<void> {
  if (await isBound(place)) detach(place, lazy);
}

async function isBound(place: string): Promise<boolean> {
  return (await mountAt(place))?.type === ORCA_TYPE;
}
