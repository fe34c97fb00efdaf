/**
 * An image put together from its manifest, its teleport artifact and the blobs that these list, wherever they come
 * from: a store by its catalog, or a registry by its mount API.
 *
 * Every blob is verified by size and digest, whether it is fetched or lies in CACHE/blobs.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { bytesReader, ErofsImage } from '../erofs/reader.js';
import { type LayerDigests, parseTeleportArtifact, type TeleportArtifact } from '../image/artifact.js';
import { diffIDHex } from '../image/catalog.js';
import { ImageError } from '../image/image-error.js';
import { BlockDigests } from '../layer/block-digests.js';
import { parseDigest, verifyBytes } from '../oci/digest.js';
import { type ImageConfig, parseImageConfig } from '../oci/image-config.js';
import { type Descriptor, MAX_MANIFEST_BYTES, type Manifest, parseManifest } from '../oci/manifest.js';
import { BlobCache } from './blob-cache.js';
import type { BlobLayer } from './blob-source.js';

export interface RemoteLayer {
  diffID: string;
  /** Bytes of the layer VHD, footer included. */
  size: number;
  digests: BlockDigests;
}

export interface RemoteImage {
  manifestDigest: string;
  /** What it was asked for by. */
  name: string;
  config: ImageConfig;
  /** The image index, a file in the cache. */
  indexPath: string;
  /** In the order of the image index's device table. */
  devices: RemoteLayer[];
  /** Digests of what else of the image is kept in the cache: manifest, teleport artifact, config, layer documents. */
  documents?: string[];
  /** Puts the image index back where it was, if it has been evicted since. Throws what loading throws. */
  restoreIndex?(): Promise<void>;
  /** The startup profile that was published, if there is one: at most `maxBytes`, unverified. Throws what reading throws. */
  publishedProfile?(maxBytes: number, signal?: AbortSignal): Promise<Uint8Array | undefined>;
  /** Publishes one, where that is possible. Throws what writing throws. */
  publishProfile?(encoded: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** The layers as compressed blobs, for BlobSource; in the order of the manifest, each diffID once. */
  blobs?: BlobLayer[];
}

export interface AssemblyOptions {
  /** For messages: what the image was asked for by. */
  name: string;
  manifest: Descriptor;
  /** Of the teleport artifact. */
  artifact: Descriptor;
  /** Gets a blob or manifest of descriptor.size bytes, which is verified here. `what` names it. */
  fetch(descriptor: Descriptor, what: string): Promise<Uint8Array>;
  cacheDir: string;
}

/**
 * Throws ImageError INVALID_ARTIFACT or TOO_LARGE, OciError, ErofsError and LayerError for documents and blobs that
 * are malformed or do not match their digest, SourceError CACHE_UNWRITABLE, and what `fetch` throws.
 */
export async function assembleImage(options: AssemblyOptions): Promise<RemoteImage> {
  await mkdir(join(options.cacheDir, 'blobs', 'sha256'), { recursive: true, mode: 0o700 });
  return new Assembly(options).image();
}

class Assembly {
  readonly #options: AssemblyOptions;
  readonly #blobs: BlobCache;

  constructor(options: AssemblyOptions) {
    this.#options = options;
    this.#blobs = new BlobCache(options.cacheDir);
  }

  async image(): Promise<RemoteImage> {
    const { name, ...found } = this.#options;
    const [manifestBytes, artifactBytes] = await allEnded([
      this.#blob(found.manifest, 'manifest', MAX_MANIFEST_BYTES),
      this.#blob(found.artifact, 'teleport artifact', MAX_MANIFEST_BYTES),
    ]);
    const what = `teleport artifact of ${name}`;
    const manifest = parseManifest(manifestBytes, `manifest of ${name}`);
    const artifact = parseTeleportArtifact(artifactBytes, what);
    if (artifact.subject.digest !== found.manifest.digest) {
      throw new ImageError(
        'INVALID_ARTIFACT',
        `${what} belongs to ${artifact.subject.digest}: expand the image again`,
      );
    }
    const [configBytes, indexBytes, ...devices] = await allEnded([
      this.#blob(manifest.config, 'image config', MAX_MANIFEST_BYTES),
      this.#blob(artifact.imageIndex, 'image index', artifact.imageIndex.size),
      ...artifact.digests.map((layer) => this.#device(layer)),
    ]);
    const config = parseImageConfig(configBytes, `config of ${name}`);
    // The session takes devices by their place alone; what stands there must be the layer that is meant.
    const mapped = ErofsImage.open(bytesReader(indexBytes), indexBytes.length).devices.map(({ tag }) => tag);
    const diffIDs = devices.map((device) => device.diffID);
    if (
      mapped.join() !== diffIDs.map(diffIDHex).join() ||
      diffIDs.join() !== [...new Set(config.diffIDs)].join()
    ) {
      throw new ImageError(
        'INVALID_ARTIFACT',
        `${what} has other layers than the image: expand the image again`,
      );
    }
    const blobs = blobLayers(manifest, config, artifact);
    const layerDocuments = blobs.flatMap(({ recipe, checkpoints }) =>
      [recipe ?? [], checkpoints ?? []].flat(),
    );
    const documents = [found.manifest, found.artifact, manifest.config, ...layerDocuments];
    return {
      manifestDigest: found.manifest.digest,
      name,
      config,
      indexPath: this.#blobs.path(artifact.imageIndex.digest),
      devices,
      blobs,
      documents: [...new Set(documents.map(({ digest }) => digest))],
      restoreIndex: async () => {
        await this.#blob(artifact.imageIndex, 'image index', artifact.imageIndex.size);
      },
    };
  }

  async #device({ diffID, descriptor }: LayerDigests): Promise<RemoteLayer> {
    const digests = BlockDigests.decode(await this.#blob(descriptor, 'block digests', descriptor.size));
    if (digests.diffID !== diffID) {
      throw new ImageError(
        'INVALID_ARTIFACT',
        `block digests of layer ${diffID} are those of ${digests.diffID}: expand the image again`,
      );
    }
    return { diffID, size: digests.size, digests };
  }

  async #blob(descriptor: Descriptor, kind: string, maxBytes: number): Promise<Uint8Array> {
    const { digest, size } = descriptor;
    const what = `${kind} of ${this.#options.name}`;
    if (size > maxBytes)
      throw new ImageError('TOO_LARGE', `${what} has ${size} bytes, more than ${maxBytes}`);
    // Of what is kept here only sha256 names are made.
    const kept = parseDigest(digest).algorithm === 'sha256';
    const cached = kept ? await this.#blobs.read(descriptor, what) : undefined;
    if (cached !== undefined) return cached;
    const bytes = await this.#options.fetch(descriptor, what);
    verifyBytes(bytes, descriptor, what);
    if (kept) await this.#blobs.write(digest, bytes);
    return bytes;
  }
}

/** Which blob each layer is, and what the artifact has for reading it. Empty where the two lists do not match. */
function blobLayers(
  { layers }: Manifest,
  { diffIDs }: ImageConfig,
  { recipes = [], checkpoints = [] }: TeleportArtifact,
): BlobLayer[] {
  if (layers.length !== diffIDs.length) return [];
  const found = new Map<string, BlobLayer>();
  for (const [index, diffID] of diffIDs.entries()) {
    const blob = layers[index] as Descriptor;
    const known = checkpoints.find((document) => document.blob === blob.digest)?.descriptor;
    if (found.has(diffID) && known === undefined) continue;
    const recipe = recipes.find((document) => document.diffID === diffID)?.descriptor;
    found.set(diffID, { diffID, blob, recipe, checkpoints: known });
  }
  return [...found.values()];
}

/** Promise.all that rejects only when nothing is under way any more, so that no file is written after a failure. */
async function allEnded<T extends readonly unknown[]>(
  promises: readonly [...{ [K in keyof T]: Promise<T[K]> }],
): Promise<T> {
  await Promise.allSettled(promises);
  return (await Promise.all(promises)) as unknown as T;
}
