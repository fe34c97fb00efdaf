/**
 * The teleport artifact that a host makes for itself of layers that it has expanded, or reads by their tables of contents:
 * the merge of their metadata. CACHE/expanded/<key>.image.json says what came of the same layers before, since pulling an
 * image and running it are two processes.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BlockCache } from '../cache/block-cache.js';
import { BLOCK_SIZE } from '../erofs/tree.js';
import { encodeTeleportArtifact, IMAGE_INDEX_TYPE, parseTeleportArtifact } from '../image/artifact.js';
import { type LayerInMemory, mergeImageIndex } from '../image/image-index.js';
import { packageVersion } from '../installation.js';
import { LayerRecipe } from '../layer/recipe.js';
import { digestOf, parseDigest } from '../oci/digest.js';
import { replaceFile } from '../oci/durable-file.js';
import { JsonObject } from '../oci/json-object.js';
import { type Descriptor, decodeDescriptor, MEDIA_TYPE } from '../oci/manifest.js';
import type { HostLayer } from './host-layers.js';
import { MountError } from './mount-error.js';

const MAX_RECORD_BYTES = 4 << 10;

/** Trees of layers that have just been laid out, by diffID, which need not be read from their recipes. */
export type LayerTrees = Map<string, LayerInMemory>;

/** All that a mount needs is in the cache then. Throws MountError INVALID_IMAGE and what merging throws. */
export async function hostArtifact(
  cache: BlockCache,
  subject: Descriptor,
  diffIDs: readonly string[],
  layers: ReadonlyMap<string, HostLayer>,
  trees: LayerTrees = new Map(),
): Promise<Descriptor> {
  const path = join(cache.directory, 'expanded', `${keyOf(subject, diffIDs, layers)}.image.json`);
  const known = await knownArtifact(cache, path);
  if (known !== undefined) return known;
  const made = await merge(cache, subject, diffIDs, layers, trees);
  // Without it the layers are merged again.
  await replaceFile(path, Buffer.from(`${JSON.stringify({ artifact: made })}\n`)).catch(() => undefined);
  return made;
}

/** Of everything that decides the artifact; another version of this program may merge in another way. */
function keyOf(
  subject: Descriptor,
  diffIDs: readonly string[],
  layers: ReadonlyMap<string, HostLayer>,
): string {
  const documents = diffIDs.map((diffID) => {
    const { blob, digests, recipe, checkpoints } = layers.get(diffID) as HostLayer;
    return [diffID, ...[blob, digests, recipe, checkpoints].map(({ digest }) => digest)];
  });
  const all = JSON.stringify([packageVersion(), subject.digest, documents]);
  return parseDigest(digestOf(Buffer.from(all))).hex;
}

/** undefined when it was never made here, or a document of it is gone or spoilt; those of the layers are there. */
async function knownArtifact({ blobs }: BlockCache, path: string): Promise<Descriptor | undefined> {
  try {
    const record = JsonObject.parse(await readFile(path), MAX_RECORD_BYTES, 'PROTOCOL', path).object(
      'artifact',
    );
    if (record === undefined) return undefined;
    const descriptor = decodeDescriptor(record);
    const bytes = await blobs.read(descriptor, 'teleport artifact');
    if (bytes === undefined) return undefined;
    const { imageIndex } = parseTeleportArtifact(bytes, 'teleport artifact');
    return (await blobs.read(imageIndex, 'image index')) && descriptor;
  } catch {
    return undefined;
  }
}

/** Merges the layers, whose metadata the recipes hold where their trees are not at hand. */
async function merge(
  cache: BlockCache,
  subject: Descriptor,
  diffIDs: readonly string[],
  layers: ReadonlyMap<string, HostLayer>,
  trees: LayerTrees,
): Promise<Descriptor> {
  const payloads = new Map<string, LayerMetadata>();
  for (const { diffID, recipe } of layers.values()) {
    if (trees.has(diffID)) continue;
    const bytes = await cache.blobs.read(recipe, 'layer recipe');
    if (bytes === undefined)
      throw new MountError('INVALID_IMAGE', `layer ${diffID}: its recipe is gone; mount again`);
    payloads.set(diffID, new LayerMetadata(LayerRecipe.decode(bytes)));
  }
  const { pieces, devices } = mergeImageIndex(
    diffIDs.map((diffID) => {
      const tree = trees.get(diffID);
      if (tree !== undefined) return tree;
      const { recipe, readAt } = payloads.get(diffID) as LayerMetadata;
      return { diffID, location: 'the block cache', open: (use) => use(readAt, recipe.size) };
    }),
  );
  const imageIndex = await cache.blobs.keep(IMAGE_INDEX_TYPE, Buffer.concat(pieces));
  const used = devices.map(({ diffID }) => layers.get(diffID) as HostLayer);
  const bytes = encodeTeleportArtifact({
    subject,
    imageIndex,
    digests: used.map(({ diffID, digests }) => ({ diffID, descriptor: digests })),
    recipes: used.map(({ diffID, recipe }) => ({ diffID, descriptor: recipe })),
    checkpoints: [...new Map(used.map(({ blob, checkpoints }) => [blob.digest, checkpoints]))].map(
      ([blob, descriptor]) => ({ blob, descriptor }),
    ),
  });
  return cache.blobs.keep(MEDIA_TYPE.manifest, bytes);
}

/** Superblock, metadata and footer of a layer VHD; the data between is zero. */
class LayerMetadata {
  readonly #tail: Uint8Array;

  constructor(readonly recipe: LayerRecipe) {
    this.#tail = new Uint8Array(recipe.size - recipe.tail);
    recipe.fillLiterals(recipe.tail, this.#tail);
  }

  readonly readAt = (offset: number, length: number): Uint8Array => {
    const { recipe } = this;
    if (offset >= recipe.tail)
      return this.#tail.subarray(offset - recipe.tail, offset - recipe.tail + length);
    const bytes = new Uint8Array(length);
    const first = Math.max(0, Math.min(length, BLOCK_SIZE - offset));
    if (first > 0) recipe.fillLiterals(offset, bytes.subarray(0, first));
    const from = Math.min(length, recipe.tail - offset);
    bytes.set(this.#tail.subarray(0, length - from), from);
    return bytes;
  };
}
