/** The mounts of background servers: their names in the run directory, their end, and what killed ones left. */
import { createHash } from 'node:crypto';
import { open, readdir, readFile, readlink } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { unmountImage } from '../mount/mount.js';
import { isDead, locate } from '../mount/mount-point.js';
import { mountAt, ORCA_TYPE } from '../mount/mount-table.js';
import { addon } from '../native/addon.js';
import { RuntimeError } from './runtime-error.js';

/** An unmounted session ends within milliseconds; one that waits for a dead share takes the time-out of its read. */
const END_TIMEOUT_MS = 60_000;
const POLL_MS = 10;

/** Under which name the run directory keeps the state of the mount at this absolute path. */
export function mountID(mountpoint: string): string {
  const name = basename(mountpoint)
    .replace(/[^a-zA-Z0-9_.-]/g, '_')
    .slice(0, 64);
  return `${name}-${createHash('sha256').update(mountpoint).digest('hex').slice(0, 16)}`;
}

/**
 * Unmounts and waits until the process that served it has ended; with `force` although it is in use, and its users get
 * errors. Throws MountError, or RuntimeError TIMEOUT.
 */
export async function unmount(path: string, runDirectory: string, force = false): Promise<void> {
  const mountpoint = await locate(path);
  const lock = await open(join(runDirectory, 'mounts', mountID(mountpoint), 'lock'), 'r+').catch(
    () => undefined,
  );
  try {
    await unmountImage(mountpoint, { force });
    if (lock !== undefined) await serverEnd(lock.fd, mountpoint);
  } catch (cause) {
    if ((cause as { code?: string }).code !== 'BUSY') throw cause;
    const users = await usersOf(mountpoint);
    if (users.length === 0) throw cause;
    throw new RuntimeError('BUSY', `${mountpoint} is in use by ${users.join(', ')}: end that first`, {
      cause,
    });
  } finally {
    await lock?.close();
  }
}

/** Removes the mount of a server that was killed: `directory` is its state in the run directory. */
export async function cleanUpMount(directory: string): Promise<void> {
  const mountpoint = await readFile(join(directory, 'mountpoint'), 'utf8').catch(() => undefined);
  if (mountpoint === undefined || (await mountAt(mountpoint))?.type !== ORCA_TYPE) return;
  if (!(await isDead(mountpoint))) return;
  await unmountImage(mountpoint, { lazy: true });
}

/** The server holds the lock of its state as long as it lives, even when it has removed the file. */
async function serverEnd(lock: number, mountpoint: string): Promise<void> {
  const deadline = Date.now() + END_TIMEOUT_MS;
  while (!addon.tryLock(lock, 'exclusive')) {
    if (Date.now() > deadline) {
      throw new RuntimeError(
        'TIMEOUT',
        `${mountpoint} is unmounted, but the process that served it still runs`,
      );
    }
    await sleep(POLL_MS);
  }
}

/** `name (pid n)` of processes that have their root, working directory, executable or an open file below `path`. */
async function usersOf(path: string): Promise<string[]> {
  const users: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const directory = `/proc/${pid}`;
    const descriptors = await readdir(`${directory}/fd`).catch(() => []);
    for (const link of ['root', 'cwd', 'exe', ...descriptors.map((fd) => `fd/${fd}`)]) {
      const target = await readlink(`${directory}/${link}`).catch(() => '');
      if (target !== path && !target.startsWith(`${path}/`)) continue;
      const name = await readFile(`${directory}/comm`, 'utf8').catch(() => 'a process');
      users.push(`${name.trim()} (pid ${pid})`);
      break;
    }
  }
  return users;
}
