/**
 * The data directory of a registry: its marker, the lock that gives it to one process, and durable changes in it.
 *
 *     DIR/orca-registry.json   {"version": 1}
 *     DIR/lock                 flock(2), held by the process that serves the directory
 *     DIR/tmp/                 files in the making; emptied at the start
 *     DIR/blobs/, uploads/, repositories/   see blob-storage.ts, uploads.ts, repository.ts
 */
import { closeSync, openSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { addon } from '../native/addon.js';
import { syncDirectory, writeDurably } from '../oci/durable-file.js';
import { RegistryError } from './registry-error.js';

const MARKER = 'orca-registry.json';
const VERSION = 1;
const FOLDERS = ['blobs', 'uploads', 'repositories', 'tmp'];

export class DataDirectory {
  private constructor(
    readonly path: string,
    private lock: number | undefined,
  ) {}

  /**
   * Opens the directory, which is made when it is missing or empty, and holds it until `close`. Throws RegistryError
   * INVALID_DATA (something else is there), IN_USE, IO.
   */
  static async open(path: string): Promise<DataDirectory> {
    try {
      await checkMarker(path);
      await mkdir(path, { recursive: true });
      const lock = openSync(join(path, 'lock'), 'a', 0o600);
      const directory = new DataDirectory(path, lock);
      try {
        if (!addon.tryLock(lock, 'exclusive')) {
          throw new RegistryError(
            'IN_USE',
            `data directory ${path}: another registry serves it; stop that first`,
          );
        }
        for (const folder of FOLDERS) await mkdir(join(path, folder), { recursive: true });
        await directory.empty('tmp');
        await writeDurably(
          join(path, MARKER),
          Buffer.from(`${JSON.stringify({ version: VERSION })}\n`),
          join(path, 'tmp'),
        );
      } catch (error) {
        directory.close();
        throw error;
      }
      return directory;
    } catch (error) {
      if (error instanceof RegistryError) throw error;
      throw new RegistryError('IO', `data directory ${path}: ${(error as Error).message}`, { cause: error });
    }
  }

  join(...parts: string[]): string {
    return join(this.path, ...parts);
  }

  private async empty(folder: string): Promise<void> {
    for (const name of await readdir(this.join(folder)))
      await rm(this.join(folder, name), { recursive: true });
  }

  /** Writes a file that appears whole or not at all, with the directories above it. */
  async write(path: string, content: Uint8Array): Promise<void> {
    await this.makeDirectory(dirname(path));
    await writeDurably(path, content, this.join('tmp'));
  }

  /** Makes an empty file; nothing happens when there is one. */
  async mark(path: string): Promise<void> {
    await this.makeDirectory(dirname(path));
    try {
      await (await open(path, 'wx', 0o644)).close();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return;
      throw error;
    }
    await syncDirectory(dirname(path));
  }

  /** Gives a file, whose content the disk has already, another name; what had the name is replaced. */
  async move(from: string, to: string): Promise<void> {
    await this.makeDirectory(dirname(to));
    await rename(from, to);
    await syncDirectory(dirname(to));
  }

  /** Removes a file; false when there is none. */
  async remove(path: string): Promise<boolean> {
    try {
      await unlink(path);
    } catch (error) {
      if (isMissing(error)) return false;
      throw error;
    }
    await syncDirectory(dirname(path));
    return true;
  }

  private async makeDirectory(path: string): Promise<void> {
    const first = await mkdir(path, { recursive: true });
    if (first === undefined) return;
    for (let made = path; made.length >= first.length; made = dirname(made))
      await syncDirectory(dirname(made));
  }

  /** Gives the directory free for another process. */
  close(): void {
    if (this.lock !== undefined) closeSync(this.lock);
    this.lock = undefined;
  }
}

/** True of the error of a file or directory that is not there. */
export function isMissing(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENOTDIR';
}

/** The content of a small file of ours, or undefined when there is none. */
export async function readIfPresent(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

async function checkMarker(path: string): Promise<void> {
  const marker = await readIfPresent(join(path, MARKER));
  if (marker === undefined) {
    const names = await readdir(path).catch((error) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    });
    const foreign = names.find((name) => !FOLDERS.includes(name) && name !== 'lock' && name !== 'lost+found');
    if (foreign === undefined) return;
    throw new RegistryError(
      'INVALID_DATA',
      `data directory ${path}: not empty and not that of a registry; choose another directory`,
    );
  }
  let version: unknown;
  try {
    version = (JSON.parse(marker.toString()) as { version?: unknown } | null)?.version;
  } catch {
    version = undefined;
  }
  if (version !== VERSION) {
    throw new RegistryError(
      'INVALID_DATA',
      `data directory ${path}: ${MARKER} has version ${String(version)}, this registry reads ${VERSION}`,
    );
  }
}
