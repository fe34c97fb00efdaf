/** From a descriptor down to one image: through indexes to the platform's manifest, and its config. */
import { type ImageConfig, parseImageConfig } from './image-config.js';
import {
  type Descriptor,
  isConfigType,
  isIndexType,
  isLayerType,
  isManifestType,
  type Manifest,
  type Platform,
  parseIndex,
  parseManifest,
} from './manifest.js';
import { OciError } from './oci-error.js';
import { DEFAULT_PLATFORM, formatPlatform, platformDistance, selectPlatform } from './platform.js';

/** An index of indexes is legal; nobody nests more than twice, and a loop has to end. */
const MAX_DEPTH = 4;

/** Reads a document of at most MAX_MANIFEST_BYTES and verifies it against its descriptor. */
export type ReadDocument = (
  descriptor: Descriptor,
  kind: 'index' | 'manifest' | 'config',
) => Promise<Uint8Array>;

export interface ImageManifest {
  descriptor: Descriptor;
  manifest: Manifest;
  /** The bytes of the descriptor's digest. */
  manifestBytes: Uint8Array;
}

export interface ImageDocuments extends ImageManifest {
  config: ImageConfig;
  configBytes: Uint8Array;
}

/**
 * Follows indexes to the manifest of the platform (default linux/amd64). `location` names where they come from.
 * Throws OciError NOT_FOUND without an image for it, UNSUPPORTED for an artifact, and what parsing and `read` throw.
 */
export async function readManifest(
  from: Descriptor,
  read: ReadDocument,
  wanted: Platform | undefined,
  location: string,
): Promise<ImageManifest> {
  let descriptor = from;
  for (let depth = 0; isIndexType(descriptor.mediaType); depth++) {
    if (depth === MAX_DEPTH)
      throw new OciError('INVALID_INDEX', `${location}: indexes are nested too deeply`);
    const what = `${location}: index ${descriptor.digest}`;
    const index = parseIndex(await read(descriptor, 'index'), what);
    descriptor = selectPlatform(
      index.manifests.filter(({ mediaType }) => isManifestType(mediaType) || isIndexType(mediaType)),
      wanted ?? DEFAULT_PLATFORM,
      what,
    );
  }
  const manifestBytes = await read(descriptor, 'manifest');
  const manifest = parseManifest(manifestBytes, `${location}: manifest ${descriptor.digest}`);
  checkIsImage(manifest, location);
  return { descriptor, manifest, manifestBytes };
}

/** readManifest, and the config, which must fit the manifest and the wanted platform. */
export async function readImage(
  from: Descriptor,
  read: ReadDocument,
  wanted: Platform | undefined,
  location: string,
): Promise<ImageDocuments> {
  const found = await readManifest(from, read, wanted, location);
  const { manifest } = found;
  const configBytes = await read(manifest.config, 'config');
  const config = parseImageConfig(configBytes, `${location}: config ${manifest.config.digest}`);
  checkPlatform(config.platform, wanted, location);
  checkLayerCount(manifest.layers.length, config.diffIDs.length, location);
  return { ...found, config, configBytes };
}

export function checkPlatform(offered: Platform, wanted: Platform | undefined, location: string): void {
  if (wanted === undefined || platformDistance(offered, wanted) !== undefined) return;
  throw new OciError(
    'NOT_FOUND',
    `${location}: the image is for ${formatPlatform(offered)}, not for ${formatPlatform(wanted)}`,
  );
}

export function checkLayerCount(layers: number, diffIDs: number, location: string): void {
  if (layers === diffIDs) return;
  throw new OciError(
    'INVALID_CONFIG',
    `${location}: the manifest has ${layers} layers, the config ${diffIDs} diff_ids; build the image again`,
  );
}

function checkIsImage({ config, layers }: Manifest, location: string): void {
  if (!isConfigType(config.mediaType)) {
    throw new OciError(
      'UNSUPPORTED',
      `${location}: not a container image but an artifact (config is ${config.mediaType})`,
    );
  }
  const odd = layers.find(({ mediaType }) => !isLayerType(mediaType));
  if (odd !== undefined) {
    throw new OciError('UNSUPPORTED', `${location}: layer ${odd.digest} is not a tar but ${odd.mediaType}`);
  }
}
