/** What a directory tree takes on the disk, as du(1) counts it. */
import { lstat, opendir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Usage } from './snapshot.js';

/** Bytes of a unit of st_blocks. */
const SECTOR = 512;

/** The root counts as well; an inode with several names counts once. What vanishes meanwhile is left out. */
export async function diskUsage(root: string): Promise<Usage> {
  const seen = new Set<string>();
  let size = 0;
  const pending = [root];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    const status = await lstat(path).catch(ignoreMissing);
    if (status === undefined) continue;
    const inode = `${status.dev}:${status.ino}`;
    if (seen.has(inode)) continue;
    seen.add(inode);
    size += status.blocks * SECTOR;
    if (!status.isDirectory()) continue;
    const directory = await opendir(path).catch(ignoreMissing);
    if (directory === undefined) continue;
    for await (const entry of directory) pending.push(join(path, entry.name));
  }
  return { size, inodes: seen.size };
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  // A directory may have become a file, too.
  if (error.code !== 'ENOENT' && error.code !== 'ENOTDIR') throw error;
}
