/** The mounts of this host: made, adopted from a daemon that has gone, listed and removed. */
import type { BlockCache } from '../cache/block-cache.js';
import { type Logger, log } from '../telemetry/logger.js';
import type { MountInfo, MountRequest } from './api.js';
import type { ListedMount } from './container-use.js';
import { ContainerUses } from './container-uses.js';
import type { Descriptor, DescriptorStore } from './descriptors.js';
import { HeldMounts, isListed } from './held-mounts.js';
import { ImageMounts, type Keeping } from './image-mounts.js';
import { ImageOpener } from './image-opener.js';
import { MountAdoption } from './mount-adoption.js';
import { MountMaking } from './mount-making.js';
import { endMount, type Removal, removeMount } from './mount-removal.js';
import type { ServedMount } from './served-mount.js';
import type { StateFile } from './state-file.js';

export interface MountsOptions {
  cache: BlockCache;
  state: StateFile;
  store: DescriptorStore;
  /** Of the mounts that containers share. */
  imageDirectory: string;
  /** How long and how many of them stay when no container uses them. */
  keeping?: Keeping;
}

export class Mounts {
  readonly opener: ImageOpener;
  readonly #held: HeldMounts;
  readonly #making: MountMaking;
  readonly #adoption: MountAdoption;
  readonly #uses: ContainerUses;
  readonly #images: ImageMounts;

  constructor({ cache, state, store, imageDirectory: directory, keeping }: MountsOptions) {
    this.opener = new ImageOpener(cache);
    const held = new HeldMounts(state, store);
    const adoption = new MountAdoption(cache, this.opener, held);
    const giveUpWaiting = (id: string) => adoption.giveUp(id);
    this.#held = held;
    this.#making = new MountMaking(cache, this.opener, held);
    this.#adoption = adoption;
    this.#uses = new ContainerUses(
      this.opener,
      held,
      (isUsed) => new ImageMounts({ cache, held, directory, isUsed, giveUpWaiting, keeping }),
    );
    this.#images = this.#uses.images;
    held.onEnded = async (record) => {
      if (!record.isShared) return;
      await this.#uses.ended(record.id);
      await this.#images.ended(record);
    };
  }

  /** As users see them. Those that are being made, and those that cannot be served yet, count as well. */
  get size(): number {
    return this.#own().length + this.#making.size + this.#adoption.size + this.#uses.size;
  }

  /** Whether there is any session, or will be. */
  get isServing(): boolean {
    return this.size > 0 || this.#held.all().length > 0;
  }

  /** The descriptors of all mounts, to be kept over an exec. */
  descriptors(): Descriptor[] {
    return this.#held.descriptors();
  }

  list(): MountInfo[] {
    return this.all().map((mount) => mount.info());
  }

  /** As users see them: each container has one. */
  all(): ListedMount[] {
    return [...this.#own().filter(isListed), ...this.#uses.all()];
  }

  /** As the kernel sees them. */
  sessions(): ServedMount[] {
    return this.#held.all().filter(isListed);
  }

  /** Throws NOT_FOUND. */
  get(id: string): ListedMount {
    return this.#uses.find(id) ?? this.#held.get(id);
  }

  /** Begins to replay the startup profile of a mount that was to wait for it; it may be gone by now. */
  replay(id: string): void {
    (this.#uses.find(id) ?? this.#held.find(id))?.mount.replay();
  }

  /** Resolves when nothing is being mounted. */
  async settled(): Promise<void> {
    await Promise.all([this.#making.allSettled(), this.#uses.settled()]);
  }

  /** Makes the mount, or finds it made: a client whose daemon died asks again. Throws what mounting throws. */
  create(id: string, request: MountRequest, signal: AbortSignal, logger: Logger = log): Promise<MountInfo> {
    const isOwn = request.container === undefined || this.#held.find(id) !== undefined;
    return (isOwn && !this.#uses.has(id) ? this.#making : this.#uses).create(id, request, signal, logger);
  }

  /** Goes on with what an earlier daemon left; returns how many mounts there are. */
  async adopt(descriptors: readonly Descriptor[]): Promise<number> {
    const own = await this.#adoption.adopt(descriptors);
    const isAlive = (id: string) => this.#held.find(id) !== undefined || this.#adoption.isWaiting(id);
    const uses = await this.#uses.adopt(isAlive);
    await this.#images.adopt();
    return own + uses;
  }

  /** Throws NOT_FOUND, and what removeMount throws. */
  async remove(id: string, removal: Removal = {}): Promise<void> {
    if (this.#uses.has(id)) return await this.#uses.remove(id, removal);
    await this.#making.settled(id);
    if (removal.force && (await this.#adoption.giveUp(id))) return;
    // What is unmounted and lives on elsewhere can be ended still.
    const served = (removal.force && this.#held.find(id)) || this.#held.get(id);
    await removeMount(this.#held, served, removal);
  }

  /** Ends all of them, whoever uses them, and makes no more. Never rejects. */
  async end(): Promise<void> {
    await Promise.all([this.#making.close(), this.#uses.close(), this.#adoption.giveUpAll()]);
    await this.#uses.end();
    await Promise.all(
      this.#held.all().map(async (served) => {
        await endMount(this.#held, served);
        if (served.record.isShared) await this.#images.ended(served.record);
      }),
    );
  }

  /** Unmounts what can be unmounted; returns how many mounts are still in use. */
  async removeUnused(): Promise<number> {
    await Promise.allSettled(this.#own().map((served) => removeMount(this.#held, served)));
    await this.giveUpShared(undefined, { force: true });
    return this.size;
  }

  /** Unmounts what no container uses any more: all, or what is of one image. Never rejects. */
  giveUpShared(manifestDigest?: string, removal?: Removal): Promise<void> {
    return this.#images.giveUp(manifestDigest, removal);
  }

  /** The same, and what of one image was to be mounted. */
  async giveUpUnused(manifestDigest: string): Promise<void> {
    await Promise.all([this.opener.prepared.giveUp(manifestDigest), this.giveUpShared(manifestDigest)]);
  }

  /** Keeps the startup profiles of what goes on under another daemon. */
  async saveProfiles(): Promise<void> {
    await Promise.all(this.#held.all().map(({ mount }) => mount.saveProfile()));
  }

  /** Directories of the containers that have mounts here, or had. */
  containers(): string[] {
    const own = this.#own().flatMap(({ record }) => record.request.container ?? []);
    return [...own, ...this.#uses.directories()];
  }

  /** Ends the mounts of one container, whoever uses them. */
  async removeBelow(container: string): Promise<void> {
    const own = this.#own().filter(({ record }) => record.request.container === container);
    await Promise.all([
      this.#uses.removeBelow(container),
      ...own.map((served) => removeMount(this.#held, served, { force: true })),
    ]);
  }

  /** What no containers share. Containers of an earlier version have their own. */
  #own(): ServedMount[] {
    return this.#held.all().filter(({ record }) => !record.isShared);
  }
}
