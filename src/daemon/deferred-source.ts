/**
 * Stands for sources that are still being opened: an adopted mount is served before anybody is asked for what it
 * lacks. A read waits for them; one that cannot be opened now is a failure that is tried again.
 */
import { orAbort } from '../abort.js';
import type { ByteRange } from '../byte-range.js';
import { type LayerHandle, type Source, SourceError, type SourceKind } from '../source/source.js';
import type { SourceInfo } from './api.js';

export class DeferredSource implements Source {
  readonly kind: SourceKind;
  readonly location: string;
  readonly #source: () => Promise<Source>;

  /** `source` gives the best source as soon as there is one, and may be asked again after it failed. */
  constructor({ kind, location }: SourceInfo, source: () => Promise<Source>) {
    this.kind = kind;
    this.location = location;
    this.#source = source;
  }

  async readFile(path: string, maxBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
    return (await this.#wait(signal)).readFile(path, maxBytes, signal);
  }

  async openLayer(diffID: string, signal?: AbortSignal, first?: ByteRange): Promise<LayerHandle> {
    return (await this.#wait(signal)).openLayer(diffID, signal, first);
  }

  /** What it stands for is closed by whoever opened it. */
  async close(): Promise<void> {}

  async #wait(signal: AbortSignal | undefined): Promise<Source> {
    try {
      return await orAbort(this.#source(), signal);
    } catch (cause) {
      if (signal?.aborted) throw cause;
      throw new SourceError('UNREACHABLE', `${this.location} cannot be opened: ${(cause as Error).message}`, {
        cause,
        retryable: true,
      });
    }
  }
}
