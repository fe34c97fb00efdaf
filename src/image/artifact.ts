/**
 * The teleport artifact: an OCI image manifest with `artifactType` that ties image index and block digests to the
 * image manifest it is about (docs/FORMAT.md, "Teleport artifact"; OCI image-spec manifest.md, "Guidelines for
 * Artifact Usage").
 */
import { MAX_CHECKPOINTS_BYTES } from '../layer/checkpoints.js';
import { MAX_RECIPE_BYTES } from '../layer/recipe.js';
import { digestOf, isDigest, printable } from '../oci/digest.js';
import { type Descriptor, encodeManifest, MEDIA_TYPE, parseManifest } from '../oci/manifest.js';
import { ImageError } from './image-error.js';

export const TELEPORT_TYPE = 'application/vnd.orca.teleport.v1+json';
export const IMAGE_INDEX_TYPE = 'application/vnd.orca.image-index.v1+erofs';
export const PACKED_INDEX_TYPE = `${IMAGE_INDEX_TYPE}+gzip`;
export const BLOCK_DIGESTS_TYPE = 'application/vnd.orca.block-digests.v1';
export const DIGEST_SET_TYPE = 'application/vnd.orca.block-digest-set.v1';
export const LAYER_RECIPE_TYPE = 'application/vnd.orca.layer-recipe.v1';
export const CHECKPOINTS_TYPE = 'application/vnd.orca.inflate-checkpoints.v1';
/** In the place of checkpoints. */
export const CHUNK_MAP_TYPE = 'application/vnd.orca.chunk-map.v1';
const DIFF_ID_ANNOTATION = 'dev.orca.layer.diffid';
const BLOB_ANNOTATION = 'dev.orca.layer.blob';

/** About 150 bytes per file: an image of seven million files. It is mapped as a whole, so the cap is on memory. */
export const MAX_IMAGE_INDEX_BYTES = 2 ** 30;
/** 32 bytes per block: a layer of 1 TiB in blocks of 128 KiB. */
export const MAX_BLOCK_DIGESTS_BYTES = 2 ** 28;

/** The `{}` that an artifact without configuration has as its config (OCI image-spec, "Empty Descriptor"). */
export const EMPTY_CONFIG: Uint8Array = Buffer.from('{}');

export interface LayerDigests {
  diffID: string;
  descriptor: Descriptor;
}

export interface BlobCheckpoints {
  /** Of the compressed layer. */
  blob: string;
  /** Of media type CHUNK_MAP_TYPE, or else CHECKPOINTS_TYPE. */
  descriptor: Descriptor;
}

export interface TeleportArtifact {
  /** The image manifest. */
  subject: Descriptor;
  imageIndex: Descriptor;
  /** The image index in gzip: a fifth of the bytes, for whoever gets it from afar. */
  packedIndex?: Descriptor | undefined;
  /** One per device of the image index, in device order. */
  digests: LayerDigests[];
  /** The documents of `digests`, one after the other: one request instead of one per layer. */
  digestSet?: Descriptor | undefined;
  /** With these, layers are read from the compressed blobs: at most one per layer, in any order. */
  recipes?: LayerDigests[];
  checkpoints?: BlobCheckpoints[];
}

/** The bytes of the artifact's manifest; the same artifact gives the same bytes. */
export function encodeTeleportArtifact(artifact: TeleportArtifact): Uint8Array {
  return encodeManifest({
    mediaType: MEDIA_TYPE.manifest,
    artifactType: TELEPORT_TYPE,
    config: { mediaType: MEDIA_TYPE.empty, digest: digestOf(EMPTY_CONFIG), size: EMPTY_CONFIG.length },
    layers: [
      plain(artifact.imageIndex, IMAGE_INDEX_TYPE),
      ...(artifact.packedIndex === undefined ? [] : [plain(artifact.packedIndex, PACKED_INDEX_TYPE)]),
      ...artifact.digests.map(({ diffID, descriptor }) => ({
        ...plain(descriptor, BLOCK_DIGESTS_TYPE),
        annotations: { [DIFF_ID_ANNOTATION]: diffID },
      })),
      ...(artifact.digestSet === undefined ? [] : [plain(artifact.digestSet, DIGEST_SET_TYPE)]),
      ...(artifact.recipes ?? []).map(({ diffID, descriptor }) => ({
        ...plain(descriptor, LAYER_RECIPE_TYPE),
        annotations: { [DIFF_ID_ANNOTATION]: diffID },
      })),
      ...(artifact.checkpoints ?? []).map(({ blob, descriptor }) => ({
        ...plain(descriptor, descriptor.mediaType === CHUNK_MAP_TYPE ? CHUNK_MAP_TYPE : CHECKPOINTS_TYPE),
        annotations: { [BLOB_ANNOTATION]: blob },
      })),
    ],
    subject: plain(artifact.subject, artifact.subject.mediaType),
  });
}

function plain({ digest, size }: Descriptor, mediaType: string): Descriptor {
  return { mediaType, digest, size };
}

/**
 * Decodes and checks the manifest of a teleport artifact. Layers of other media types are left out, so that later
 * versions can add some. Throws ImageError INVALID_ARTIFACT or TOO_LARGE, or what parseManifest throws.
 */
export function parseTeleportArtifact(bytes: Uint8Array, what = 'teleport artifact'): TeleportArtifact {
  const manifest = parseManifest(bytes, what);
  const invalid = (why: string) =>
    new ImageError('INVALID_ARTIFACT', `${what}: ${why}; expand the image again`);
  if (manifest.artifactType !== TELEPORT_TYPE) {
    throw invalid(`artifactType is ${printable(String(manifest.artifactType))}, not ${TELEPORT_TYPE}`);
  }
  if (manifest.subject === undefined) throw invalid('it has no subject');
  const imageIndex = manifest.layers[0];
  if (imageIndex?.mediaType !== IMAGE_INDEX_TYPE) throw invalid('its first layer is not an image index');
  checkCap(imageIndex, MAX_IMAGE_INDEX_BYTES, what);

  const documents = (mediaTypes: readonly string[], annotation: string, cap: number) => {
    const found = new Map<string, Descriptor>();
    for (const descriptor of manifest.layers) {
      if (!mediaTypes.includes(descriptor.mediaType)) continue;
      const about = descriptor.annotations?.[annotation] ?? '';
      if (!isDigest(about) || !about.startsWith('sha256:')) {
        throw invalid(`${annotation} ${printable(about)} is not a sha256 digest`);
      }
      if (found.has(about)) throw invalid(`layer ${about} appears twice`);
      checkCap(descriptor, cap, what);
      found.set(about, descriptor);
    }
    return [...found];
  };
  const ofLayers = (mediaType: string, cap: number): LayerDigests[] =>
    documents([mediaType], DIFF_ID_ANNOTATION, cap).map(([diffID, descriptor]) => ({ diffID, descriptor }));
  const digests = ofLayers(BLOCK_DIGESTS_TYPE, MAX_BLOCK_DIGESTS_BYTES);
  const only = (type: string, name: string) => {
    const [first, another] = manifest.layers.filter(({ mediaType }) => mediaType === type);
    if (another !== undefined) throw invalid(`it has more than one ${name}`);
    return first;
  };
  only(IMAGE_INDEX_TYPE, 'image index');
  const packedIndex = only(PACKED_INDEX_TYPE, 'packed image index');
  if (packedIndex !== undefined && packedIndex.size > imageIndex.size) {
    throw invalid(`its packed image index has ${packedIndex.size} bytes, more than the image index`);
  }
  const digestSet = only(DIGEST_SET_TYPE, 'set of block digests');
  const size = digests.reduce((sum, { descriptor }) => sum + descriptor.size, 0);
  if (digestSet !== undefined && digestSet.size !== size) {
    throw invalid(`its set of block digests has ${digestSet.size} bytes, and the block digests have ${size}`);
  }
  return {
    subject: manifest.subject,
    imageIndex,
    packedIndex,
    digests,
    digestSet,
    recipes: ofLayers(LAYER_RECIPE_TYPE, MAX_RECIPE_BYTES),
    checkpoints: documents([CHECKPOINTS_TYPE, CHUNK_MAP_TYPE], BLOB_ANNOTATION, MAX_CHECKPOINTS_BYTES).map(
      ([blob, descriptor]) => ({ blob, descriptor }),
    ),
  };
}

function checkCap({ digest, size }: Descriptor, cap: number, what: string): void {
  if (size > cap)
    throw new ImageError('TOO_LARGE', `${what}: blob ${digest} has ${size} bytes, more than ${cap}`);
}
