/**
 * The mounts that containers share, at RUN/images/ID: one of each image as requests of one kind see it, so that the
 * containers have one page cache, one tree of names and one session. An overlay has a copy of what it was mounted over,
 * so that such a mount can be unmounted at any time: its session goes on until the last container has ended.
 *
 * When its last container has ended, a mount stays for a while: the next one reads nothing again. Nothing waits for a
 * mount that nobody uses, and whoever needs its room or its image gives it up.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { BlockCache } from '../cache/block-cache.js';
import type { OpenedImage } from '../mount/open-image.js';
import type { ImagesInUse, RemoteImage } from '../source/image-assembly.js';
import { log } from '../telemetry/logger.js';
import type { MountRequest } from './api.js';
import { type HeldMounts, isListed } from './held-mounts.js';
import { describeOpened, serveOpened } from './mount-making.js';
import { type Removal, removeDead, removeMount } from './mount-removal.js';
import type { CompleteRecord, ServedMount } from './served-mount.js';
import { sharingKey } from './sharing-key.js';
import type { MountRecord } from './state-file.js';

/** Bounds of what nobody uses. */
export interface Keeping {
  mounts: number;
  milliseconds: number;
}

/** Pages that nobody reads are given up by the kernel; a mount costs descriptors and half a megabyte of the daemon. */
const KEEPING: Keeping = { mounts: 16, milliseconds: 600_000 };
/** Digits of the manifest digest in the name of a mount. */
const DIGITS = 12;

/** What says whether a mount can be shared. */
type Described = Pick<CompleteRecord, 'request' | 'image' | 'sources'>;

interface Making {
  id: string;
  made: Promise<ServedMount>;
}

export interface ImageMountsOptions {
  cache: BlockCache;
  held: HeldMounts;
  /** Of the mount points; absolute. */
  directory: string;
  /** Whether a container uses the mount, or is about to. */
  isUsed: (id: string) => boolean;
  /** Gives up a mount that cannot be served yet, if it is one. */
  giveUpWaiting: (id: string) => Promise<unknown>;
  keeping?: Keeping | undefined;
}

export class ImageMounts {
  readonly #cache: BlockCache;
  readonly #held: HeldMounts;
  readonly #directory: string;
  readonly #isUsed: (id: string) => boolean;
  readonly #giveUpWaiting: (id: string) => Promise<unknown>;
  readonly #keeping: Keeping;
  /** By sharing key. */
  readonly #making = new Map<string, Making>();
  /** Since when mounts are unused, longest first. */
  readonly #unused = new Map<string, number>();
  /** What is mounted, by id; those of fewer layers than the image has are others. */
  readonly #images = new Map<string, RemoteImage>();
  /** Mounts that are being unmounted, and the end of that. */
  readonly #leaving = new Map<string, Promise<void>>();
  #timer: NodeJS.Timeout | undefined;

  constructor({ cache, held, directory, isUsed, giveUpWaiting, keeping = KEEPING }: ImageMountsOptions) {
    this.#cache = cache;
    this.#held = held;
    this.#directory = directory;
    this.#isUsed = isUsed;
    this.#giveUpWaiting = giveUpWaiting;
    this.#keeping = keeping;
  }

  /**
   * The mount that serves `use`, whose request has been opened: one that is there, or is being made, or a new one.
   * `use.uses` names it before it is waited for. What was opened belongs to the mount, or is closed. Throws what
   * mounting throws.
   */
  async mountFor(use: MountRecord, request: MountRequest, opened: OpenedImage): Promise<ServedMount> {
    let kept = false;
    try {
      const described = { request, ...(await describeOpened(opened)) };
      use.image = described.image;
      const key = sharingKey(described);
      for (let served = this.#find(key); served !== undefined; served = this.#find(key)) {
        use.uses = served.record.id;
        this.#unused.delete(use.uses);
        if (await isMounted(served.mount.mountpoint)) {
          void this.#cache.images.touch(described.image.manifestDigest);
          return served;
        }
        log.warn(`${served.mount.mountpoint} was unmounted by somebody else: it serves no more containers`);
        served.record.isElsewhere = true;
      }
      let making = this.#making.get(key);
      if (making === undefined) {
        kept = true;
        making = this.#make(key, described, opened);
      }
      use.uses = making.id;
      return await making.made;
    } finally {
      if (!kept) void opened.close().catch((error: Error) => log.debug('sources are not closed', { error }));
    }
  }

  /** The images that are mounted here need not be read from the cache again. */
  readonly inUse: ImagesInUse = (manifestDigest, artifactDigest) =>
    [...this.#images.values()].find(
      (image) => image.manifestDigest === manifestDigest && image.documents?.includes(artifactDigest),
    );

  /** A container has let go of the mount. */
  release(id: string): void {
    if (this.#isUsed(id) || this.#leaving.has(id)) return;
    if (this.#held.find(id) === undefined) return void this.#giveUpWaiting(id);
    this.#unused.delete(id);
    this.#unused.set(id, Date.now());
    for (const oldest of this.#unused.keys()) {
      if (this.#unused.size <= this.#keeping.mounts) break;
      void this.#giveUp(oldest);
    }
    this.#expire();
  }

  /** Begins with the mounts that an earlier daemon left, and removes what is left of those that have gone. */
  async adopt(): Promise<void> {
    const records = this.#held.records().filter(({ isShared }) => isShared);
    for (const { id } of records) this.release(id);
    const known = new Set(records.map(({ id }) => id));
    for (const name of await readdir(this.#directory).catch(() => [])) {
      if (known.has(name)) continue;
      const path = join(this.#directory, name);
      await removeDead(path).catch((error: Error) => log.warn(`${path} cannot be unmounted`, { error }));
      await removeMountPoint(path);
    }
  }

  /** Gives mounts up that nobody uses: all, or those of an image. Never rejects; what is in use all the same stays. */
  async giveUp(manifestDigest?: string, removal: Removal = {}): Promise<void> {
    await Promise.all(
      [...this.#unused.keys()].map(async (id) => {
        const image = this.#held.find(id)?.record.image;
        if (manifestDigest === undefined || image?.manifestDigest === manifestDigest)
          await this.#giveUp(id, removal);
      }),
    );
    await Promise.all(this.#leaving.values());
  }

  /** Of a mount that is unmounted, whoever did it. */
  async ended({ id, mountpoint }: MountRecord): Promise<void> {
    this.#unused.delete(id);
    this.#images.delete(id);
    await removeMountPoint(mountpoint);
  }

  /** Resolves when nothing is being mounted. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#making.values()].map(({ made }) => made));
  }

  #find(key: string): ServedMount | undefined {
    return this.#held
      .all()
      .find(
        (served) =>
          served.record.isShared &&
          isListed(served) &&
          !this.#leaving.has(served.record.id) &&
          sharingKey(served.record) === key,
      );
  }

  #make(key: string, described: Described, opened: OpenedImage): Making {
    const { manifestDigest } = described.image;
    const digits = manifestDigest.slice(manifestDigest.indexOf(':') + 1).slice(0, DIGITS);
    const id = `image-${digits}-${randomBytes(6).toString('hex')}`;
    const made = this.#mount(id, described, opened).finally(() => this.#making.delete(key));
    const making = { id, made };
    this.#making.set(key, making);
    return making;
  }

  async #mount(id: string, described: Described, opened: OpenedImage): Promise<ServedMount> {
    const mountpoint = join(this.#directory, id);
    const { container: _, pull: __, wait: ___, ...request } = described.request;
    const record: CompleteRecord = {
      ...described,
      ...{ id, mountpoint, createdAt: Date.now(), isShared: true },
      request: { ...request, mountpoint },
    };
    try {
      await mkdir(mountpoint, { recursive: true, mode: 0o700 });
      await this.#held.record(record);
      const served = await serveOpened(this.#held, this.#cache, record, opened);
      if (request.layers === undefined && !served.mount.ending) this.#images.set(id, opened.image);
      return served;
    } catch (error) {
      await opened.close();
      await this.#held.forget(id);
      await removeMountPoint(mountpoint);
      throw error;
    }
  }

  /** Gives up what has been unused for too long, and comes back when the next one has. */
  #expire(): void {
    clearTimeout(this.#timer);
    for (const [id, since] of this.#unused) {
      const left = since + this.#keeping.milliseconds - Date.now();
      if (left > 0) {
        this.#timer = setTimeout(() => this.#expire(), left).unref();
        return;
      }
      void this.#giveUp(id);
    }
  }

  /** From the first moment on nobody gets it any more. Never rejects. */
  async #giveUp(id: string, removal: Removal = {}): Promise<void> {
    this.#unused.delete(id);
    this.#images.delete(id);
    const served = this.#held.find(id);
    if (served === undefined) return;
    const leaving = removeMount(this.#held, served, removal)
      .then(() => this.ended(served.record))
      .catch((error: Error) => {
        // Somebody looks into it: as long as nobody is served by it, it is tried again.
        log.warn(`${served.mount.mountpoint} stays: ${error.message}`);
        this.#unused.set(id, Date.now());
        this.#expire();
      })
      .finally(() => this.#leaving.delete(id));
    this.#leaving.set(id, leaving);
    await leaving;
  }
}

/** Whether something is mounted there. The kernel knows the attributes of both: nobody is asked. */
async function isMounted(path: string): Promise<boolean> {
  try {
    const [own, parent] = await Promise.all([stat(path), stat(join(path, '..'))]);
    return own.dev !== parent.dev;
  } catch {
    return false;
  }
}

/** The empty directory; one that still has a mount stays. */
async function removeMountPoint(path: string): Promise<void> {
  await rmdir(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') log.warn(`${path} stays: ${error.message}`);
  });
}
