/**
 * Frees the room of what nobody can pull any more: blobs that no manifest of their repository names, and then the
 * files that no repository has. What is younger than `grace` stays, since a push brings the blobs before the manifest.
 */
import { log } from '../telemetry/logger.js';
import { parsePushedManifest } from './pushed-manifest.js';
import type { Repository } from './repository.js';
import type { RegistryStorage } from './storage.js';

export interface Garbage {
  /** Blobs that a repository has lost. */
  unlinked: number;
  /** Blobs and manifests that have been removed from the disk, and their bytes. */
  removed: number;
  bytes: number;
}

/** `grace` in milliseconds. Pushes and pulls go on meanwhile. */
export async function collectGarbage(storage: RegistryStorage, grace: number): Promise<Garbage> {
  const garbage: Garbage = { unlinked: 0, removed: 0, bytes: 0 };
  const before = Date.now() - grace;
  const names = await storage.repositoryNames();
  const held = new Set<string>();
  for (const name of names) {
    const repository = storage.repository(name);
    garbage.unlinked += await unlinkUnused(storage, repository, before);
    for (const kind of ['_blobs', '_manifests'] as const) {
      for await (const digest of repository.digests(kind)) held.add(digest);
    }
  }
  for await (const digest of storage.blobs.list()) {
    if (!held.has(digest)) await removeUnheld(storage, digest, garbage);
  }
  return garbage;
}

async function unlinkUnused(
  storage: RegistryStorage,
  repository: Repository,
  before: number,
): Promise<number> {
  const seen = new Set<string>();
  const used = new Set<string>();
  await readManifests(storage, repository, seen, used);
  const candidates: string[] = [];
  for await (const digest of repository.digests('_blobs')) {
    if (!used.has(digest) && ((await repository.blobTime(digest)) ?? before) < before)
      candidates.push(digest);
  }
  if (candidates.length === 0) return 0;
  return repository.exclusively(async () => {
    // Those that have been pushed meanwhile.
    await readManifests(storage, repository, seen, used);
    let unlinked = 0;
    for (const digest of candidates) {
      const time = await repository.blobTime(digest);
      if (used.has(digest) || time === undefined || time >= before) continue;
      if (await repository.deleteBlob(digest)) unlinked++;
    }
    return unlinked;
  });
}

/** Adds the manifests that are not in `seen` to it, and what they name to `used`. */
async function readManifests(
  storage: RegistryStorage,
  repository: Repository,
  seen: Set<string>,
  used: Set<string>,
): Promise<void> {
  for await (const digest of repository.digests('_manifests')) {
    if (seen.has(digest)) continue;
    const record = await repository.manifest(digest);
    const bytes = record && (await storage.blobs.read(digest));
    if (record === undefined || bytes === undefined) continue; // deleted meanwhile
    for (const named of parsePushedManifest(bytes, record.mediaType).all) used.add(named);
    seen.add(digest);
  }
}

async function removeUnheld(storage: RegistryStorage, digest: string, garbage: Garbage): Promise<void> {
  await storage.blobs.locks.holding(digest, async () => {
    for (const name of await storage.repositoryNames())
      if (await storage.repository(name).has(digest)) return;
    const size = await storage.blobs.size(digest);
    if (!(await storage.blobs.remove(digest))) return;
    garbage.removed++;
    garbage.bytes += size ?? 0;
    log.debug('removed a blob that no repository has', { digest });
  });
}
