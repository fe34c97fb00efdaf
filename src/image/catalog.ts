/**
 * Where things are in a store and what its `images/index.json` says (docs/FORMAT.md, "Store"): pure functions over
 * bytes, so that a store on a remote share is read by the same code as a local one.
 */
import { isDigest, parseDigest, printable } from '../oci/digest.js';
import { JsonObject } from '../oci/json-object.js';
import { type Descriptor, type ImageIndex, isManifestType, MEDIA_TYPE, parseIndex } from '../oci/manifest.js';
import { canonicalName, parseReference } from '../oci/reference.js';
import { TELEPORT_TYPE } from './artifact.js';
import { ImageError } from './image-error.js';

/** Paths are relative to the store and use `/`. */
export const MARKER_PATH = 'orca.json';
export const IMAGES_PATH = 'images';
export const INDEX_PATH = 'images/index.json';
export const STORE_VERSION = 1;
/** About 400 bytes per image: 150,000 images in one store. */
export const MAX_INDEX_BYTES = 64 << 20;
/** The marker has a version and nothing else; what is larger is another program's file. */
export const MAX_MARKER_BYTES = 4096;

/** The annotation that holds an image's name (OCI image-spec, annotations.md). */
export const NAME_ANNOTATION = 'org.opencontainers.image.ref.name';
/** The annotation of a teleport artifact's descriptor that names the image manifest it belongs to. */
export const SUBJECT_ANNOTATION = 'dev.orca.subject';

export function blobPath(digest: string): string {
  const { algorithm, hex } = parseDigest(digest, 'blob');
  return `${IMAGES_PATH}/blobs/${algorithm}/${hex}`;
}

export function layerPath(diffID: string): string {
  return `layers/sha256/${diffIDHex(diffID)}.vhd`;
}

/** All files of a layer, the layer VHD last. */
export function layerPaths(diffID: string): string[] {
  return [blockDigestsPath(diffID), layerPath(diffID)];
}

export function blockDigestsPath(diffID: string): string {
  return `layers/sha256/${diffIDHex(diffID)}.digests`;
}

export function recipePath(diffID: string): string {
  return `layers/sha256/${diffIDHex(diffID)}.recipe`;
}

/** Of an image, by the digest of its manifest. */
export function profilePath(manifestDigest: string): string {
  return `profiles/sha256/${parseDigest(manifestDigest, 'image').hex}`;
}

/** Of the blob that the layer was expanded from, which they name. */
export function checkpointsPath(diffID: string): string {
  return `layers/sha256/${diffIDHex(diffID)}.checkpoints`;
}

/** The hex digits of a diffID, which are always those of a sha256. */
export function diffIDHex(diffID: string): string {
  const { algorithm, hex } = parseDigest(diffID, 'layer');
  if (algorithm !== 'sha256')
    throw new ImageError('INVALID_INPUT', `layer ${diffID}: a diffID must be a sha256`);
  return hex;
}

/** Throws INVALID_STORE unless the bytes of `orca.json` are of a store that this version can read. */
export function checkMarker(bytes: Uint8Array, store: string): void {
  const version = JsonObject.parse(bytes, MAX_MARKER_BYTES, 'INVALID_LAYOUT', `${store}/${MARKER_PATH}`).size(
    'version',
  );
  if (version !== STORE_VERSION) {
    throw new ImageError(
      'INVALID_STORE',
      `store ${store} has version ${version}, this program reads ${STORE_VERSION}: use a matching version of orca`,
    );
  }
}

export function encodeMarker(): Uint8Array {
  return Buffer.from(`${JSON.stringify({ version: STORE_VERSION })}\n`);
}

/** Decodes `images/index.json`. Throws OciError INVALID_INDEX or TOO_LARGE. */
export function parseCatalog(bytes: Uint8Array): ImageIndex {
  return parseIndex(bytes, INDEX_PATH, MAX_INDEX_BYTES);
}

export function emptyCatalog(): ImageIndex {
  return { mediaType: MEDIA_TYPE.index, manifests: [] };
}

function asCatalog(index: Uint8Array | ImageIndex): ImageIndex {
  return index instanceof Uint8Array ? parseCatalog(index) : index;
}

function isImage(descriptor: Descriptor): boolean {
  return isManifestType(descriptor.mediaType) && descriptor.artifactType === undefined;
}

/**
 * The descriptor of the image manifest that is meant by a digest, a name (`python`, `python:3`) or both
 * (`python@sha256:…`, where the digest decides). Throws ImageError NOT_FOUND with the names that are there.
 */
export function resolveName(index: Uint8Array | ImageIndex, nameOrDigest: string): Descriptor {
  const images = asCatalog(index).manifests.filter(isImage);
  const digest = isDigest(nameOrDigest) ? nameOrDigest : parseReference(nameOrDigest).digest;
  const wanted = digest ?? canonicalName(nameOrDigest);
  const found = images.find((image) =>
    digest === undefined ? nameOf(image) === wanted : image.digest === digest,
  );
  if (found !== undefined) return found;
  const names = images.flatMap((image) => nameOf(image) ?? []).sort();
  const known = names.length === 0 ? 'it has no named images' : `it has ${abridged(names)}`;
  throw new ImageError(
    'NOT_FOUND',
    `image ${printable(wanted)} is not in the store: ${known}; add it with orca expand`,
  );
}

function abridged(names: readonly string[]): string {
  const shown = names.slice(0, 8).join(', ');
  return names.length > 8 ? `${shown} and ${names.length - 8} more` : shown;
}

/** The descriptor of the image's teleport artifact. Throws ImageError NOT_EXPANDED when there is none. */
export function teleportOf(index: Uint8Array | ImageIndex, manifestDigest: string): Descriptor {
  const found = asCatalog(index).manifests.find(
    ({ artifactType, annotations }) =>
      artifactType === TELEPORT_TYPE && annotations?.[SUBJECT_ANNOTATION] === manifestDigest,
  );
  if (found !== undefined) return found;
  throw new ImageError(
    'NOT_EXPANDED',
    `image ${manifestDigest} has no teleport artifact: run orca expand again`,
  );
}

export interface CatalogImage {
  manifestDigest: string;
  /** In byte order; empty when the image is known by its digest only. */
  names: string[];
}

/** All images of a store, in the order in which they were added. */
export function listImages(index: Uint8Array | ImageIndex): CatalogImage[] {
  const images = new Map<string, CatalogImage>();
  for (const descriptor of asCatalog(index).manifests.filter(isImage)) {
    const image = images.get(descriptor.digest) ?? { manifestDigest: descriptor.digest, names: [] };
    images.set(descriptor.digest, image);
    const name = nameOf(descriptor);
    if (name !== undefined) image.names.push(name);
  }
  for (const image of images.values()) image.names.sort();
  return [...images.values()];
}

/**
 * The catalog with an image added: `name` (canonical) moves to it from whatever had it, and `artifact` replaces an
 * earlier teleport artifact of the same image. An image that loses its last name stays known by its digest.
 */
export function withImage(
  catalog: ImageIndex,
  manifest: Descriptor,
  artifact: Descriptor,
  name: string | undefined,
): ImageIndex {
  const images = catalog.manifests
    .filter(isImage)
    .map((image) => (nameOf(image) === name ? bare(image) : image));
  images.push({
    ...bare(manifest),
    ...(name === undefined ? {} : { annotations: { [NAME_ANNOTATION]: name } }),
  });
  const listed = new Set(images.filter((image) => nameOf(image) !== undefined).map(({ digest }) => digest));
  const kept = images.filter((image) => {
    if (nameOf(image) !== undefined) return true;
    if (listed.has(image.digest)) return false;
    listed.add(image.digest);
    return true;
  });
  const others = catalog.manifests.filter(
    (other) => !isImage(other) && other.annotations?.[SUBJECT_ANNOTATION] !== manifest.digest,
  );
  const teleport = {
    ...bare(artifact),
    annotations: { [SUBJECT_ANNOTATION]: manifest.digest },
    artifactType: TELEPORT_TYPE,
  };
  return { ...catalog, manifests: [...kept, ...others, teleport] };
}

/** The catalog without the images, and their teleport artifacts, whose manifest digest `isKept` is false for. */
export function withoutImages(catalog: ImageIndex, isKept: (manifestDigest: string) => boolean): ImageIndex {
  const manifests = catalog.manifests.filter((descriptor) =>
    isKept(descriptor.annotations?.[SUBJECT_ANNOTATION] ?? descriptor.digest),
  );
  return { ...catalog, manifests };
}

/** The catalog without a name; the image that had it stays, by its other names or its digest. */
export function withoutName(catalog: ImageIndex, name: string): ImageIndex {
  const isKnownOtherwise = ({ digest }: Descriptor) =>
    catalog.manifests.some((other) => isImage(other) && other.digest === digest && nameOf(other) !== name);
  return {
    ...catalog,
    manifests: catalog.manifests.flatMap((descriptor) => {
      if (!isImage(descriptor) || nameOf(descriptor) !== name) return [descriptor];
      return isKnownOtherwise(descriptor) ? [] : [bare(descriptor)];
    }),
  };
}

function nameOf(descriptor: Descriptor): string | undefined {
  return descriptor.annotations?.[NAME_ANNOTATION];
}

function bare({ mediaType, digest, size }: Descriptor): Descriptor {
  return { mediaType, digest, size };
}
