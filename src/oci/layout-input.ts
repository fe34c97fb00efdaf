/** An image of an OCI layout as input: which one is meant, and that all of it is there. */
import { printable } from './digest.js';
import { parseImageConfig } from './image-config.js';
import type { ImageInput } from './image-input.js';
import type { InputFiles } from './input-files.js';
import { OciLayout } from './layout.js';
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
import { canonicalName } from './reference.js';

/** The tag, by the specification; `docker save` and `ctr export` put the whole name into the other annotation. */
const REF_NAME = 'org.opencontainers.image.ref.name';
const CONTAINERD_NAME = 'io.containerd.image.name';
/** An index of indexes is legal; nobody nests more than twice, and a loop has to end. */
const MAX_DEPTH = 4;

/** Opens an image of a layout. Takes over `files` when it resolves. Throws OciError. */
export async function openLayoutInput(
  files: InputFiles,
  selector: string | undefined,
  wanted: Platform | undefined,
): Promise<ImageInput> {
  const layout = await OciLayout.open(files);
  const { manifests } = await layout.readIndex();
  const images = manifests.filter(
    ({ mediaType, artifactType }) =>
      (isManifestType(mediaType) || isIndexType(mediaType)) && artifactType === undefined,
  );
  const chosen = chooseImage(images, selector, files.location);
  let descriptor = selectPlatform(
    chosen.length === 1 ? withoutPlatform(chosen) : chosen,
    wanted ?? DEFAULT_PLATFORM,
    files.location,
  );
  const name = (chosen.find(({ digest }) => digest === descriptor.digest) ?? descriptor).annotations;
  for (let depth = 0; isIndexType(descriptor.mediaType); depth++) {
    if (depth === MAX_DEPTH)
      throw new OciError('INVALID_INDEX', `${files.location}: indexes are nested too deeply`);
    const what = `${files.location}: index ${descriptor.digest}`;
    const index = parseIndex(await layout.readBlob(descriptor, 'index'), what);
    descriptor = selectPlatform(
      index.manifests.filter(({ mediaType }) => isManifestType(mediaType) || isIndexType(mediaType)),
      wanted ?? DEFAULT_PLATFORM,
      what,
    );
  }
  const manifestBytes = await layout.readBlob(descriptor, 'manifest');
  const manifest = parseManifest(manifestBytes, `${files.location}: manifest ${descriptor.digest}`);
  checkIsImage(manifest, files.location);
  const configBytes = await layout.readBlob(manifest.config, 'config');
  const config = parseImageConfig(configBytes, `${files.location}: config ${manifest.config.digest}`);
  checkPlatform(config.platform, wanted, files.location);
  checkLayerCount(manifest.layers.length, config.diffIDs.length, files.location);
  for (const layer of manifest.layers) await layout.checkBlob(layer, 'layer');
  const known = name?.[CONTAINERD_NAME] ?? name?.[REF_NAME];
  return {
    location: files.location,
    ...(known === undefined ? {} : { name: known }),
    manifestDigest: descriptor.digest,
    manifest,
    manifestBytes,
    config,
    configBytes,
    layers: manifest.layers.map((layer, i) => ({
      digest: layer.digest,
      diffID: config.diffIDs[i] ?? '',
      size: layer.size,
      mediaType: layer.mediaType,
      open: () => layout.streamBlob(layer, 'layer'),
    })),
    close: () => layout.close(),
  };
}

function namesOf({ annotations }: Descriptor): string[] {
  return [annotations?.[CONTAINERD_NAME], annotations?.[REF_NAME]].filter((name) => name !== undefined);
}

/**
 * The entries that the selector means: those of one name, which may be one image for several platforms. Without a
 * selector there must be one name only.
 */
function chooseImage(
  images: readonly Descriptor[],
  selector: string | undefined,
  location: string,
): Descriptor[] {
  const label = (image: Descriptor) => namesOf(image)[0] ?? '';
  const known = [...new Set(images.map((image) => label(image) || image.digest))].sort();
  if (images.length === 0) throw new OciError('NOT_FOUND', `${location}: the layout has no images`);
  if (selector !== undefined) {
    const chosen = images.filter(
      (image) => image.digest === selector || namesOf(image).some((name) => sameName(name, selector)),
    );
    if (chosen.length > 0) return chosen;
    throw new OciError(
      'NOT_FOUND',
      `${location}: no image ${printable(selector)}; it has ${known.join(', ')}`,
    );
  }
  if (new Set(images.map(label)).size > 1 && new Set(images.map(({ digest }) => digest)).size > 1) {
    throw new OciError(
      'AMBIGUOUS',
      `${location}: several images; add one of these after a colon: ${known.join(', ')}`,
    );
  }
  return [...images];
}

/** Names are the same as text, or as references: `python` is `docker.io/library/python:latest`. */
export function sameName(a: string, b: string): boolean {
  if (a === b) return true;
  try {
    return canonicalName(a) === canonicalName(b);
  } catch {
    return false;
  }
}

/** An image that stands alone is taken whatever its platform, unless the user asks for one. */
function withoutPlatform(images: readonly Descriptor[]): Descriptor[] {
  return images.map(({ platform: _, ...image }) => image);
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
