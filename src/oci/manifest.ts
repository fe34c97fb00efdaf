/**
 * Manifests and indexes of the OCI image specification 1.1 (manifest.md, image-index.md, descriptor.md) and their
 * Docker schema 2 counterparts, decoded into what Orca uses of them. Unknown fields are left out; whoever must
 * pass a document on passes its bytes on.
 */
import { isDigest, printable } from './digest.js';
import { JsonObject } from './json-object.js';
import { OciError } from './oci-error.js';

/** Largest manifest, index or config that is read: the limit that registries agree on (distribution-spec, "Pushing Manifests"). */
export const MAX_MANIFEST_BYTES = 4 << 20;
/** Layers of one image. Docker stops at 127; an EROFS device table ends at 65,535. */
export const MAX_LAYERS = 1024;

export const MEDIA_TYPE = {
  manifest: 'application/vnd.oci.image.manifest.v1+json',
  index: 'application/vnd.oci.image.index.v1+json',
  config: 'application/vnd.oci.image.config.v1+json',
  empty: 'application/vnd.oci.empty.v1+json',
  layerTar: 'application/vnd.oci.image.layer.v1.tar',
  layerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  layerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerManifestList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
} as const;

/** A layer that is a tar, compressed or not; what compresses it is found out from its first bytes. */
const LAYER_TYPE =
  /^application\/vnd\.(?:oci\.image\.layer\.(?:nondistributable\.)?v1\.tar(?:\+(?:gzip|zstd))?|docker\.image\.rootfs\.(?:foreign\.)?diff\.tar(?:\.(?:gzip|zstd))?)$/;
/** RFC 6838 §4.2, with parameters left out. */
const MEDIA_TYPE_GRAMMAR = /^[A-Za-z0-9][\w!#$&^.+-]{0,126}\/[A-Za-z0-9][\w!#$&^.+-]{0,126}$/;

export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
}

export interface Descriptor {
  mediaType: string;
  digest: string;
  /** Bytes. */
  size: number;
  annotations?: Record<string, string>;
  platform?: Platform;
  artifactType?: string;
}

export interface Manifest {
  mediaType: string;
  config: Descriptor;
  layers: Descriptor[];
  artifactType?: string;
  subject?: Descriptor;
  annotations?: Record<string, string>;
}

export interface ImageIndex {
  mediaType: string;
  manifests: Descriptor[];
  artifactType?: string;
  subject?: Descriptor;
  annotations?: Record<string, string>;
}

export function isManifestType(mediaType: string): boolean {
  return mediaType === MEDIA_TYPE.manifest || mediaType === MEDIA_TYPE.dockerManifest;
}

/** The Accept header of whoever takes any manifest or index. */
export const MANIFEST_ACCEPT = [
  MEDIA_TYPE.manifest,
  MEDIA_TYPE.index,
  MEDIA_TYPE.dockerManifest,
  MEDIA_TYPE.dockerManifestList,
].join(', ');

export function isIndexType(mediaType: string): boolean {
  return mediaType === MEDIA_TYPE.index || mediaType === MEDIA_TYPE.dockerManifestList;
}

export function isConfigType(mediaType: string): boolean {
  return mediaType === MEDIA_TYPE.config || mediaType === MEDIA_TYPE.dockerConfig;
}

export function isLayerType(mediaType: string): boolean {
  return LAYER_TYPE.test(mediaType);
}

/** Decodes an image manifest. `what` names it in errors; throws OciError INVALID_MANIFEST, TOO_LARGE, UNSUPPORTED. */
export function parseManifest(bytes: Uint8Array, what = 'manifest'): Manifest {
  const json = JsonObject.parse(bytes, MAX_MANIFEST_BYTES, 'INVALID_MANIFEST', what);
  checkSchemaVersion(json, what);
  // A document that is both a manifest and an index means different images to different readers (CVE-2021-41190).
  if (json.has('manifests')) throw json.error('manifests', 'does not belong in a manifest');
  const mediaType = json.string('mediaType') ?? MEDIA_TYPE.manifest;
  if (!isManifestType(mediaType)) throw json.error('mediaType', `${printable(mediaType)} is not a manifest`);
  const config = json.object('config');
  if (config === undefined) throw json.error('config', 'is missing');
  const layers = json.objects('layers');
  if (layers === undefined) throw json.error('layers', 'is missing');
  if (layers.length > MAX_LAYERS) throw json.error('layers', `more than ${MAX_LAYERS}`);
  return {
    mediaType,
    config: decodeDescriptor(config),
    layers: layers.map(decodeDescriptor),
    ...artifactFields(json),
  };
}

/** Decodes an index or manifest list of at most `maxBytes` bytes. Throws OciError INVALID_INDEX, TOO_LARGE. */
export function parseIndex(bytes: Uint8Array, what = 'index', maxBytes = MAX_MANIFEST_BYTES): ImageIndex {
  const json = JsonObject.parse(bytes, maxBytes, 'INVALID_INDEX', what);
  checkSchemaVersion(json, what);
  if (json.has('layers') || json.has('config')) throw json.error('layers', 'does not belong in an index');
  const mediaType = json.string('mediaType') ?? MEDIA_TYPE.index;
  if (!isIndexType(mediaType)) throw json.error('mediaType', `${printable(mediaType)} is not an index`);
  const manifests = json.objects('manifests');
  if (manifests === undefined) throw json.error('manifests', 'is missing');
  return { mediaType, manifests: manifests.map(decodeDescriptor), ...artifactFields(json) };
}

function checkSchemaVersion(json: JsonObject, what: string): void {
  const version = json.size('schemaVersion');
  if (version === 1) {
    throw new OciError('UNSUPPORTED', `${what}: Docker schema 1 is not supported; push the image again`);
  }
  if (version !== 2) throw json.error('schemaVersion', `must be 2, is ${version}`);
}

function artifactFields(json: JsonObject): Pick<Manifest, 'artifactType' | 'subject' | 'annotations'> {
  const artifactType = json.string('artifactType');
  const subject = json.object('subject');
  const annotations = json.stringMap('annotations');
  return {
    ...(artifactType === undefined || artifactType === '' ? {} : { artifactType }),
    ...(subject === undefined ? {} : { subject: decodeDescriptor(subject) }),
    ...(annotations === undefined ? {} : { annotations }),
  };
}

/** A descriptor inside another document (descriptor.md). Throws what `json` throws. */
export function decodeDescriptor(json: JsonObject): Descriptor {
  const mediaType = json.requiredString('mediaType');
  if (!MEDIA_TYPE_GRAMMAR.test(mediaType))
    throw json.error('mediaType', `${printable(mediaType)} is malformed`);
  const digest = json.requiredString('digest');
  if (!isDigest(digest)) throw json.error('digest', `${printable(digest)} is not a sha256 or sha512 digest`);
  const annotations = json.stringMap('annotations');
  const artifactType = json.string('artifactType');
  const platform = json.object('platform');
  const variant = platform?.string('variant');
  return {
    mediaType,
    digest,
    size: json.size('size'),
    ...(annotations === undefined ? {} : { annotations }),
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(platform === undefined
      ? {}
      : {
          platform: {
            os: platform.string('os') ?? '',
            architecture: platform.string('architecture') ?? '',
            ...(variant === undefined || variant === '' ? {} : { variant }),
          },
        }),
  };
}

/** The bytes of a manifest that Orca makes: the fields of the specification in its order, compact JSON. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: manifest.mediaType,
      artifactType: manifest.artifactType,
      config: orderedDescriptor(manifest.config),
      layers: manifest.layers.map(orderedDescriptor),
      subject: manifest.subject && orderedDescriptor(manifest.subject),
      annotations: manifest.annotations,
    }),
  );
}

/** The bytes of an index that Orca makes, as encodeManifest does it. */
export function encodeIndex(index: ImageIndex): Uint8Array {
  return Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: index.mediaType,
      artifactType: index.artifactType,
      manifests: index.manifests.map(orderedDescriptor),
      subject: index.subject && orderedDescriptor(index.subject),
      annotations: index.annotations,
    }),
  );
}

function orderedDescriptor({
  mediaType,
  digest,
  size,
  annotations,
  artifactType,
  platform,
}: Descriptor): object {
  return { mediaType, digest, size, annotations, artifactType, platform };
}
