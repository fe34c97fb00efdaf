/** An image of an OCI layout as input: which one is meant, and that all of it is there. */
import { printable } from './digest.js';
import { readImage } from './image-documents.js';
import type { ImageInput } from './image-input.js';
import type { InputFiles } from './input-files.js';
import { OciLayout } from './layout.js';
import { type Descriptor, isIndexType, isManifestType, type Platform } from './manifest.js';
import { OciError } from './oci-error.js';
import { DEFAULT_PLATFORM, selectPlatform } from './platform.js';
import { canonicalName } from './reference.js';

/** The tag, by the specification; `docker save` and `ctr export` put the whole name into the other annotation. */
const REF_NAME = 'org.opencontainers.image.ref.name';
const CONTAINERD_NAME = 'io.containerd.image.name';

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
  const selected = selectPlatform(
    chosen.length === 1 ? withoutPlatform(chosen) : chosen,
    wanted ?? DEFAULT_PLATFORM,
    files.location,
  );
  const name = (chosen.find(({ digest }) => digest === selected.digest) ?? selected).annotations;
  const { descriptor, manifest, manifestBytes, config, configBytes } = await readImage(
    selected,
    (document, kind) => layout.readBlob(document, kind),
    wanted,
    files.location,
  );
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
