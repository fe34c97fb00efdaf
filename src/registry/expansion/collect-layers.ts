/**
 * Removes the layers of the registry's store that no repository's store links to. A layer that a running job needs
 * stays, and so does one that was linked to until lately: it may be pushed again.
 */
import { statSync, unlinkSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { checkpointsPath, layerPath, layerPaths, recipePath } from '../../image/catalog.js';
import type { Store } from '../../image/store.js';
import { syncDirectory } from '../../oci/durable-file.js';
import type { StoreGarbage } from './expansion.js';
import type { LayerTasks } from './layer-tasks.js';
import { diffIDOf } from './share.js';
import type { Shares } from './shares.js';
import type { VerifiedBlobs } from './verified-blobs.js';

export interface CollectedStore {
  store: Store;
  tasks: LayerTasks;
  shares: Shares;
  verified: VerifiedBlobs;
}

const LAYERS = 'layers/sha256';

/** `grace` in milliseconds. */
export async function collectLayers(
  { store, tasks, shares, verified }: CollectedStore,
  grace: number,
): Promise<Omit<StoreGarbage, 'images'>> {
  for (const repository of await shares.repositories()) await shares.retain(repository);
  await store.removeLitter();
  const garbage = { layers: 0, bytes: 0 };
  const before = Date.now() - grace;
  const files = await readdir(store.path(LAYERS));
  for (const diffID of new Set(files.map(diffIDOf))) {
    const bytes = removeUnused(store, tasks, diffID, before);
    if (bytes === undefined) continue;
    garbage.layers++;
    garbage.bytes += bytes;
    await new Promise(setImmediate);
  }
  if (garbage.layers > 0) await syncDirectory(store.path(LAYERS));
  const isThere = async (diffID: string) =>
    tasks.isNeeded(diffID) ||
    (await stat(store.path(layerPath(diffID))).catch(() => undefined)) !== undefined;
  await verified.retain(isThere);
  return garbage;
}

/**
 * Bytes of the layer VHD that has been removed; undefined when it stays. Nothing is awaited between looking and
 * removing, so no job can come to need the layer, or link to it, meanwhile.
 */
function removeUnused(store: Store, tasks: LayerTasks, diffID: string, before: number): number | undefined {
  if (tasks.isNeeded(diffID)) return undefined;
  // The layer VHD first: without it the layer is not there.
  const paths = [...layerPaths(diffID).reverse(), recipePath(diffID), checkpointsPath(diffID)];
  const found = paths.flatMap((path) => {
    const status = statSync(store.path(path), { throwIfNoEntry: false });
    return status === undefined ? [] : [{ path, status }];
  });
  if (found.length === 0) return undefined;
  // The time of change is that of the last link made or removed. A killed process leaves some of the files.
  if (found.some(({ status }) => status.nlink > 1 || status.ctimeMs >= before)) return undefined;
  for (const { path } of found) unlinkSync(store.path(path));
  return found.find(({ path }) => path === layerPath(diffID))?.status.size ?? 0;
}
