/** How many verified bytes of a mount came from its sources. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Mount } from '../../src/mount/mount.js';

/** Of the sources at these locations; of all by default. */
export function bytesServed(mount: Mount, isFrom: (location: string) => boolean = () => true): number {
  return Object.entries(mount.stats().bytesBySource)
    .filter(([location]) => isFrom(location))
    .reduce((sum, [, bytes]) => sum + bytes, 0);
}

/**
 * Resolves when so many have come. A run of blocks is counted when all of it is stored: who waited for the first of them
 * may be faster.
 */
export async function haveServed(
  mount: Mount,
  bytes: number,
  isFrom?: (location: string) => boolean,
): Promise<void> {
  while (bytesServed(mount, isFrom) < bytes) await sleep(5);
}
