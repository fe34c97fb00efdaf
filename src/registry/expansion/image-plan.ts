/** From a manifest in a repository to what has to be done for it. */
import { digestOf, parseDigest } from '../../oci/digest.js';
import { parseImageConfig } from '../../oci/image-config.js';
import { checkLayerCount } from '../../oci/image-documents.js';
import {
  type Descriptor,
  isConfigType,
  isIndexType,
  isLayerType,
  isManifestType,
  MAX_MANIFEST_BYTES,
  type Platform,
  parseIndex,
  parseManifest,
} from '../../oci/manifest.js';
import { OciError } from '../../oci/oci-error.js';
import { DEFAULT_PLATFORM, selectPlatform } from '../../oci/platform.js';
import type { BlobOrigin } from './expansion.js';

export interface PlannedLayer {
  blob: Descriptor;
  diffID: string;
}

export interface ImagePlan {
  kind: 'image';
  /** Of the manifest. */
  descriptor: Descriptor;
  manifestBytes: Uint8Array;
  configBytes: Uint8Array;
  platform: Platform;
  /** Lowest first. */
  layers: PlannedLayer[];
}

/** An index has its images expanded; what is no image (an artifact, a signature) has nothing. */
export type Plan = ImagePlan | IndexPlan | { kind: 'other' } | { kind: 'missing' };

export interface IndexPlan {
  kind: 'index';
  /** Digests of its images and indexes. */
  manifests: string[];
  /** The one that a tag of the index is a name of, in a store, where names are of images. */
  named: string | undefined;
}

/** Throws OciError for what is wrong with the image, and what the origin throws. */
export async function planImage(
  origin: BlobOrigin,
  repository: string,
  digest: string,
  signal?: AbortSignal,
): Promise<Plan> {
  const found = await origin.readManifest(repository, digest, signal);
  if (found === undefined) return { kind: 'missing' };
  const { mediaType, bytes } = found;
  if (isIndexType(mediaType)) {
    const manifests = parseIndex(bytes).manifests.filter(
      (manifest) => isManifestType(manifest.mediaType) || isIndexType(manifest.mediaType),
    );
    return {
      kind: 'index',
      manifests: [...new Set(manifests.map((manifest) => manifest.digest))],
      named: namedOf(manifests),
    };
  }
  if (!isManifestType(mediaType)) return { kind: 'other' };
  const { config, layers, artifactType, subject } = parseManifest(bytes);
  const isImage =
    isConfigType(config.mediaType) &&
    artifactType === undefined &&
    (layers.some((layer) => isLayerType(layer.mediaType)) || (layers.length === 0 && subject === undefined));
  if (!isImage) return { kind: 'other' };
  if (layers.length === 0) throw new OciError('UNSUPPORTED', 'the image has no layers');
  const odd = layers.find((layer) => !isLayerType(layer.mediaType));
  if (odd !== undefined)
    throw new OciError('UNSUPPORTED', `layer ${odd.digest} is not a tar but ${odd.mediaType}`);
  const configBytes = await readConfig(origin, repository, config, signal);
  const { diffIDs, platform } = parseImageConfig(configBytes, `config ${config.digest}`);
  checkLayerCount(layers.length, diffIDs.length, `manifest ${digest}`);
  for (const layer of layers) {
    const size = await origin.blobSize(repository, layer, signal);
    if (size === layer.size) continue;
    const what = size === undefined ? 'is not in the repository' : `has ${size} bytes and not ${layer.size}`;
    throw new OciError(size === undefined ? 'NOT_FOUND' : 'SIZE_MISMATCH', `layer ${layer.digest} ${what}`);
  }
  return {
    kind: 'image',
    descriptor: { mediaType, digest, size: bytes.length },
    manifestBytes: bytes,
    configBytes,
    platform,
    layers: layers.map((blob, i) => ({ blob, diffID: diffIDs[i] as string })),
  };
}

function namedOf(manifests: readonly Descriptor[]): string | undefined {
  try {
    return selectPlatform(manifests, DEFAULT_PLATFORM, 'index').digest;
  } catch {
    return undefined; // an index of another platform's images alone
  }
}

async function readConfig(
  origin: BlobOrigin,
  repository: string,
  config: Descriptor,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  const what = `config ${config.digest}`;
  const size = await origin.blobSize(repository, config, signal);
  if (size === undefined) throw new OciError('NOT_FOUND', `${what} is not in the repository`);
  if (size !== config.size)
    throw new OciError('SIZE_MISMATCH', `${what} has ${size} bytes and not ${config.size}`);
  if (size > MAX_MANIFEST_BYTES)
    throw new OciError('TOO_LARGE', `${what} has ${size} bytes, more than ${MAX_MANIFEST_BYTES}`);
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of origin.openBlob(repository, config, signal)) {
    length += chunk.length;
    if (length > size) throw new OciError('SIZE_MISMATCH', `${what} has more than its ${size} bytes`);
    chunks.push(chunk);
  }
  const bytes = Buffer.concat(chunks);
  if (digestOf(bytes, parseDigest(config.digest).algorithm) !== config.digest)
    throw new OciError('DIGEST_MISMATCH', `${what} has other content than its digest says`);
  return bytes;
}
