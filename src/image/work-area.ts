/**
 * Where a store makes its files: whoever holds the lock `locks/NAME.lock` owns the directory `tmp/NAME`, which is
 * gone when the lock is released. What a killed process leaves behind has no holder, and the next one removes it.
 */
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { FileLock } from './lock.js';

const SUFFIX = '.lock';

export class WorkArea {
  constructor(private readonly store: string) {}

  /** Runs `action` with the lock and its empty directory. Waits for the lock; rejects when `signal` is aborted. */
  async holding<T>(
    name: string,
    signal: AbortSignal | undefined,
    action: (directory: string) => Promise<T>,
  ): Promise<T> {
    const lock = await FileLock.acquire(this.lockPath(name), signal);
    try {
      return await this.inEmptyDirectory(name, action);
    } finally {
      lock.release();
    }
  }

  private async inEmptyDirectory<T>(name: string, action: (directory: string) => Promise<T>): Promise<T> {
    const directory = join(this.store, 'tmp', name);
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory);
    try {
      return await action(directory);
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  }

  /** Removes the directories and locks of processes that were killed. */
  async removeLitter(): Promise<void> {
    const locks = (await readdir(join(this.store, 'locks'))).filter((name) => name.endsWith(SUFFIX));
    const names = new Set(locks.map((name) => name.slice(0, -SUFFIX.length)));
    for (const name of await readdir(join(this.store, 'tmp'))) names.add(name);
    for (const name of names) {
      const lock = FileLock.tryAcquire(this.lockPath(name));
      if (lock === undefined) continue;
      try {
        await rm(join(this.store, 'tmp', name), { recursive: true, force: true });
      } finally {
        lock.release();
      }
    }
  }

  private lockPath(name: string): string {
    return join(this.store, 'locks', `${name}${SUFFIX}`);
  }
}
