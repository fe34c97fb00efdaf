/** Whether all images of a registry get expanded, and their layers are what they should be. */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type RegistryProcess } from '../system/registry-process.js';
import { damagedLayers, type SoakImage } from './registry-soak.js';

const WAIT_MS = 300_000;

/** Waits for the expansion of all images, and gives what is wrong with it. */
export async function expansionFaults(
  registry: RegistryProcess,
  images: readonly SoakImage[],
): Promise<string[]> {
  const faults: string[] = [];
  const deadline = Date.now() + WAIT_MS;
  for (const { repository, digest } of images) {
    const url = `${registry.url}/orca/v1/${repository}/_expansion/${digest}`;
    for (;;) {
      const response = await fetch(url);
      const text = await response.text();
      const { state } = response.ok ? (JSON.parse(text) as { state: string }) : { state: 'unknown' };
      if (state === 'expanded') break;
      if (state === 'queued' || state === 'expanding') {
        await sleep(200);
        if (Date.now() < deadline) continue;
      }
      faults.push(`${repository}@${digest} is not expanded: ${response.status} ${text}`);
      break;
    }
  }
  const diffIDs = images.flatMap((image) => image.diffIDs);
  return [...faults, ...(await damagedLayers(join(registry.data, 'store'), diffIDs))];
}
