/** The files of an image input, in a directory or in an archive that is read in place. */
import { type FileHandle, open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { printable } from './digest.js';
import { OciError } from './oci-error.js';

/** Bytes asked of the file system at a time: large enough for a disk array, small enough for 8 layers at once. */
const READ_SIZE = 1 << 20;

export interface InputFiles {
  /** For messages: the path that the user gave. */
  readonly location: string;
  /** Length in bytes, or undefined when there is no such file. */
  size(path: string): Promise<number | undefined>;
  /** A whole file of at most `maxBytes`. Throws OciError NOT_FOUND, TOO_LARGE. */
  read(path: string, maxBytes: number): Promise<Uint8Array>;
  /** The bytes of a file, or the first `length` of them. Throws OciError NOT_FOUND. */
  stream(path: string, length?: number): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}

/** A whole file of any InputFiles, from its size and stream. */
export async function readWhole(files: InputFiles, path: string, maxBytes: number): Promise<Uint8Array> {
  const size = await files.size(path);
  if (size === undefined) throw missing(files, path);
  if (size > maxBytes) {
    throw new OciError('TOO_LARGE', `${files.location}: ${path} has ${size} bytes, more than ${maxBytes}`);
  }
  const chunks: Uint8Array[] = [];
  for await (const chunk of files.stream(path)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export function missing(files: { location: string }, path: string): OciError {
  return new OciError(
    'NOT_FOUND',
    `${files.location}: ${printable(path)} is missing; the copy is incomplete, make it again`,
  );
}

/** `size` bytes of an open file from `start` on, fewer where it ends before. The handle stays open. */
export async function* readRange(
  handle: FileHandle,
  start: number,
  size: number,
): AsyncGenerator<Uint8Array> {
  for (let done = 0; done < size; ) {
    const buffer = Buffer.allocUnsafeSlow(Math.min(READ_SIZE, size - done));
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, start + done);
    if (bytesRead === 0) return;
    done += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

/** Files below a directory. Paths are those of the layout specification, never a user's or an archive's. */
export class DirectoryFiles implements InputFiles {
  constructor(readonly location: string) {}

  async size(path: string): Promise<number | undefined> {
    const status = await stat(join(this.location, path)).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') return undefined;
      throw new OciError('IO', `${this.location}: cannot read ${path}: ${cause.message}`, { cause });
    });
    return status?.isFile() ? status.size : undefined;
  }

  read(path: string, maxBytes: number): Promise<Uint8Array> {
    return readWhole(this, path, maxBytes);
  }

  async *stream(path: string, length?: number): AsyncGenerator<Uint8Array> {
    const handle = await open(join(this.location, path), 'r').catch((cause: NodeJS.ErrnoException) => {
      if (cause.code === 'ENOENT') throw missing(this, path);
      throw new OciError('IO', `${this.location}: cannot read ${path}: ${cause.message}`, { cause });
    });
    try {
      const { size } = await handle.stat();
      yield* readRange(handle, 0, Math.min(size, length ?? size));
    } finally {
      await handle.close();
    }
  }

  async close(): Promise<void> {}
}
