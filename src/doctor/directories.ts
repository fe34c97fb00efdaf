/** The cache and the run directory: whether they can be written, on what, and how much room there is. */
import { constants } from 'node:fs';
import { access, statfs } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { type Finding, ok, problem, warning } from './finding.js';

/** linux/magic.h, and fs/*\/ for those that are not in it. */
const MAGIC: Readonly<Record<number, string>> = {
  61267: 'ext4',
  1481003842: 'xfs',
  2435016766: 'btrfs',
  16914836: 'tmpfs',
  2035054128: 'overlayfs',
  801189825: 'zfs',
  4076150800: 'f2fs',
  26985: 'nfs',
  4283649346: 'cifs',
  4266872130: 'smb2',
  1702057286: 'fuse',
};
/** What overlayfs does not take for its writable layer. */
const NOT_UPPER = new Set(['overlayfs', 'nfs', 'cifs', 'smb2', 'fuse']);
/** Where locks and mapped files are slow, or another host's matter. */
const REMOTE = new Set(['nfs', 'cifs', 'smb2', 'fuse']);
/** Below this the cache holds less than one image of ordinary size. */
const SMALL_CACHE = 1 << 30;
const SMALL_RUN = 256 << 20;
const DEFAULT_PART = 0.8;

interface Place {
  path: string;
  /** The nearest directory above that is there, or the path itself. */
  existing: string;
  type: string;
  free: number;
  writable: true | string;
}

/** `limit`: the cache may have this many bytes. */
export async function checkCacheDirectory(directory: string, limit?: number): Promise<Finding> {
  const name = 'cache';
  const place = await lookAt(directory);
  const most = limit ?? DEFAULT_PART * place.free;
  const text = `${describe(place)}, limit ${gibibytes(most)}${limit === undefined ? ' beyond what it has' : ''}`;
  if (place.writable !== true) {
    const what = `${place.path} cannot be written (${place.writable}): little is cached, in memory`;
    return warning(name, what, 'make it writable, or give --cache');
  }
  if (place.type === 'tmpfs' || place.type === 'overlayfs' || REMOTE.has(place.type))
    return warning(
      name,
      text,
      `put it on a local disk (--cache): ${place.type} is slow for it, or forgets it`,
    );
  if (place.free < SMALL_CACHE) return warning(name, text, 'make room, or give --cache on another disk');
  if (limit !== undefined && limit > place.free)
    return warning(
      name,
      `${text}, more than is free`,
      'lower --cache-size unless the cache has the rest already',
    );
  return ok(name, text);
}

export async function checkRunDirectory(directory: string): Promise<Finding> {
  const name = 'run directory';
  const place = await lookAt(directory);
  const elsewhere = 'give --run-dir on ext4, xfs, btrfs or tmpfs';
  if (/[:,\\]/.test(place.path))
    return problem(name, `${place.path} has a colon, a comma or a backslash`, 'give another --run-dir');
  if (place.writable !== true)
    return problem(name, `${place.path} cannot be written (${place.writable})`, elsewhere);
  if (NOT_UPPER.has(place.type))
    return problem(name, `${describe(place)}, which overlayfs cannot write to`, elsewhere);
  if (place.free === 0) return problem(name, describe(place), `make room, or ${elsewhere}`);
  if (place.free < SMALL_RUN)
    return warning(name, describe(place), 'make room, or give --run-dir on another disk');
  return ok(name, describe(place));
}

async function lookAt(directory: string): Promise<Place> {
  const path = resolve(directory);
  for (let existing = path; ; existing = dirname(existing)) {
    try {
      const { type, bavail, bsize } = await statfs(existing);
      const writable = await access(existing, constants.W_OK | constants.X_OK).then(
        () => true as const,
        (error: NodeJS.ErrnoException) => error.code ?? 'error',
      );
      // statfs(2) gives a signed number on some machines.
      const kind = MAGIC[type >>> 0] ?? `file system 0x${(type >>> 0).toString(16)}`;
      return { path, existing, type: kind, free: bavail * bsize, writable };
    } catch (error) {
      const { code = 'error' } = error as NodeJS.ErrnoException;
      if (code !== 'ENOENT' || existing === '/')
        return { path, existing, type: 'unknown', free: 0, writable: code };
    }
  }
}

function describe({ path, existing, type, free }: Place): string {
  const made = path === existing ? '' : ', not made yet';
  return `${path} (${type}${made}), ${gibibytes(free)} free`;
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
