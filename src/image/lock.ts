/** Locks between processes: flock(2) on a file that exists only while somebody holds or wants the lock. */
import { closeSync, fstatSync, openSync, statSync, unlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { addon } from '../native/addon.js';

/** Waiting is polling, since flock(2) would block a thread for as long as an expansion takes. */
const FIRST_PAUSE_MS = 2;
const LONGEST_PAUSE_MS = 200;

export class FileLock {
  private constructor(
    private readonly path: string,
    private readonly fd: number,
  ) {}

  /** Takes the lock or gives undefined when somebody else has it. The kernel releases it when the process dies. */
  static tryAcquire(path: string): FileLock | undefined {
    for (;;) {
      const fd = openSync(path, 'a', 0o644);
      try {
        if (!addon.tryLock(fd, 'exclusive')) {
          closeSync(fd);
          return undefined;
        }
        // The last holder may have removed the file after we opened it; the name then stands for another lock.
        const named = statSync(path, { throwIfNoEntry: false });
        const held = fstatSync(fd);
        if (named !== undefined && named.ino === held.ino && named.dev === held.dev)
          return new FileLock(path, fd);
      } catch (error) {
        closeSync(fd);
        throw error;
      }
      closeSync(fd);
    }
  }

  /** Waits for the lock. Rejects with the signal's reason when it is aborted. */
  static async acquire(path: string, signal?: AbortSignal): Promise<FileLock> {
    for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(pause * 1.5, LONGEST_PAUSE_MS)) {
      signal?.throwIfAborted();
      const lock = FileLock.tryAcquire(path);
      if (lock !== undefined) return lock;
      await sleep(pause * (0.5 + Math.random()));
    }
  }

  release(): void {
    try {
      unlinkSync(this.path);
    } finally {
      closeSync(this.fd);
    }
  }
}
