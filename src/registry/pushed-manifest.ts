/** What a registry must know of a manifest before it stores it: its type, and what has to be there already. */
import { type DigestAlgorithm, digestOf, printable } from '../oci/digest.js';
import {
  type Descriptor,
  isIndexType,
  isManifestType,
  MEDIA_TYPE,
  parseIndex,
  parseManifest,
} from '../oci/manifest.js';
import { OciError } from '../oci/oci-error.js';
import type { PutManifest } from './repository.js';

export interface PushedManifest extends PutManifest {
  /** Digests of the blobs that the repository must have. */
  blobs: readonly string[];
  /** Digests of the manifests that it must have. */
  manifests: readonly string[];
  /** Digests of everything that it names. */
  all: readonly string[];
}

/** Layers that a registry may refuse to hold (image-spec, "Non-Distributable Layers"; Docker's foreign layers). */
const ELSEWHERE = /\.(?:nondistributable|foreign)\./;

/**
 * Decodes a manifest that is pushed with this Content-Type (undefined or empty: what the document says). Throws
 * OciError INVALID_MANIFEST, INVALID_INDEX, UNSUPPORTED, TOO_LARGE.
 */
export function parsePushedManifest(
  bytes: Uint8Array,
  contentType: string | undefined,
  algorithm: DigestAlgorithm = 'sha256',
): PushedManifest {
  const declared = contentType?.split(';')[0]?.trim().toLowerCase();
  const mediaType = declared || (statedType(bytes) ?? MEDIA_TYPE.manifest);
  const digest = digestOf(bytes, algorithm);
  const common = { digest, bytes, mediaType, size: bytes.length };
  if (isManifestType(mediaType)) {
    const manifest = parseManifest(bytes);
    checkType(manifest.mediaType, mediaType, statedType(bytes));
    const artifactType = manifest.artifactType ?? manifest.config.mediaType;
    return {
      ...common,
      ...references(manifest.subject, manifest.annotations),
      artifactType,
      blobs: present([manifest.config, ...manifest.layers]),
      manifests: [],
      all: [manifest.config, ...manifest.layers].map((descriptor) => descriptor.digest),
    };
  }
  if (isIndexType(mediaType)) {
    const index = parseIndex(bytes);
    checkType(index.mediaType, mediaType, statedType(bytes));
    return {
      ...common,
      ...references(index.subject, index.annotations),
      ...(index.artifactType === undefined ? {} : { artifactType: index.artifactType }),
      blobs: [],
      manifests: present(index.manifests),
      all: index.manifests.map((descriptor) => descriptor.digest),
    };
  }
  throw new OciError('UNSUPPORTED', `manifest: media type ${printable(mediaType)} is not supported`);
}

function references(
  subject: Descriptor | undefined,
  annotations: Record<string, string> | undefined,
): Pick<PutManifest, 'subject' | 'annotations'> {
  return {
    ...(subject === undefined ? {} : { subject: subject.digest }),
    ...(annotations === undefined ? {} : { annotations }),
  };
}

function present(descriptors: readonly Descriptor[]): string[] {
  const needed = descriptors.filter(({ mediaType }) => !ELSEWHERE.test(mediaType));
  return [...new Set(needed.map(({ digest }) => digest))];
}

/** A document whose mediaType is not that of its Content-Type means different things to different clients. */
function checkType(parsed: string, declared: string, stated: string | undefined): void {
  if (stated === undefined || parsed === declared) return;
  throw new OciError(
    'INVALID_MANIFEST',
    `manifest: mediaType is ${printable(parsed)}, the Content-Type ${printable(declared)}`,
  );
}

function statedType(bytes: Uint8Array): string | undefined {
  try {
    const { mediaType } = JSON.parse(Buffer.from(bytes).toString()) as { mediaType?: unknown };
    return typeof mediaType === 'string' && mediaType !== '' ? mediaType : undefined;
  } catch {
    return undefined;
  }
}
