/**
 * All that a mount needs to know of an image before its first read, from a store that may be far away: three round
 * trips by name (catalog; manifests; the blobs they list), none by digest once it has been loaded on this host.
 *
 * Every blob is verified by size and digest, whether it comes from the source or from CACHE/blobs.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import {
  blobPath,
  checkMarker,
  emptyCatalog,
  INDEX_PATH,
  MARKER_PATH,
  MAX_INDEX_BYTES,
  MAX_MARKER_BYTES,
  parseCatalog,
  profilePath,
  resolveName,
  teleportOf,
  withImage,
} from '../image/catalog.js';
import { ImageError } from '../image/image-error.js';
import { isDigest, parseDigest } from '../oci/digest.js';
import { replaceFile } from '../oci/durable-file.js';
import { type Descriptor, encodeIndex } from '../oci/manifest.js';
import { assembleImage, type ImagesInUse, type RemoteImage } from './image-assembly.js';
import { type Source, SourceError } from './source.js';

export type { LayerFront, RemoteImage, RemoteLayer } from './image-assembly.js';

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
  inUse?: ImagesInUse,
): Promise<RemoteImage> {
  await mkdir(join(cacheDir, 'images'), { recursive: true, mode: 0o700 });
  return new Loader(source, nameOrDigest, cacheDir, signal, inUse).load();
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
  readonly #signal: AbortSignal | undefined;
  readonly #inUse: ImagesInUse | undefined;

  constructor(
    source: Source,
    name: string,
    cacheDir: string,
    signal: AbortSignal | undefined,
    inUse: ImagesInUse | undefined,
  ) {
    this.#source = source;
    this.#name = name;
    this.#cacheDir = cacheDir;
    this.#signal = signal;
    this.#inUse = inUse;
  }

  async load(): Promise<RemoteImage> {
    const image = await this.#find();
    const path = profilePath(image.manifestDigest);
    return { ...image, publishedProfile: (maxBytes, signal) => this.#optionalFile(path, maxBytes, signal) };
  }

  async #find(): Promise<RemoteImage> {
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

  #load(found: Found): Promise<RemoteImage> {
    return assembleImage({
      ...found,
      name: this.#name,
      cacheDir: this.#cacheDir,
      inUse: this.#inUse,
      fetch: (descriptor, what) => this.#fetch(descriptor, what),
    });
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

  async #optionalFile(
    path: string,
    maxBytes: number,
    signal = this.#signal,
  ): Promise<Uint8Array | undefined> {
    try {
      return await this.#source.readFile(path, maxBytes, signal);
    } catch (error) {
      if (error instanceof SourceError && error.code === 'NOT_FOUND') return undefined;
      throw error;
    }
  }

  async #fetch({ digest, size }: Descriptor, what: string): Promise<Uint8Array> {
    try {
      return await this.#source.readFile(blobPath(digest), size, this.#signal);
    } catch (cause) {
      if (!(cause instanceof SourceError) || cause.code !== 'NOT_FOUND') throw cause;
      const message = `store ${this.#source.location} lacks the ${what} (${digest}): expand the image again`;
      throw new ImageError('INVALID_STORE', message, { cause });
    }
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
    const catalog = encodeIndex(withImage(emptyCatalog(), manifest, artifact, undefined));
    await replaceFile(path, catalog, 0o644).catch(() => undefined);
  }

  #memoryPath(manifestDigest: string): string {
    return join(this.#cacheDir, 'images', `${parseDigest(manifestDigest).hex}.json`);
  }
}
