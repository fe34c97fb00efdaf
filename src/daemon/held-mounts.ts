/**
 * The mounts that this daemon serves, and what lets them outlive it: a state file, and descriptors that are stored
 * elsewhere.
 *
 * Order of things, so that a crash at any point leaves nothing that the next daemon does not find: the state file
 * knows a mount before the kernel does; its descriptor is stored before a request is served; at the end the kernel
 * comes first, then the descriptor, then the state file.
 */
import { type Logger, log } from '../telemetry/logger.js';
import { DaemonError } from './daemon-error.js';
import type { Descriptor, DescriptorStore } from './descriptors.js';
import type { ServedMount } from './served-mount.js';
import type { MountRecord, StateFile } from './state-file.js';

/** Descriptors of mounts are stored under this and the mount's id. */
const PREFIX = 'mount-';

export class HeldMounts {
  readonly #state: StateFile;
  readonly #store: DescriptorStore;
  readonly #log: Logger;
  readonly #served = new Map<string, ServedMount>();
  readonly #descriptors = new Map<string, number>();
  /** Told of a mount that has ended, when nothing of it is kept any more. */
  onEnded: (record: MountRecord) => Promise<void> = async () => undefined;

  constructor(state: StateFile, store: DescriptorStore, logger: Logger = log) {
    this.#state = state;
    this.#store = store;
    this.#log = logger;
  }

  /** Those that are over, or out of this file tree, count as well. */
  all(): ServedMount[] {
    return [...this.#served.values()];
  }

  find(id: string): ServedMount | undefined {
    return this.#served.get(id);
  }

  /** Throws NOT_FOUND. */
  get(id: string): ServedMount {
    const served = this.#served.get(id);
    if (served === undefined || !isListed(served))
      throw new DaemonError('NOT_FOUND', `there is no mount ${id}`);
    return served;
  }

  /** What the state file knows. */
  records(): MountRecord[] {
    return [...this.#state.mounts.values()];
  }

  /** The state file knows it when what this returns has resolved. */
  record(record: MountRecord): Promise<void> {
    this.#state.mounts.set(record.id, record);
    return this.save();
  }

  /** Keeps the descriptor of a mount, here and where it outlives this process. */
  hold(id: string, fd: number): void {
    this.#descriptors.set(id, fd);
    this.#store.store(`${PREFIX}${id}`, fd);
  }

  /** The same for one that is stored already. */
  keep(id: string, fd: number): void {
    this.#descriptors.set(id, fd);
  }

  /** All of them, to be kept over an exec. */
  descriptors(): Descriptor[] {
    return [...this.#descriptors].map(([id, fd]) => ({ name: `${PREFIX}${id}`, fd }));
  }

  serve(served: ServedMount): void {
    const { id, image, mountpoint } = served.record;
    this.#served.set(id, served);
    void served.mount.ended.then(async ({ reason, message }) => {
      this.#served.delete(id);
      // The descriptor before the sources, which may be slow to close: a daemon that ends meanwhile must not leave it.
      await this.forget(id);
      await this.onEnded(served.record);
      await served.closeSources();
      const text = `${image.name} at ${mountpoint} is unmounted`;
      if (reason === 'failed') this.#log.error(`${text}: ${message}`, { id });
      else this.#log.info(text, { id });
    });
  }

  /** A disk that refuses the state makes mounts mortal, and nothing worse. */
  async save(): Promise<void> {
    await this.#state.save().catch((error: Error) => {
      this.#log.error('the state file cannot be written: mounts would not survive a crash of the daemon', {
        error,
      });
    });
  }

  async forget(id: string): Promise<void> {
    this.#descriptors.delete(id);
    this.#store.forget(`${PREFIX}${id}`);
    await this.erase(id);
  }

  /** Forgets what has no descriptor. */
  async erase(id: string): Promise<void> {
    if (this.#state.mounts.delete(id)) await this.save();
  }

  /** Returns when nobody else holds the descriptor: as long as anybody does, the kernel waits for answers. */
  release(id: string): void {
    this.#descriptors.delete(id);
    this.#store.forget(`${PREFIX}${id}`);
    this.#store.barrier();
  }
}

/** Those of mounts among descriptors that were passed, by id. */
export function mountDescriptors(passed: readonly Descriptor[]): Map<string, number> {
  const own = passed.filter(({ name }) => name.startsWith(PREFIX));
  return new Map(own.map(({ name, fd }) => [name.slice(PREFIX.length), fd]));
}

/** Neither over nor out of this file tree. */
export function isListed({ mount, record }: ServedMount): boolean {
  return !mount.ending && !record.isElsewhere;
}
