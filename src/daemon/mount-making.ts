/** Mounts that are being made, each once, however often it is asked for. */
import type { BlockCache } from '../cache/block-cache.js';
import { mountImage, settingsOf } from '../mount/mount.js';
import { locate } from '../mount/mount-point.js';
import type { OpenedImage } from '../mount/open-image.js';
import { type Logger, log } from '../telemetry/logger.js';
import type { MountInfo, MountRequest } from './api.js';
import { DaemonError } from './daemon-error.js';
import { type HeldMounts, isListed } from './held-mounts.js';
import type { ImageOpener } from './image-opener.js';
import { recordImage } from './image-record.js';
import { removeMount } from './mount-removal.js';
import { type CompleteRecord, ServedMount } from './served-mount.js';
import type { MountRecord } from './state-file.js';

export class MountMaking {
  readonly #cache: BlockCache;
  readonly #opener: ImageOpener;
  readonly #held: HeldMounts;
  readonly #starting = new Map<string, Promise<ServedMount>>();
  readonly #closed = new AbortController();

  constructor(cache: BlockCache, opener: ImageOpener, held: HeldMounts) {
    this.#cache = cache;
    this.#opener = opener;
    this.#held = held;
  }

  get size(): number {
    return this.#starting.size;
  }

  /** Makes the mount, or finds it made: a client whose daemon died asks again. Throws what mounting throws. */
  async create(id: string, request: MountRequest, signal: AbortSignal, logger: Logger): Promise<MountInfo> {
    this.#closed.signal.throwIfAborted();
    const known = this.#held.find(id);
    if (known !== undefined && isListed(known)) return known.info();
    if (known?.record.isElsewhere)
      throw new DaemonError(
        'BUSY',
        `the mount ${id} is still used in another mount namespace: give another id`,
      );
    const either = AbortSignal.any([signal, this.#closed.signal]);
    const starting = this.#starting.get(id) ?? this.#start(id, request, either, logger);
    this.#starting.set(id, starting);
    try {
      return (await starting).info();
    } finally {
      if (this.#starting.get(id) === starting) this.#starting.delete(id);
    }
  }

  /** Resolves when this mount is made, or is not going to be. */
  async settled(id: string): Promise<void> {
    await this.#starting.get(id)?.catch(() => undefined);
  }

  async allSettled(): Promise<void> {
    await Promise.allSettled(this.#starting.values());
  }

  /** Makes no more, and gives up what is being made. */
  async close(): Promise<void> {
    this.#closed.abort(new DaemonError('ENDING', 'the daemon is ending: try again', { retryable: true }));
    await this.allSettled();
  }

  async #start(id: string, request: MountRequest, signal: AbortSignal, logger: Logger): Promise<ServedMount> {
    const held = this.#held;
    const mountpoint = await locate(request.mountpoint);
    const record: MountRecord = { id, mountpoint, request, createdAt: Date.now() };
    let opened: OpenedImage | undefined;
    try {
      const [, image] = await Promise.all([
        held.record(record),
        this.#opener.open(request, signal, logger).then((image) => (opened = image)),
      ]);
      signal.throwIfAborted();
      const complete = Object.assign(record, await describeOpened(image));
      const served = await serveOpened(held, this.#cache, complete, image);
      // From now on its end closes the image.
      opened = undefined;
      if (signal.aborted) await removeMount(held, served, { force: true });
      signal.throwIfAborted();
      return served;
    } catch (error) {
      await opened?.close();
      await held.forget(id);
      throw error;
    }
  }
}

/** What a record has of an image that is open. */
export async function describeOpened({
  image,
  sources,
}: OpenedImage): Promise<Pick<CompleteRecord, 'image' | 'sources'>> {
  return {
    image: await recordImage(image),
    sources: sources.map(({ kind, location }) => ({ kind, location })),
  };
}

/** Mounts an image that is open; the state file knows of it. When it throws, the image is the caller's again. */
export async function serveOpened(
  held: HeldMounts,
  cache: BlockCache,
  record: CompleteRecord,
  opened: OpenedImage,
): Promise<ServedMount> {
  const { id, mountpoint, request } = record;
  const saved = held.save();
  const mount = await mountImage({
    image: opened.image,
    sources: opened.sources,
    cache,
    mountpoint,
    ...settingsOf(request),
    onDescriptor: (fd) => held.hold(id, fd),
  });
  await saved;
  const served = new ServedMount(record, mount);
  served.use(opened);
  held.serve(served);
  log.info(`mounted ${record.image.name} at ${mountpoint}`, { id });
  return served;
}
