/**
 * The Orca store of one repository: its layers are hard links to those of the registry's store, made only for images
 * of this repository, so that whoever may read this directory reads nothing else.
 */
import { randomUUID } from 'node:crypto';
import { link, mkdir, readdir, readFile, rename, stat, unlink } from 'node:fs/promises';
import { parseTeleportArtifact } from '../../image/artifact.js';
import {
  blobPath,
  checkpointsPath,
  layerPaths,
  recipePath,
  withoutImages,
  withoutName,
} from '../../image/catalog.js';
import { Store } from '../../image/store.js';
import { syncDirectory } from '../../oci/durable-file.js';
import { type Descriptor, parseManifest } from '../../oci/manifest.js';
import { isMissing } from '../data-directory.js';
import type { ArtifactToStore } from './expansion.js';

const LAYERS = 'layers/sha256';

export class Share {
  private constructor(readonly store: Store) {}

  static async open(directory: string): Promise<Share> {
    await mkdir(directory, { recursive: true });
    return new Share(await Store.open(directory, { create: true }));
  }

  /** Gives the repository layers of the registry's store. */
  async link(from: Store, diffIDs: readonly string[]): Promise<void> {
    let changed = false;
    const documents = diffIDs.flatMap((diffID) => [recipePath(diffID), checkpointsPath(diffID)]);
    const there = await Promise.all(documents.map((path) => stat(from.path(path)).catch(() => undefined)));
    const optional = documents.filter((_, index) => there[index] !== undefined);
    for (const path of [...optional, ...diffIDs.flatMap(layerPaths)]) {
      if (await sameFile(from.path(path), this.store.path(path))) continue;
      const temporary = this.store.path(`${LAYERS}/.${randomUUID()}`);
      await link(from.path(path), temporary);
      await rename(temporary, this.store.path(path));
      changed = true;
    }
    if (changed) await syncDirectory(this.store.path(LAYERS));
  }

  /** A teleport artifact that the store has. */
  async artifact(descriptor: Descriptor): Promise<ArtifactToStore> {
    const bytes = await readFile(this.store.path(blobPath(descriptor.digest)));
    parseTeleportArtifact(bytes);
    const { config, layers } = parseManifest(bytes);
    const blobs = [config, ...layers].map(({ mediaType, digest, size }) => ({
      descriptor: { mediaType, digest, size },
      path: this.store.path(blobPath(digest)),
    }));
    return { descriptor, bytes, blobs };
  }

  async removeName(name: string): Promise<void> {
    await this.store.change((catalog) => withoutName(catalog, name));
  }

  /** Removes all images and layers but these. `removeBlobs` as Store.change has it. */
  async retain(
    isImageKept: (manifestDigest: string) => boolean,
    isLayerKept: (diffID: string) => boolean,
    options: { removeBlobs: boolean },
  ): Promise<void> {
    await this.store.change((catalog) => withoutImages(catalog, isImageKept), options);
    let changed = false;
    for (const name of await readdir(this.store.path(LAYERS))) {
      if (isLayerKept(diffIDOf(name))) continue;
      await unlink(this.store.path(`${LAYERS}/${name}`));
      changed = true;
    }
    if (changed) await syncDirectory(this.store.path(LAYERS));
  }
}

/** That of a file of a layer, by its name. */
export function diffIDOf(file: string): string {
  return `sha256:${file.slice(0, 64)}`;
}

async function sameFile(a: string, b: string): Promise<boolean> {
  const first = await stat(a);
  const second = await stat(b).catch((error: unknown) => {
    if (isMissing(error)) return undefined;
    throw error;
  });
  return first.ino === second?.ino && first.dev === second.dev;
}
