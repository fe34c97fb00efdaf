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
    const url = `${registry.url}/mount/v1/${repository}/_manifests/${digest}`;
    for (;;) {
      const response = await fetch(url);
      const text = await response.text();
      if (response.status === 409 && Date.now() < deadline) {
        await sleep(200);
        continue;
      }
      const { artifact, reason } = response.ok
        ? (JSON.parse(text) as { artifact?: object; reason?: string })
        : { reason: `${response.status} ${text}` };
      if (artifact === undefined) faults.push(`${repository}@${digest} is not expanded: ${reason}`);
      break;
    }
  }
  const diffIDs = images.flatMap((image) => image.diffIDs);
  return [...faults, ...(await damagedLayers(join(registry.data, 'store'), diffIDs))];
}
