/** Completing an image whose layers are in the store: image index, teleport artifact, and the image's own blobs. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { createGzip } from 'node:zlib';
import { OrcaError } from '../errors.js';
import { Checkpoints } from '../layer/checkpoints.js';
import type { ImageInput } from '../oci/image-input.js';
import type { WritableLayout } from '../oci/layout.js';
import { type Descriptor, type ImageIndex, MEDIA_TYPE } from '../oci/manifest.js';
import {
  BLOCK_DIGESTS_TYPE,
  type BlobCheckpoints,
  CHECKPOINTS_TYPE,
  DIGEST_SET_TYPE,
  EMPTY_CONFIG,
  encodeTeleportArtifact,
  IMAGE_INDEX_TYPE,
  LAYER_RECIPE_TYPE,
  type LayerDigests,
  PACKED_INDEX_TYPE,
  parseTeleportArtifact,
} from './artifact.js';
import { blockDigestsPath, checkpointsPath, layerPath, recipePath, teleportOf } from './catalog.js';
import { buildImageIndex } from './image-index.js';

/** An image index that is smaller is not packed: its bytes cost less than unpacking them. */
const LEAST_PACKED = 64 << 10;

/** What of an input goes into the store beside its layers. */
export type PublishableImage = Pick<
  ImageInput,
  'manifestDigest' | 'manifest' | 'manifestBytes' | 'configBytes'
> & {
  layers: readonly { diffID: string }[];
};

export function manifestDescriptor({
  manifestDigest,
  manifest,
  manifestBytes,
}: PublishableImage): Descriptor {
  return { mediaType: manifest.mediaType, digest: manifestDigest, size: manifestBytes.length };
}

/** The teleport artifact that the catalog has for the image, if all of its blobs are there; undefined otherwise. */
export async function findArtifact(
  layout: WritableLayout,
  catalog: ImageIndex,
  image: PublishableImage,
): Promise<Descriptor | undefined> {
  try {
    const descriptor = teleportOf(catalog, image.manifestDigest);
    const artifact = parseTeleportArtifact(await layout.readBlob(descriptor, 'teleport artifact'));
    for (const blob of [manifestDescriptor(image), image.manifest.config, artifact.imageIndex]) {
      await layout.checkBlob(blob, 'blob');
    }
    for (const { descriptor: blob } of artifact.digests) await layout.checkBlob(blob, 'block digests');
    if (artifact.imageIndex.size >= LEAST_PACKED && artifact.packedIndex === undefined) return undefined;
    if (artifact.packedIndex !== undefined) await layout.checkBlob(artifact.packedIndex, 'blob');
    if (artifact.digests.length > 1 && artifact.digestSet === undefined) return undefined;
    if (artifact.digestSet !== undefined) await layout.checkBlob(artifact.digestSet, 'block digests');
    for (const { descriptor: blob } of artifact.recipes ?? []) await layout.checkBlob(blob, 'layer recipe');
    for (const { descriptor: blob } of artifact.checkpoints ?? [])
      await layout.checkBlob(blob, 'checkpoints');
    return descriptor;
  } catch (error) {
    if (error instanceof OrcaError) return undefined;
    throw error;
  }
}

/**
 * Writes manifest, config, image index, block digests and teleport artifact as blobs, and returns the descriptor of
 * the artifact. `pathOf` gives the place of a file of the store. Throws what buildImageIndex throws.
 */
export async function writeArtifact(
  layout: WritableLayout,
  image: PublishableImage,
  pathOf: (relative: string) => string,
): Promise<Descriptor> {
  const { pieces, size, devices } = buildImageIndex(
    image.layers.map(({ diffID }) => ({ diffID, path: pathOf(layerPath(diffID)) })),
  );
  const hash = createHash('sha256');
  for (const piece of pieces) hash.update(piece);
  const imageIndex = { mediaType: IMAGE_INDEX_TYPE, digest: `sha256:${hash.digest('hex')}`, size };
  await layout.writeBlobStream(imageIndex, pieces);
  const packedIndex =
    size < LEAST_PACKED ? undefined : await layout.writeBlob(PACKED_INDEX_TYPE, await packed(pieces));
  const digests: LayerDigests[] = [];
  const documents: Uint8Array[] = [];
  for (const { diffID } of devices) {
    const bytes = await readFile(pathOf(blockDigestsPath(diffID)));
    digests.push({ diffID, descriptor: await layout.writeBlob(BLOCK_DIGESTS_TYPE, bytes) });
    documents.push(bytes);
  }
  const digestSet =
    documents.length > 1 ? await layout.writeBlob(DIGEST_SET_TYPE, Buffer.concat(documents)) : undefined;
  // What the blob path needs may be missing: of imported layers, or where an earlier version expanded them.
  const recipes: LayerDigests[] = [];
  for (const { diffID } of devices) {
    const bytes = await readIfThere(pathOf(recipePath(diffID)));
    if (bytes !== undefined) {
      recipes.push({ diffID, descriptor: await layout.writeBlob(LAYER_RECIPE_TYPE, bytes) });
    }
  }
  const checkpoints: BlobCheckpoints[] = [];
  const blobs = new Set(image.manifest.layers.map(({ digest }) => digest));
  for (const { diffID } of devices) {
    const bytes = await readIfThere(pathOf(checkpointsPath(diffID)));
    // They are of the blob that was expanded first, which may be another compression than this image's.
    const blob = bytes && Checkpoints.decode(bytes).digest;
    if (bytes === undefined || blob === undefined || !blobs.has(blob)) continue;
    checkpoints.push({ blob, descriptor: await layout.writeBlob(CHECKPOINTS_TYPE, bytes) });
  }
  await layout.writeBlobStream(image.manifest.config, [image.configBytes]);
  await layout.writeBlobStream(manifestDescriptor(image), [image.manifestBytes]);
  await layout.writeBlob(MEDIA_TYPE.empty, EMPTY_CONFIG);
  const artifact = encodeTeleportArtifact({
    subject: manifestDescriptor(image),
    imageIndex,
    packedIndex,
    digests,
    digestSet,
    recipes,
    checkpoints,
  });
  return layout.writeBlob(MEDIA_TYPE.manifest, artifact);
}

async function packed(pieces: Iterable<Uint8Array>): Promise<Uint8Array> {
  const compressed: Buffer[] = [];
  for await (const chunk of Readable.from(pieces).pipe(createGzip())) compressed.push(chunk as Buffer);
  return Buffer.concat(compressed);
}

async function readIfThere(path: string): Promise<Uint8Array | undefined> {
  return readFile(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}
