/** The source of a store on an SMB share. It connects at the first use, so an unreachable share delays no mount. */
import type { ByteRange } from '../byte-range.js';
import { layerPath } from '../image/catalog.js';
import { SmbClient, type SmbClientOptions } from '../smb/client.js';
import { SmbError } from '../smb/error.js';
import type { SmbFile } from '../smb/file.js';
import { type LayerHandle, type Source, SourceError } from './source.js';

export interface SmbSourceOptions extends Omit<SmbClientOptions, 'signal'> {
  /** Folder of the store in the share; empty for the root. */
  path: string;
  /** For messages, without user and password. */
  location: string;
}

/** The most that is asked for together with the open of a document: what it may have can be far more than it has. */
const FIRST_READ = 1 << 20;

export class SmbSource implements Source {
  readonly kind = 'smb';
  readonly location: string;
  readonly #options: SmbSourceOptions;
  #client: Promise<SmbClient> | undefined;
  #closed = false;

  constructor(options: SmbSourceOptions) {
    this.location = options.location;
    this.#options = options;
  }

  async readFile(path: string, maxBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
    const file = await this.#open(path, signal, { offset: 0, length: Math.min(maxBytes, FIRST_READ) });
    try {
      if (file.size > maxBytes) {
        throw new SourceError(
          'TOO_LARGE',
          `${this.location}/${path} has ${file.size} bytes; at most ${maxBytes} are accepted`,
        );
      }
      return await asSource(file.read(0, file.size, signal));
    } finally {
      // The answer to the close tells nothing that the caller waits for.
      void file.close();
    }
  }

  async openLayer(diffID: string, signal?: AbortSignal, first?: ByteRange): Promise<LayerHandle> {
    const file = await this.#open(layerPath(diffID), signal, first);
    return {
      size: file.size,
      read: (offset, length, readSignal) => asSource(file.read(offset, length, readSignal)),
      giveBack: (bytes) => file.giveBack(bytes),
      close: () => file.close(),
    };
  }

  async connect(): Promise<void> {
    await asSource(this.#connected());
  }

  async close(): Promise<void> {
    this.#closed = true;
    const client = await this.#client?.catch(() => undefined);
    await client?.close();
  }

  async #open(path: string, signal?: AbortSignal, first?: ByteRange): Promise<SmbFile> {
    const connected = this.#connected();
    const folder = this.#options.path === '' ? '' : `${this.#options.path}/`;
    return asSource(connected.then((client) => client.open(`${folder}${path}`, signal, first)));
  }

  async #connected(): Promise<SmbClient> {
    if (this.#closed) throw new SourceError('CLOSED', `the source ${this.location} is closed`);
    // Not with this reader's signal: others may wait for the same connection. It has a timeout of its own.
    this.#client ??= SmbClient.connect(this.#options).catch((error) => {
      this.#client = undefined;
      throw error;
    });
    return this.#client;
  }
}

/** Rejects with the SourceError that stands for the SmbError. */
async function asSource<T>(promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (cause) {
    if (!(cause instanceof SmbError)) throw cause;
    // A file that was replaced under us is opened anew by whoever asks again.
    const retryable = cause.retryable || cause.code === 'STALE';
    throw new SourceError(cause.code, cause.message, { cause, retryable });
  }
}
