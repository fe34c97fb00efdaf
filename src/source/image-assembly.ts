/**
 * An image put together from its manifest, its teleport artifact and the blobs that these list, wherever they come
 * from: a store by its catalog, or a registry by its mount API.
 *
 * Every blob is verified by size and digest, whether it is fetched or lies in CACHE/blobs.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { bytesReader, ErofsImage } from '../erofs/reader.js';
import { parseTeleportArtifact, type TeleportArtifact } from '../image/artifact.js';
import { diffIDHex } from '../image/catalog.js';
import { decodeDigestSet, digestBlobs } from '../image/digest-set.js';
import { ImageError } from '../image/image-error.js';
import { BlockDigests } from '../layer/block-digests.js';
import { type Expected, parseDigest, verifyBytes } from '../oci/digest.js';
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

export interface LayerFront {
  diffID: string;
  bytes: number;
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
  /** The blob in the cache that has the block digests of the devices, if they are in one. */
  digestSet?: Expected | undefined;
  /** Digests of what else of the image is kept in the cache: manifest, teleport artifact, config, layer documents. */
  documents?: string[];
  /** Puts the image index back where it was, if it has been evicted since. Throws what loading throws. */
  restoreIndex?(): Promise<void>;
  /** The startup profile that was published, if there is one: at most `maxBytes`, unverified. Throws what reading throws. */
  publishedProfile?(maxBytes: number, signal?: AbortSignal): Promise<Uint8Array | undefined>;
  /** Likewise that of the image of the same repository that was published last, where there is none of this image. */
  earlierProfile?(maxBytes: number, signal?: AbortSignal): Promise<Uint8Array | undefined>;
  /** Publishes one, where that is possible. Throws what writing throws. */
  publishProfile?(encoded: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** What containers are to want first, by those who made the image, where no startup profile says it: fronts of layer VHDs. */
  fronts?: readonly LayerFront[];
  /** The layers as compressed blobs, for BlobSource; in the order of the manifest, each diffID once. */
  blobs?: BlobLayer[];
}

/** The image of these two digests, as somebody in this process put it together who keeps its documents in the cache. */
export type ImagesInUse = (manifestDigest: string, artifactDigest: string) => RemoteImage | undefined;

export interface AssemblyOptions {
  /** For messages: what the image was asked for by. */
  name: string;
  manifest: Descriptor;
  /** Of the teleport artifact. */
  artifact: Descriptor;
  /** Gets a blob or manifest of descriptor.size bytes, which is verified here. `what` names it. */
  fetch(descriptor: Descriptor, what: string): Promise<Uint8Array>;
  cacheDir: string;
  /** What is found here is not put together again. */
  inUse?: ImagesInUse | undefined;
}

/**
 * Throws ImageError INVALID_ARTIFACT or TOO_LARGE, OciError, ErofsError and LayerError for documents and blobs that
 * are malformed or do not match their digest, SourceError CACHE_UNWRITABLE, and what `fetch` throws.
 */
export async function assembleImage({ inUse, ...options }: AssemblyOptions): Promise<RemoteImage> {
  const known = inUse?.(options.manifest.digest, options.artifact.digest);
  if (known !== undefined) {
    // Who publishes its profile is a matter of where it was looked for this time.
    const { publishedProfile: _, earlierProfile: __, publishProfile: ___, ...image } = known;
    return { ...image, name: options.name, restoreIndex: async () => void (await assembleImage(options)) };
  }
  await mkdir(join(options.cacheDir, 'blobs', 'sha256'), { recursive: true, mode: 0o700 });
  const assembly = new Assembly(options);
  const image = await assembly.image().finally(() => assembly.settled());
  await assembly.written();
  return image;
}

class Assembly {
  readonly #options: AssemblyOptions;
  readonly #blobs: BlobCache;
  /** Nobody waits for the disk before the next blob is asked for. */
  readonly #writing: Promise<void>[] = [];

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
    const [configBytes, indexBytes, digests] = await allEnded([
      this.#blob(manifest.config, 'image config', MAX_MANIFEST_BYTES),
      this.#index(artifact),
      this.#digests(artifact),
    ]);
    const config = parseImageConfig(configBytes, `config of ${name}`);
    // The session takes devices by their place alone; what stands there must be the layer that is meant.
    const mapped = ErofsImage.open(bytesReader(indexBytes), indexBytes.length).devices.map(({ tag }) => tag);
    const diffIDs = digests.map(({ diffID }) => diffID);
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
    const { digestSet } = artifact;
    const documents = [
      found.manifest,
      found.artifact,
      manifest.config,
      digestSet ?? [],
      layerDocuments,
    ].flat();
    return {
      manifestDigest: found.manifest.digest,
      name,
      config,
      indexPath: this.#blobs.path(artifact.imageIndex.digest),
      devices: digests.map((device) => ({ diffID: device.diffID, size: device.size, digests: device })),
      digestSet: digestSet && { digest: digestSet.digest, size: digestSet.size },
      blobs,
      documents: [...new Set(documents.map(({ digest }) => digest))],
      restoreIndex: async () => {
        await this.#index(artifact);
        await this.written();
      },
    };
  }

  /** Resolves when all that was fetched is in the cache. Throws SourceError CACHE_UNWRITABLE. */
  async written(): Promise<void> {
    await allEnded(this.#writing.splice(0));
  }

  async settled(): Promise<void> {
    await Promise.allSettled(this.#writing);
  }

  /** Of the devices, in their order. */
  async #digests({ digests, digestSet }: TeleportArtifact): Promise<BlockDigests[]> {
    const all = digests.map(({ descriptor }) => descriptor);
    const read = digestBlobs(all, digestSet).map(async ({ blob, documents }) =>
      decodeDigestSet(await this.#blob(blob, 'block digests', blob.size), documents),
    );
    const found = (await allEnded(read)).flat();
    for (const [index, { diffID }] of digests.entries()) {
      const actual = found[index]?.diffID;
      if (actual === diffID) continue;
      throw new ImageError(
        'INVALID_ARTIFACT',
        `block digests of layer ${diffID} are those of ${actual}: expand the image again`,
      );
    }
    return found;
  }

  #index({ imageIndex, packedIndex }: TeleportArtifact): Promise<Uint8Array> {
    const kind = 'image index';
    return this.#blob(imageIndex, kind, imageIndex.size, async (what) => {
      if (packedIndex === undefined) return this.#options.fetch(imageIndex, what);
      const bytes = await this.#options.fetch(packedIndex, what);
      verifyBytes(bytes, packedIndex, what);
      return unpacked(bytes, imageIndex.size, what);
    });
  }

  async #blob(
    descriptor: Descriptor,
    kind: string,
    maxBytes: number,
    fetch = (what: string) => this.#options.fetch(descriptor, what),
  ): Promise<Uint8Array> {
    const { digest, size } = descriptor;
    const what = `${kind} of ${this.#options.name}`;
    if (size > maxBytes)
      throw new ImageError('TOO_LARGE', `${what} has ${size} bytes, more than ${maxBytes}`);
    // Of what is kept here only sha256 names are made.
    const kept = parseDigest(digest).algorithm === 'sha256';
    const cached = kept ? await this.#blobs.read(descriptor, what) : undefined;
    if (cached !== undefined) return cached;
    const bytes = await fetch(what);
    verifyBytes(bytes, descriptor, what);
    if (kept) {
      const writing = this.#blobs.write(digest, bytes);
      writing.catch(() => undefined);
      this.#writing.push(writing);
    }
    return bytes;
  }
}

/** Bytes: nearly every image index in one step. */
const MOST_UNPACKED_AT_ONCE = 16 << 20;

/** Throws ImageError INVALID_ARTIFACT for what is no gzip, or more than `maxBytes`. */
async function unpacked(bytes: Uint8Array, maxBytes: number, what: string): Promise<Uint8Array> {
  try {
    // In few steps: after each, the thread and the event loop wait for one another.
    const chunkSize = Math.min(maxBytes, MOST_UNPACKED_AT_ONCE);
    return await promisify(gunzip)(bytes, { maxOutputLength: maxBytes, chunkSize });
  } catch (cause) {
    const reason = (cause as Error).message;
    throw new ImageError(
      'INVALID_ARTIFACT',
      `${what} cannot be unpacked (${reason}): expand the image again`,
      {
        cause,
      },
    );
  }
}

/** Which blob each layer is, and what the artifact has for reading it. Empty where the two lists do not match. */
function blobLayers(
  { layers }: Manifest,
  { diffIDs }: ImageConfig,
  { recipes = [], checkpoints = [] }: TeleportArtifact,
): BlobLayer[] {
  if (layers.length !== diffIDs.length) return [];
  const recipeOf = new Map(recipes.map(({ diffID, descriptor }) => [diffID, descriptor]));
  const checkpointsOf = new Map(checkpoints.map(({ blob, descriptor }) => [blob, descriptor]));
  const found = new Map<string, BlobLayer>();
  for (const [index, diffID] of diffIDs.entries()) {
    const blob = layers[index] as Descriptor;
    const known = checkpointsOf.get(blob.digest);
    if (found.has(diffID) && known === undefined) continue;
    found.set(diffID, { diffID, blob, recipe: recipeOf.get(diffID), checkpoints: known });
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
