/** One mount of the daemon: the session, where its blocks come from, and what is told of it. */
import type { Mount } from '../mount/mount.js';
import type { Source } from '../source/source.js';
import { type Logger, log } from '../telemetry/logger.js';
import type { LayerInfo, MountDetails, MountInfo, SourceInfo } from './api.js';
import { DeferredSource } from './deferred-source.js';
import type { ImageOpener, OpenedSources } from './image-opener.js';
import type { ImageRecord, MountRecord } from './state-file.js';

/** Between two tries to open the sources of an adopted mount, in milliseconds. */
const FIRST_PAUSE = 200;
const LONGEST_PAUSE = 30_000;

export type CompleteRecord = MountRecord & { image: ImageRecord };

/** Sources that are opened in the background, again and again until they are. */
export class BackgroundSources {
  readonly placeholders: Source[];
  readonly #record: CompleteRecord;
  readonly #opener: ImageOpener;
  readonly #log: Logger;
  readonly #onOpened: (opened: OpenedSources) => void;
  #opening: Promise<Source> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #pause = FIRST_PAUSE;
  #closed = false;
  problem: string | undefined;

  constructor(
    record: CompleteRecord,
    opener: ImageOpener,
    onOpened: (opened: OpenedSources) => void,
    logger: Logger = log,
  ) {
    this.#record = record;
    this.#opener = opener;
    this.#onOpened = onOpened;
    this.#log = logger;
    const { sources = [] } = record;
    // One is enough to wait by; the others come with it.
    const first: SourceInfo = sources[0] ?? { kind: 'blob', location: record.image.name };
    this.placeholders = [new DeferredSource(first, () => this.open())];
  }

  /** The best source. Throws when none can be opened now; a timer then tries again. */
  open(): Promise<Source> {
    this.#opening ??= this.#open().catch((error: Error) => {
      this.#opening = undefined;
      this.#tryLater(error);
      throw error;
    });
    return this.#opening;
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  async #open(): Promise<Source> {
    clearTimeout(this.#timer);
    const { request, image } = this.#record;
    const opened = await this.#opener.openSources(request, image.manifestDigest);
    const [best] = opened.sources;
    if (this.#closed || best === undefined) {
      await opened.close();
      throw new Error('there is no source');
    }
    this.problem = undefined;
    this.#onOpened(opened);
    return best;
  }

  #tryLater(error: Error): void {
    if (this.#closed) return;
    if (this.problem !== error.message) {
      this.#log.warn(
        `sources of ${this.#record.image.name} cannot be opened, trying again: ${error.message}`,
      );
    }
    this.problem = error.message;
    this.#timer = setTimeout(() => void this.open().catch(() => undefined), this.#pause);
    this.#timer.unref();
    this.#pause = Math.min(LONGEST_PAUSE, this.#pause * 2);
  }
}

export class ServedMount {
  readonly record: CompleteRecord;
  readonly mount: Mount;
  #opened: OpenedSources | undefined;
  #background: BackgroundSources | undefined;

  constructor(record: CompleteRecord, mount: Mount) {
    this.record = record;
    this.mount = mount;
  }

  /** Reads from these sources, and closes them in the end. */
  use(opened: OpenedSources): void {
    this.#opened = opened;
    this.record.sources = opened.sources.map(({ kind, location }) => ({ kind, location }));
  }

  openInBackground(background: BackgroundSources): void {
    this.#background = background;
    // Not in the turn of the event loop that adopts: nothing of it is needed to serve what is cached.
    setTimeout(() => void background.open().catch(() => undefined), 50).unref();
  }

  async closeSources(): Promise<void> {
    this.#background?.close();
    await this.#opened?.close();
  }

  info(): MountInfo {
    const { id, image, mountpoint, request, createdAt, sources = [] } = this.record;
    const { session, hitRatio } = this.mount.stats();
    const problem = this.#background?.problem;
    return {
      id,
      image: image.name,
      manifestDigest: image.manifestDigest,
      mountpoint,
      ...(request.container !== undefined && { container: request.container }),
      createdAt,
      layers: image.devices.length,
      sources,
      passedOver: this.#opened?.passedOver ?? [],
      served: this.#opened?.served ?? '',
      ...(problem !== undefined && { problem }),
      hitRatio,
      bytesRead: session.bytesRead,
      config: image.config,
    };
  }

  details(): MountDetails {
    const { session, readAhead, layers } = this.mount.stats();
    const perLayer: LayerInfo[] = layers;
    const { requests, errors, readsWaiting } = session;
    const known = readAhead === undefined ? {} : { readAhead };
    return { ...this.info(), ...known, requests, errors, readsWaiting, perLayer };
  }
}
