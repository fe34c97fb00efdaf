/**
 * Where running containers and background mounts of this host keep their state:
 *
 *   RUN/lock                    held while a directory is claimed or leftovers are looked for
 *   RUN/containers/ID/          bundle of one container; `lock` in it is held as long as its `orca run` lives
 *   RUN/mounts/ID/              state of one background mount; `lock` in it is held by the process that serves it
 *   RUN/images/ID/              mount of an image that containers share, made and removed by the daemon
 *   RUN/launch/RANDOM           lock of a container in the making, held by the launcher that asks the daemon for it
 *   RUN/log/ID.log              what the process of a background mount logs
 *   RUN/runc/                   runc's own state (`runc --root`)
 *
 * A directory whose lock nobody holds belongs to a process that was killed: it is litter.
 */
import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { addon } from '../native/addon.js';
import { log } from '../telemetry/logger.js';
import { RuntimeError } from './runtime-error.js';

const LOCK = 'lock';

/** How long another process may hold RUN/lock before we give up: it does little more than list a directory. */
const LOCK_TIMEOUT_MS = 30_000;
const LOCK_POLL_MS = 20;

/** A launcher locks the file as soon as it has made it. */
const LAUNCH_MS = 60_000;

/** A handle that is collected as garbage is closed. */
const heldToTheEnd: FileHandle[] = [];

/** What a claimed directory says of itself, in `owner.json`. */
interface Owner {
  name?: string | undefined;
}

/** A directory of our own, locked until `release`. */
export class ClaimedDirectory {
  readonly id: string;
  readonly path: string;
  readonly #lock: FileHandle | undefined;

  /** Without `lock` another process holds that. */
  constructor(id: string, path: string, lock?: FileHandle) {
    this.id = id;
    this.path = path;
    this.#lock = lock;
  }

  /** Removes the directory (nothing may be mounted below it any more) and gives up the lock. */
  async remove(): Promise<void> {
    await this.#removeFiles();
    await this.#lock?.close();
  }

  /** Removes the directory; the lock is held until the process has ended, for those who wait for that. */
  async removeAndEnd(): Promise<void> {
    if (this.#lock !== undefined) heldToTheEnd.push(this.#lock);
    await this.#removeFiles();
  }

  /** The lock goes last: a directory without one looks abandoned. */
  async #removeFiles(): Promise<void> {
    const names = (await readdir(this.path)).filter((name) => name !== LOCK);
    await Promise.all(names.map((name) => rm(join(this.path, name), { recursive: true, force: true })));
    await rm(this.path, { recursive: true, force: true });
  }
}

export class RunDirectory {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** `path` may be relative. Throws RUN_DIRECTORY. */
  static async open(directory: string): Promise<RunDirectory> {
    const path = resolve(directory);
    if (/[:,\\]/.test(path)) {
      // overlayfs separates its options by them.
      throw new RuntimeError('RUN_DIRECTORY', `--run-dir ${path}: a path without : , and \\ is needed`);
    }
    try {
      await mkdir(path, { recursive: true, mode: 0o700 });
      const folders = ['containers', 'mounts', 'launch', 'log', 'runc'].map((name) => join(path, name));
      await Promise.all(folders.map((folder) => mkdir(folder, { recursive: true, mode: 0o700 })));
    } catch (cause) {
      const reason = (cause as Error).message;
      throw new RuntimeError('RUN_DIRECTORY', `cannot make the run directory, give --run-dir: ${reason}`, {
        cause,
      });
    }
    return new RunDirectory(path);
  }

  get runcRoot(): string {
    return join(this.path, 'runc');
  }

  /**
   * A new directory under `folder`. Leftovers found on the way are handed to `cleanUp`, one at a time, and then
   * removed; one that cannot be cleaned up stays for the next time. NAME_IN_USE when a live one has `name`.
   */
  async claim(
    folder: 'containers' | 'mounts',
    options: {
      id?: string;
      name?: string | undefined;
      /** A file on which another process holds the lock. */
      lock?: string;
      cleanUp: (directory: string, id: string) => Promise<void>;
    },
  ): Promise<ClaimedDirectory> {
    const unlock = await this.#lock();
    try {
      for (const { path, id } of await this.#sweep(folder, options.cleanUp)) {
        const owner = await readOwner(path);
        if (id === options.id || (options.name !== undefined && owner.name === options.name)) {
          throw new RuntimeError(
            'NAME_IN_USE',
            `the name ${JSON.stringify(options.name ?? id)} is in use by ${id}`,
          );
        }
      }
      const id = options.id ?? randomBytes(32).toString('hex');
      const path = join(this.path, folder, id);
      await mkdir(path, { mode: 0o700 });
      const lock =
        options.lock === undefined ? await newLock(path) : await rename(options.lock, join(path, LOCK));
      await writeFile(join(path, 'owner.json'), JSON.stringify({ name: options.name } satisfies Owner));
      return new ClaimedDirectory(id, path, lock ?? undefined);
    } finally {
      await unlock();
    }
  }

  /** Removes the locks of launchers that were killed before the daemon took them. */
  async clearLaunches(): Promise<void> {
    for (const name of await readdir(join(this.path, 'launch'))) {
      const path = join(this.path, 'launch', name);
      const lock = await openLock(path);
      if (lock === undefined) continue;
      const isOld = Date.now() - (await lock.stat()).mtimeMs > LAUNCH_MS;
      if (isOld && addon.tryLock(lock.fd, 'exclusive')) await rm(path, { force: true });
      await lock.close();
    }
  }

  /** Cleans up what killed processes left, outside of a claim. */
  async sweep(
    folder: 'containers' | 'mounts',
    cleanUp: (directory: string, id: string) => Promise<void>,
  ): Promise<void> {
    const unlock = await this.#lock();
    try {
      await this.#sweep(folder, cleanUp);
    } finally {
      await unlock();
    }
  }

  /** Cleans up what killed processes left; returns the directories that are in use. */
  async #sweep(
    folder: string,
    cleanUp: (directory: string, id: string) => Promise<void>,
  ): Promise<{ path: string; id: string }[]> {
    const live: { path: string; id: string }[] = [];
    for (const id of await readdir(join(this.path, folder))) {
      const path = join(this.path, folder, id);
      const lock = await openLock(join(path, LOCK));
      if (lock !== undefined && !addon.tryLock(lock.fd, 'exclusive')) {
        live.push({ path, id });
      } else {
        if (lock !== undefined) log.info('removing what a killed process left behind', { directory: path });
        await cleanUp(path, id)
          .then(() => rm(path, { recursive: true, force: true }))
          .catch((err: unknown) =>
            log.warn(`cannot clean up ${path}, trying again at the next run`, { err }),
          );
      }
      await lock?.close();
    }
    return live;
  }

  async #lock(): Promise<() => Promise<void>> {
    const handle = await open(join(this.path, LOCK), 'a', 0o600);
    const deadline = Date.now() + LOCK_TIMEOUT_MS;
    while (!addon.tryLock(handle.fd, 'exclusive')) {
      if (Date.now() > deadline) {
        await handle.close();
        throw new RuntimeError('RUN_DIRECTORY', `${this.path}/lock is held by another process; try again`, {
          retryable: true,
        });
      }
      await sleep(LOCK_POLL_MS);
    }
    return () => handle.close();
  }
}

async function newLock(directory: string): Promise<FileHandle> {
  const lock = await open(join(directory, LOCK), 'wx', 0o600);
  addon.tryLock(lock.fd, 'exclusive');
  return lock;
}

async function openLock(path: string): Promise<FileHandle | undefined> {
  try {
    return await open(path, 'r+');
  } catch {
    return undefined;
  }
}

async function readOwner(directory: string): Promise<Owner> {
  try {
    return JSON.parse(await readFile(join(directory, 'owner.json'), 'utf8')) as Owner;
  } catch {
    return {};
  }
}
