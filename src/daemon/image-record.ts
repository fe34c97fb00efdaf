/** Images as the state file has them, and back from the documents in the cache, without asking anybody. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import type { BlockCache } from '../cache/block-cache.js';
import { decodeDigestSet, digestBlobs } from '../image/digest-set.js';
import type { BlockDigests } from '../layer/block-digests.js';
import type { ImageConfig } from '../oci/image-config.js';
import type { BlobCache } from '../source/blob-cache.js';
import type { RemoteImage } from '../source/image-assembly.js';
import { DaemonError } from './daemon-error.js';
import type { BlobRecord, ImageRecord } from './state-file.js';

export async function recordImage(image: RemoteImage): Promise<ImageRecord> {
  return {
    name: image.name,
    manifestDigest: image.manifestDigest,
    config: image.config.process,
    index: { digest: `sha256:${basename(image.indexPath)}`, size: (await stat(image.indexPath)).size },
    devices: image.devices.map(({ digests }) => ({ digest: digests.name, size: digests.encodedSize })),
    ...(image.digestSet && { digestSet: image.digestSet }),
  };
}

/** What a cache can give now of the documents of images, by digest. */
export async function readDocuments(
  images: readonly ImageRecord[],
  from: BlobCache,
): Promise<Map<string, Uint8Array>> {
  const documents = images.flatMap(({ index, devices, digestSet }) => [
    index,
    ...digestBlobs(devices, digestSet).map(({ blob }) => blob),
  ]);
  const found = new Map<string, Uint8Array>();
  for (const document of documents) {
    const bytes = found.has(document.digest) ? undefined : await from.read(document, 'document of a mount');
    if (bytes !== undefined) found.set(document.digest, bytes);
  }
  return found;
}

/** Reads images of records, each document once however many images have it. */
export class ImageRecords {
  readonly #cache: BlockCache;
  readonly #layers = new Map<string, Promise<BlockDigests[]>>();
  readonly #indexes = new Map<string, Promise<string>>();

  constructor(cache: BlockCache) {
    this.#cache = cache;
  }

  /** Every document is verified. Throws DaemonError STATE for one that the cache has lost. */
  async read({ name, manifestDigest, config, index, devices, digestSet }: ImageRecord): Promise<RemoteImage> {
    const [indexPath, ...found] = await Promise.all([
      once(this.#indexes, index.digest, () => this.#index(index)),
      ...digestBlobs(devices, digestSet).map(({ blob, documents }) =>
        once(this.#layers, blob.digest, () => this.#digests(blob, documents)),
      ),
    ]);
    const layers = found.flat().map((digests) => ({ diffID: digests.diffID, size: digests.size, digests }));
    const diffIDs = layers.map(({ diffID }) => diffID);
    // Nothing of an adopted mount asks for more of the config than this.
    const known: ImageConfig = { process: config, diffIDs } as ImageConfig;
    return { name, manifestDigest, config: known, indexPath, devices: layers, digestSet };
  }

  /** The block digests that a blob consists of. */
  async #digests(blob: BlobRecord, documents: readonly BlobRecord[]): Promise<BlockDigests[]> {
    const bytes = await this.#cache.blobs.read(blob, 'block digests');
    if (bytes === undefined) throw lost('block digests', blob.digest);
    return decodeDigestSet(bytes, documents);
  }

  async #index({ digest, size }: BlobRecord): Promise<string> {
    const path = this.#cache.blobs.path(digest);
    const there = await stat(path).catch(() => undefined);
    if (there?.size !== size || (await sha256Of(path)) !== digest) throw lost('image index', digest);
    return path;
  }
}

function once<T>(known: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  const promise = known.get(key) ?? make();
  known.set(key, promise);
  return promise;
}

async function sha256Of(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return `sha256:${hash.digest('hex')}`;
}

function lost(what: string, digest: string): DaemonError {
  return new DaemonError('STATE', `the cache has lost the ${what} ${digest}`, { retryable: true });
}
