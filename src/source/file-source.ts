/** The source of a store in a directory of this machine, which may itself be a mounted network file system. */
import { type FileHandle, open } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { layerPath } from '../image/catalog.js';
import { type LayerHandle, type Source, SourceError } from './source.js';

export class FileSource implements Source {
  readonly kind = 'file';
  readonly location: string;
  readonly #open = new Set<FileLayer>();
  #closed = false;

  constructor(directory: string) {
    this.location = resolve(directory);
  }

  async readFile(path: string, maxBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
    this.#use(signal);
    const file = join(this.location, path);
    const handle = await openForReading(file);
    try {
      const { size } = await handle.stat();
      if (size > maxBytes) {
        throw new SourceError('TOO_LARGE', `${file} has ${size} bytes; at most ${maxBytes} are accepted`);
      }
      return await readExactly(handle, file, 0, size, signal);
    } finally {
      await handle.close();
    }
  }

  async openLayer(diffID: string, signal?: AbortSignal): Promise<LayerHandle> {
    this.#use(signal);
    const file = join(this.location, layerPath(diffID));
    const handle = await openForReading(file);
    const layer = new FileLayer(file, handle, (await handle.stat()).size, () => this.#open.delete(layer));
    this.#open.add(layer);
    return layer;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#open].map((layer) => layer.close()));
  }

  #use(signal: AbortSignal | undefined): void {
    signal?.throwIfAborted();
    if (this.#closed) throw new SourceError('CLOSED', `the source ${this.location} is closed`);
  }
}

class FileLayer implements LayerHandle {
  readonly size: number;
  readonly #file: string;
  readonly #onClose: () => void;
  #handle: FileHandle | undefined;

  constructor(file: string, handle: FileHandle, size: number, onClose: () => void) {
    this.#file = file;
    this.#handle = handle;
    this.size = size;
    this.#onClose = onClose;
  }

  async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    if (this.#handle === undefined) throw new SourceError('CLOSED', `${this.#file} is closed`);
    return readExactly(this.#handle, this.#file, offset, length, signal);
  }

  /** Waits for the reads under way. */
  async close(): Promise<void> {
    const handle = this.#handle;
    this.#handle = undefined;
    this.#onClose();
    await handle?.close();
  }
}

async function openForReading(file: string): Promise<FileHandle> {
  try {
    return await open(file, 'r');
  } catch (error) {
    throw sourceError(error, file);
  }
}

async function readExactly(
  handle: FileHandle,
  file: string,
  offset: number,
  length: number,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafeSlow(length);
  let filled = 0;
  while (filled < length) {
    signal?.throwIfAborted();
    let count: number;
    try {
      count = (await handle.read(bytes, filled, length - filled, offset + filled)).bytesRead;
    } catch (error) {
      throw sourceError(error, file);
    }
    if (count === 0) {
      throw new SourceError(
        'SHORT_READ',
        `${file} ends at byte ${offset + filled}, before ${offset + length}`,
      );
    }
    filled += count;
  }
  return bytes;
}

/** What a network file system reports when its server is away; an errno of a local disk is not in this list. */
const UNREACHABLE = new Set(['ESTALE', 'ETIMEDOUT', 'EHOSTDOWN', 'EHOSTUNREACH', 'ENETUNREACH', 'ENOTCONN']);

function sourceError(cause: unknown, file: string): SourceError {
  const code = (cause as NodeJS.ErrnoException).code ?? '';
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new SourceError('NOT_FOUND', `${file} does not exist`, { cause });
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new SourceError('ACCESS_DENIED', `${file} may not be read by this user`, { cause });
  }
  if (UNREACHABLE.has(code)) {
    return new SourceError('UNREACHABLE', `${file} cannot be reached now (${code})`, {
      cause,
      retryable: true,
    });
  }
  return new SourceError('CORRUPT', `${file} cannot be read (${code || (cause as Error).message})`, {
    cause,
  });
}
