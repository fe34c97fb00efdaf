/** Going on with the mounts that an earlier daemon left, and clearing away those that cannot go on. */
import { closeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { BlockCache } from '../cache/block-cache.js';
import { adoptMount } from '../mount/mount.js';
import { duplicate } from '../native/supervision.js';
import { type Logger, log } from '../telemetry/logger.js';
import { type Descriptor } from './descriptors.js';
import { type HeldMounts, mountDescriptors } from './held-mounts.js';
import { type ImageOpener, pinned } from './image-opener.js';
import { ImageRecords } from './image-record.js';
import { removeDead } from './mount-removal.js';
import { BackgroundSources, type CompleteRecord, ServedMount } from './served-mount.js';
import type { MountRecord } from './state-file.js';

/** Before an adoption that failed is tried again, in milliseconds. */
const LATER = 1000;

/** A mount that cannot be served yet. */
interface WaitingMount {
  record: CompleteRecord;
  fd: number;
  /** Aborted to give it up. */
  stop: AbortController;
  /** Resolves when it is served, or given up. */
  tries: Promise<void>;
}

export class MountAdoption {
  readonly #cache: BlockCache;
  readonly #opener: ImageOpener;
  readonly #held: HeldMounts;
  readonly #log: Logger;
  readonly #waiting = new Map<string, WaitingMount>();

  constructor(cache: BlockCache, opener: ImageOpener, held: HeldMounts, logger: Logger = log) {
    this.#cache = cache;
    this.#opener = opener;
    this.#held = held;
    this.#log = logger;
  }

  /** Mounts that cannot be served yet, but those that containers share. */
  get size(): number {
    return [...this.#waiting.values()].filter(({ record }) => !record.isShared).length;
  }

  isWaiting(id: string): boolean {
    return this.#waiting.has(id);
  }

  /** All mounts at once; returns how many there are but those that containers share. */
  async adopt(passed: readonly Descriptor[]): Promise<number> {
    const left = mountDescriptors(passed);
    const images = new ImageRecords(this.#cache);
    const records = this.#held.records().filter(({ uses }) => uses === undefined);
    const adopted = await Promise.all(
      records.map(async (record) => {
        const fd = left.get(record.id);
        left.delete(record.id);
        if (fd === undefined || record.image === undefined) {
          await this.#abandon(record, fd);
          return false;
        }
        this.#held.keep(record.id, fd);
        const complete = record as CompleteRecord;
        const problem = await this.#attach(complete, fd, images);
        if (problem !== undefined) this.#attachLater(complete, fd, problem);
        return !record.isShared;
      }),
    );
    for (const [id, fd] of left) await this.#abandon({ id }, fd);
    return adopted.filter(Boolean).length;
  }

  /** Clears a mount away that is not served yet; false when it is served, or there is none. */
  async giveUp(id: string): Promise<boolean> {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return false;
    waiting.stop.abort();
    await waiting.tries;
    if (!this.#waiting.delete(id)) return false;
    await this.#abandon(waiting.record, waiting.fd);
    return true;
  }

  async giveUpAll(): Promise<void> {
    await Promise.all([...this.#waiting.keys()].map((id) => this.giveUp(id)));
  }

  /** Serves the mount; returns what keeps it from that. */
  async #attach(record: CompleteRecord, fd: number, images: ImageRecords): Promise<Error | undefined> {
    const { id, mountpoint } = record;
    const background = new BackgroundSources(record, this.#opener, (opened) => {
      const served = this.#held.find(id);
      served?.mount.setSources(opened.sources);
      served?.use(opened);
    });
    try {
      const image = await images.read(record.image);
      // What fails to be adopted closes the descriptor that it was given.
      const own = duplicate(fd);
      const mount = await adoptMount({
        image,
        sources: background.placeholders,
        cache: this.#cache,
        mountpoint,
        background: record.request.background,
        fd: own,
      });
      closeSync(fd);
      this.#held.keep(id, own);
      const served = new ServedMount(record, mount);
      this.#held.serve(served);
      served.openInBackground(background);
    } catch (error) {
      background.close();
      return error as Error;
    }
  }

  #attachLater(record: CompleteRecord, fd: number, problem: Error): void {
    const stop = new AbortController();
    const tries = this.#tryAgain(record, fd, problem, stop.signal);
    this.#waiting.set(record.id, { record, fd, stop, tries });
  }

  /** Its readers wait meanwhile: what the cache has lost is fetched again first. */
  async #tryAgain(record: CompleteRecord, fd: number, first: Error, stop: AbortSignal): Promise<void> {
    const { id, image, mountpoint, request } = record;
    for (let problem: Error | undefined = first; problem !== undefined; ) {
      this.#log.warn(`${mountpoint} cannot be served yet, trying again: ${problem.message}`, { id });
      try {
        await sleep(LATER, undefined, { signal: stop });
        const opened = await this.#opener.open(pinned(request, image.manifestDigest), stop);
        await opened.close();
      } catch {}
      if (stop.aborted) return;
      problem = await this.#attach(record, fd, new ImageRecords(this.#cache));
    }
    this.#waiting.delete(id);
  }

  /** Of a mount that cannot go on nothing stays, neither in the kernel nor in the store. */
  async #abandon({ id, mountpoint }: Partial<MountRecord> & { id: string }, fd?: number): Promise<void> {
    this.#log.warn('clearing away a mount that was left behind', {
      id,
      mountpoint,
      adoptable: fd !== undefined,
    });
    this.#held.release(id);
    if (fd !== undefined) closeSync(fd);
    if (mountpoint !== undefined) await removeDead(mountpoint);
    await this.#held.forget(id);
  }
}
