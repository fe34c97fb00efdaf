/** Steps of startup profiles, and waiting for a mount to have walked them. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Mount } from '../../src/mount/mount.js';
import type { Access } from '../../src/native/addon.js';

export const step = (kind: Access['kind'], path: string, first = 0, count = 1): Access => ({
  ...{ kind, path, first, count, time: 0 },
});

/** All steps of the profile have been taken or passed over. */
export async function preloaded(mount: Mount, steps: number): Promise<void> {
  for (;;) {
    const { taken = 0, passedOver = 0 } = mount.stats().session.preload ?? {};
    if (taken + passedOver >= steps) return;
    await sleep(10);
  }
}
