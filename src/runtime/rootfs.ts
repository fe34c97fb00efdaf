/**
 * Looks into a mounted image without ever leaving it: symbolic links are followed here, component by component,
 * with the image's root as `/` and as the end of every `..`.
 *
 * The image is read-only, so what was checked cannot change before it is opened. Everything is asynchronous: the
 * same process may be the one that serves the mount.
 */
import { constants, type Stats } from 'node:fs';
import { lstat, open, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { Limit } from '../limit.js';
import { RuntimeError } from './runtime-error.js';

/** As the kernel, which gives up with ELOOP after 40. */
const MAX_LINKS = 40;

/**
 * A read keeps one of the four threads by which Node works on files until the mount answers. Where this process serves
 * the mount, the answer may need such a thread as well: some must be left, however many containers start.
 */
const reads = new Limit(2);

export interface RootfsEntry {
  /** On the host. */
  path: string;
  /** Never of a symbolic link. */
  stats: Stats;
}

/** The entry that `path` leads to inside the root; undefined where there is none. HOSTILE_ROOTFS on a link loop. */
export async function lookup(root: string, path: string): Promise<RootfsEntry | undefined> {
  const pending = components(path);
  const walked: string[] = [];
  let links = 0;
  let stats = await lstat(root);
  for (let name = pending.shift(); name !== undefined; name = pending.shift()) {
    if (name === '..') {
      walked.pop();
      stats = await lstat(join(root, ...walked));
      continue;
    }
    if (!stats.isDirectory()) return undefined;
    const here = join(root, ...walked, name);
    try {
      stats = await lstat(here);
    } catch (error) {
      if (isAbsence(error)) return undefined;
      throw error;
    }
    if (!stats.isSymbolicLink()) {
      walked.push(name);
      continue;
    }
    links += 1;
    if (links > MAX_LINKS) {
      throw new RuntimeError('HOSTILE_ROOTFS', `${path} in the image: more than ${MAX_LINKS} symbolic links`);
    }
    const target = await readlink(here);
    if (target.startsWith('/')) walked.length = 0;
    pending.unshift(...components(target));
    stats = await lstat(join(root, ...walked));
  }
  return { path: join(root, ...walked), stats };
}

/**
 * The text of a regular file of the image; undefined where there is none. HOSTILE_ROOTFS when it is larger than
 * `maxBytes` or no regular file (opening a FIFO would wait forever, a device would do what the device does).
 */
export async function readText(root: string, path: string, maxBytes: number): Promise<string | undefined> {
  const entry = await lookup(root, path);
  if (entry === undefined) return undefined;
  if (!entry.stats.isFile())
    throw new RuntimeError('HOSTILE_ROOTFS', `${path} in the image is no regular file`);
  if (entry.stats.size > maxBytes) {
    const size = `${entry.stats.size} bytes, more than the ${maxBytes} that Orca reads`;
    throw new RuntimeError('HOSTILE_ROOTFS', `${path} in the image has ${size}`);
  }
  return await reads.run(async () => {
    const file = await open(entry.path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      return await file.readFile('utf8');
    } finally {
      await file.close();
    }
  });
}

function components(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.');
}

function isAbsence(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'ENAMETOOLONG';
}
