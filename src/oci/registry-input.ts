/** An image of a registry as input of an expansion: its documents at once, its layers as verified streams. */
import { verifyBytes } from './digest.js';
import { type ImageDocuments, type ReadDocument, readImage } from './image-documents.js';
import type { ImageInput } from './image-input.js';
import { type Descriptor, isIndexType, isManifestType, type Platform } from './manifest.js';
import { familiarReference, type Reference, withDefaultTag } from './reference.js';
import type { RegistryClient } from './registry-client.js';
import type { Repository } from './repository.js';

/** Manifest and config of an image, for `platform` (default linux/amd64). Throws OciError and RegistryError. */
export async function readRemoteImage(
  repository: Repository,
  target: string | Descriptor,
  platform: Platform | undefined,
  signal?: AbortSignal,
): Promise<ImageDocuments> {
  const first = await repository.manifest(target, signal);
  return readImage(first.descriptor, documentReader(repository, first, signal), platform, repository.name);
}

/** Reads manifests and configs of a repository; `known` is at hand already. */
export function documentReader(
  repository: Repository,
  known?: { descriptor: Descriptor; bytes: Uint8Array },
  signal?: AbortSignal,
): ReadDocument {
  return async (descriptor, kind) => {
    if (descriptor.digest === known?.descriptor.digest) {
      verifyBytes(known.bytes, descriptor, `${kind} of ${repository.name}`);
      return known.bytes;
    }
    if (isManifestType(descriptor.mediaType) || isIndexType(descriptor.mediaType)) {
      return (await repository.manifest(descriptor, signal)).bytes;
    }
    return repository.readBlob(descriptor, kind, undefined, signal);
  };
}

/** Opens `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`; with both the digest decides. The client stays the caller's. */
export async function openRegistryInput(
  client: RegistryClient,
  reference: Reference,
  platform?: Platform,
  signal?: AbortSignal,
): Promise<ImageInput> {
  const wanted = withDefaultTag(reference);
  const repository = client.repository(wanted);
  const image = await readRemoteImage(repository, wanted.digest ?? wanted.tag ?? '', platform, signal);
  const { manifest, manifestBytes, config, configBytes, descriptor } = image;
  return {
    location: familiarReference(wanted),
    ...(wanted.tag === undefined ? {} : { name: familiarReference(wanted).replace(/@.*$/, '') }),
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
      open: () => repository.blob(layer, 'layer').stream(signal),
    })),
    close: async () => undefined,
  };
}
