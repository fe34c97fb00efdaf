/** Whether an image can be mounted at a path; a dead mount of ours that lies there is taken away. */
import { access, constants, readFile, realpath, stat, statfs } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { addon } from '../native/addon.js';
import { type Logger, log } from '../telemetry/logger.js';
import { MountError } from './mount-error.js';
import { type MountEntry, mountAt, ORCA_TYPE } from './mount-table.js';

/** umount2(2) */
export const MNT_FORCE = 1;
export const MNT_DETACH = 2;
/** A live mount answers from memory; what takes longer than this is stuck. */
const ANSWER_MS = 5000;

/**
 * The absolute path of a directory that is no mount point. Throws MountError NOT_FOUND, NOT_A_DIRECTORY, BUSY or
 * NO_FUSE, each with what to do about it.
 */
export async function prepareMountPoint(path: string, logger: Logger = log): Promise<string> {
  const place = await locate(path);
  for (;;) {
    const there = await mountAt(place);
    if (there === undefined || (await letsThrough(there))) break;
    if (there.type !== ORCA_TYPE) {
      throw new MountError(
        'BUSY',
        `${place} is a mount point already (${there.type} ${there.source}): choose another directory, or unmount it first`,
      );
    }
    if (!(await isDead(place))) {
      throw new MountError(
        'BUSY',
        `${place} is a mount of ${there.source} already: choose another directory, or run orca umount ${place} first`,
      );
    }
    addon.umount(place, MNT_DETACH);
    logger.info(`removed the dead mount of ${there.source} from ${place}`);
  }
  if (!(await stat(place)).isDirectory()) {
    throw new MountError('NOT_A_DIRECTORY', `${path} is not a directory: an image is mounted at a directory`);
  }
  await checkFuse();
  return place;
}

/**
 * Whether this process is to make the mount that an automount waits for. Everybody out of the process group of whoever
 * set it up (systemd, which starts mount(8) in its own), such as the daemon, would wait for it there.
 */
export async function isAutomounting(place: string): Promise<boolean> {
  const there = await mountAt(place);
  return there !== undefined && (await letsThrough(there));
}

async function letsThrough({ type, options }: MountEntry): Promise<boolean> {
  if (type !== 'autofs') return false;
  // proc_pid_stat(5): pid (comm) state ppid pgrp
  const [, , group] = (await readFile('/proc/self/stat', 'utf8')).replace(/^.*\) /s, '').split(' ');
  return options.split(',').includes(`pgrp=${group}`);
}

/** Absolute, without symbolic links; the last part may be a dead mount, which cannot be looked into. */
export async function locate(path: string): Promise<string> {
  const absolute = resolve(path);
  try {
    return await realpath(absolute);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOTCONN' || code === 'ECONNABORTED') {
      return join(await realpath(dirname(absolute)), basename(absolute));
    }
    if (code === 'ENOENT') {
      throw new MountError('NOT_FOUND', `${path} does not exist: make the directory first (mkdir ${path})`, {
        cause,
      });
    }
    if (code === 'ENOTDIR') {
      throw new MountError(
        'NOT_A_DIRECTORY',
        `${path} is not a directory: an image is mounted at a directory`,
        {
          cause,
        },
      );
    }
    throw new MountError('NOT_PERMITTED', `${path} cannot be used as a mount point (${code})`, { cause });
  }
}

/** True of a FUSE mount whose server has gone; false when it answers, or is only slow. */
export async function isDead(place: string): Promise<boolean> {
  // Not stat(2): the kernel has the attributes of the root, and answers for the dead.
  const answer = statfs(place).then(
    () => false,
    (error: NodeJS.ErrnoException) => error.code === 'ENOTCONN' || error.code === 'ECONNABORTED',
  );
  const timeout = new AbortController();
  try {
    return await Promise.race([answer, sleep(ANSWER_MS, false, { signal: timeout.signal, ref: false })]);
  } finally {
    timeout.abort();
  }
}

async function checkFuse(): Promise<void> {
  try {
    await access('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const remedy =
      code === 'EACCES' || code === 'EPERM'
        ? 'may not be opened by this user: give it to all (chmod 666 /dev/fuse, as udev does), or run as root'
        : 'is missing: load the fuse module (modprobe fuse), or give the container the device (--device /dev/fuse)';
    throw new MountError('NO_FUSE', `/dev/fuse ${remedy}`, { cause });
  }
}
