/**
 * The share of a registry that is still expanding the image: the registry is asked again when somebody wants a block,
 * and once it is done, reads go there like those of any share. Until then others serve.
 */
import type { ByteRange } from '../byte-range.js';
import type { TransportKind } from '../source/mount-description.js';
import type { RegistryImage } from '../source/registry-image.js';
import { type LayerHandle, type Source, SourceError, type SourceKind } from '../source/source.js';

export interface LaterShareOptions {
  domain: string;
  /** The best transport that may be used, not blob. */
  kind: TransportKind;
  /** What the registry says now. */
  ask(): Promise<RegistryImage>;
}

/** Between two questions; large images are expanded for minutes. */
const PAUSE_MS = 2000;

export class LaterShare implements Source {
  readonly kind: SourceKind;
  readonly location: string;
  readonly #options: LaterShareOptions;
  #sources: readonly Source[] | undefined;
  #asking: Promise<Source> | undefined;
  #askedAt = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(options: LaterShareOptions) {
    this.kind = options.kind;
    this.location = `share of ${options.domain}`;
    this.#options = options;
  }

  async readFile(path: string, maxBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
    return (await this.#share()).readFile(path, maxBytes, signal);
  }

  async openLayer(diffID: string, signal?: AbortSignal, first?: ByteRange): Promise<LayerHandle> {
    return (await this.#share()).openLayer(diffID, signal, first);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#asking?.catch(() => undefined);
    await Promise.all((this.#sources ?? []).map((source) => source.close()));
  }

  async #share(): Promise<Source> {
    if (this.#closed) throw new SourceError('CLOSED', `the source ${this.location} is closed`);
    const [share] = this.#sources ?? [];
    if (share !== undefined) return share;
    if (this.#asking === undefined && performance.now() - this.#askedAt < PAUSE_MS) throw this.#notYet();
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
      this.#askedAt = performance.now();
    });
    return this.#asking;
  }

  async #ask(): Promise<Source> {
    const answer = await this.#options.ask();
    if (answer.state !== 'ready') throw this.#notYet(answer.state);
    // The blobs are a source of their own already.
    const shares = answer.sources.filter(({ kind }) => kind !== 'blob');
    await Promise.all(answer.sources.filter(({ kind }) => kind === 'blob').map((source) => source.close()));
    this.#sources = shares;
    const [share] = shares;
    if (share === undefined) throw new SourceError('NOT_FOUND', `${this.#options.domain} offers no share`);
    return share;
  }

  #notYet(state = 'expanding'): SourceError {
    const message =
      state === 'expanding'
        ? `${this.#options.domain} is still expanding the image`
        : `${this.#options.domain} has not expanded the image (${state})`;
    return new SourceError('UNREACHABLE', message, { retryable: true });
  }
}
