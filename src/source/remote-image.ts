/**
 * All that a mount needs to know of an image before its first read, from a store that may be far away: three round
 * trips by name (catalog; manifests; the blobs they list), none by digest once it has been loaded on this host.
 *
 * Every blob is verified by size and digest, whether it comes from the source or from CACHE/blobs.
 */
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bytesReader, ErofsImage } from '../erofs/reader.js';
import { type LayerDigests, parseTeleportArtifact } from '../image/artifact.js';
import {
  blobPath,
  checkMarker,
  diffIDHex,
  emptyCatalog,
  INDEX_PATH,
  MARKER_PATH,
  MAX_INDEX_BYTES,
  MAX_MARKER_BYTES,
  parseCatalog,
  resolveName,
  teleportOf,
  withImage,
} from '../image/catalog.js';
import { ImageError } from '../image/image-error.js';
import { BlockDigests } from '../layer/block-digests.js';
import { isDigest, parseDigest, verifyBytes } from '../oci/digest.js';
import { type ImageConfig, parseImageConfig } from '../oci/image-config.js';
import { type Descriptor, encodeIndex, MAX_MANIFEST_BYTES, parseManifest } from '../oci/manifest.js';
import { BlobCache } from './blob-cache.js';
import { type Source, SourceError } from './source.js';

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
}

/**
 * Loads an image by name or digest. Throws ImageError NOT_FOUND (naming images that are there), NOT_EXPANDED,
 * INVALID_STORE or INVALID_ARTIFACT, OciError, ErofsError and LayerError for documents and blobs that are malformed or do not match their
 * digest, and what the source throws.
 */
export async function loadImage(
  source: Source,
  nameOrDigest: string,
  cacheDir: string,
  signal?: AbortSignal,
): Promise<RemoteImage> {
  await mkdir(join(cacheDir, 'blobs', 'sha256'), { recursive: true, mode: 0o700 });
  await mkdir(join(cacheDir, 'images'), { recursive: true, mode: 0o700 });
  return new Loader(source, nameOrDigest, cacheDir, signal).load();
}

/** The two descriptors that the catalog has of an image. */
interface Found {
  manifest: Descriptor;
  artifact: Descriptor;
}

class Loader {
  readonly #source: Source;
  readonly #name: string;
  readonly #cacheDir: string;
  readonly #blobs: BlobCache;
  readonly #signal: AbortSignal | undefined;

  constructor(source: Source, name: string, cacheDir: string, signal: AbortSignal | undefined) {
    this.#source = source;
    this.#name = name;
    this.#cacheDir = cacheDir;
    this.#blobs = new BlobCache(cacheDir);
    this.#signal = signal;
  }

  async load(): Promise<RemoteImage> {
    const known = await this.#remembered();
    if (known !== undefined) {
      try {
        return await this.#load(known);
      } catch (error) {
        // The store may have another artifact by now; only the catalog can tell.
        if (error instanceof SourceError && error.retryable) throw error;
      }
    }
    const found = await this.#lookUp();
    const image = await this.#load(found);
    await this.#remember(found);
    return image;
  }

  async #load(found: Found): Promise<RemoteImage> {
    const [manifestBytes, artifactBytes] = await Promise.all([
      this.#blob(found.manifest, 'manifest', MAX_MANIFEST_BYTES),
      this.#blob(found.artifact, 'teleport artifact', MAX_MANIFEST_BYTES),
    ]);
    const what = `teleport artifact of ${this.#name}`;
    const manifest = parseManifest(manifestBytes, `manifest of ${this.#name}`);
    const artifact = parseTeleportArtifact(artifactBytes, what);
    if (artifact.subject.digest !== found.manifest.digest) {
      throw new ImageError(
        'INVALID_ARTIFACT',
        `${what} belongs to ${artifact.subject.digest}: expand the image again`,
      );
    }
    const [configBytes, indexBytes, ...devices] = await Promise.all([
      this.#blob(manifest.config, 'image config', MAX_MANIFEST_BYTES),
      this.#blob(artifact.imageIndex, 'image index', artifact.imageIndex.size),
      ...artifact.digests.map((layer) => this.#device(layer)),
    ]);
    const config = parseImageConfig(configBytes, `config of ${this.#name}`);
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
    return {
      manifestDigest: found.manifest.digest,
      name: this.#name,
      config,
      indexPath: this.#blobs.path(artifact.imageIndex.digest),
      devices,
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

  async #lookUp(): Promise<Found> {
    const [marker, catalog] = await Promise.all([
      this.#optionalFile(MARKER_PATH, MAX_MARKER_BYTES),
      this.#optionalFile(INDEX_PATH, MAX_INDEX_BYTES),
    ]);
    const { location } = this.#source;
    if (marker === undefined) {
      throw new ImageError(
        'INVALID_STORE',
        `${location} is not an Orca store (it has no ${MARKER_PATH}): check --store, or make one with orca expand`,
      );
    }
    checkMarker(marker, location);
    const index = catalog === undefined ? emptyCatalog() : parseCatalog(catalog);
    const manifest = resolveName(index, this.#name);
    return { manifest, artifact: teleportOf(index, manifest.digest) };
  }

  async #optionalFile(path: string, maxBytes: number): Promise<Uint8Array | undefined> {
    try {
      return await this.#source.readFile(path, maxBytes, this.#signal);
    } catch (error) {
      if (error instanceof SourceError && error.code === 'NOT_FOUND') return undefined;
      throw error;
    }
  }

  async #blob(descriptor: Descriptor, kind: string, maxBytes: number): Promise<Uint8Array> {
    const { digest, size } = descriptor;
    const what = `${kind} of ${this.#name}`;
    if (size > maxBytes)
      throw new ImageError('TOO_LARGE', `${what} has ${size} bytes, more than ${maxBytes}`);
    // Of what is kept here only sha256 names are made.
    const kept = parseDigest(digest).algorithm === 'sha256';
    const cached = kept ? await this.#blobs.read(descriptor, what) : undefined;
    if (cached !== undefined) return cached;
    let bytes: Uint8Array;
    try {
      bytes = await this.#source.readFile(blobPath(digest), size, this.#signal);
    } catch (cause) {
      if (!(cause instanceof SourceError) || cause.code !== 'NOT_FOUND') throw cause;
      const message = `store ${this.#source.location} lacks the ${what} (${digest}): expand the image again`;
      throw new ImageError('INVALID_STORE', message, { cause });
    }
    verifyBytes(bytes, descriptor, what);
    if (kept) await this.#blobs.write(digest, bytes);
    return bytes;
  }

  /** What an earlier load of the same digest found in the catalog. */
  async #remembered(): Promise<Found | undefined> {
    const digest = this.#name.slice(this.#name.indexOf('@') + 1);
    if (!isDigest(digest)) return undefined;
    try {
      const catalog = parseCatalog(await readFile(this.#memoryPath(digest)));
      return { manifest: resolveName(catalog, digest), artifact: teleportOf(catalog, digest) };
    } catch {
      return undefined;
    }
  }

  /** Keeps the entries of the catalog. Without them the next load asks the store, so failure is no error. */
  async #remember({ manifest, artifact }: Found): Promise<void> {
    const path = this.#memoryPath(manifest.digest);
    const temporary = `${path}.${process.pid}`;
    try {
      await writeFile(temporary, encodeIndex(withImage(emptyCatalog(), manifest, artifact, undefined)));
      await rename(temporary, path);
    } catch {
      await rm(temporary, { force: true }).catch(() => undefined);
    }
  }

  #memoryPath(manifestDigest: string): string {
    return join(this.#cacheDir, 'images', `${parseDigest(manifestDigest).hex}.json`);
  }
}
