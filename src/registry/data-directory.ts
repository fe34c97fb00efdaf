/**
 * The data directory of a registry: its marker, the lock that gives it to one process, and durable changes in it.
 *
 *     DIR/orca-registry.json   {"version": 1}
 *     DIR/lock                 flock(2), held by the process that serves the directory
 *     DIR/tmp/                 files in the making; emptied at the start
 *     DIR/blobs/, uploads/, repositories/   see blob-storage.ts, uploads.ts, repository.ts
 */

import { randomUUID } from 'node:crypto';
import { closeSync, openSync } from 'node:fs';
import { mkdir, open, readdir, readFile, rename, rm, unlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { addon } from '../native/addon.js';
import { syncDirectory, writeDurably } from '../oci/durable-file.js';
import { RegistryError } from './registry-error.js';

const MARKER = 'orca-registry.json';
const VERSION = 1;
const FOLDERS = ['blobs', 'uploads', 'repositories', 'tmp'];

/** A file that gets content, or is made empty unless it is there, or that moves here (the disk has its content). */
export type Change =
  | { path: string; content: Uint8Array | undefined; mode?: number }
  | { path: string; from: string };

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
    await this.apply([{ path, content }]);
  }

  /**
   * Makes changes that become visible one after the other, in the order given, and are all on the disk when the
   * promise resolves. A process that dies has made the first of them and not the others; after a power cut any of
   * them may be there. The disk is waited for twice, however many they are.
   */
  async apply(changes: readonly Change[]): Promise<void> {
    const staged = await Promise.allSettled(changes.map((change) => this.stage(change)));
    const directories = new Set<string>();
    try {
      const sources = staged.map((made) => {
        if (made.status === 'rejected') throw made.reason;
        return made.value;
      });
      for (const [i, { path }] of changes.entries()) {
        for (const directory of await makeDirectory(dirname(path))) directories.add(directory);
        const source = sources[i];
        if (source === undefined) await touch(path);
        else await rename(source, path);
        directories.add(dirname(path));
      }
    } catch (error) {
      await this.unstage(staged);
      throw error;
    }
    await Promise.all([...directories].map(syncDirectory));
  }

  /** The file that is to get the name; undefined for an empty one, which needs no making. */
  private async stage(change: Change): Promise<string | undefined> {
    if ('from' in change) return change.from;
    if (change.content === undefined) return undefined;
    const path = this.join('tmp', randomUUID());
    try {
      await writeFile(path, change.content, { flag: 'wx', mode: change.mode ?? 0o644, flush: true });
    } catch (error) {
      await unlink(path).catch(() => undefined);
      throw error;
    }
    return path;
  }

  /** Removes what has been made for changes that were not made. */
  private async unstage(staged: readonly PromiseSettledResult<string | undefined>[]): Promise<void> {
    for (const made of staged) {
      const path = made.status === 'fulfilled' ? made.value : undefined;
      if (path?.startsWith(this.join('tmp'))) await unlink(path).catch(() => undefined);
    }
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

  /** Gives the directory free for another process. */
  close(): void {
    if (this.lock !== undefined) closeSync(this.lock);
    this.lock = undefined;
  }
}

/** Makes a directory and those above it; gives those in which there is something new. */
async function makeDirectory(path: string): Promise<string[]> {
  const first = await mkdir(path, { recursive: true });
  const changed: string[] = [];
  if (first === undefined) return changed;
  for (let made = path; made.length >= first.length; made = dirname(made)) changed.push(dirname(made));
  return changed;
}

/** Makes an empty file unless there is a file. */
async function touch(path: string): Promise<void> {
  try {
    await (await open(path, 'wx', 0o644)).close();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
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

/** The entries of a directory; none when it is not there. */
export async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}
