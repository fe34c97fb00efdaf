/** Images as the state file has them, and back from the documents in the cache, without asking anybody. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename } from 'node:path';
import type { BlockCache } from '../cache/block-cache.js';
import { BlockDigests } from '../layer/block-digests.js';
import { digestOf } from '../oci/digest.js';
import type { ImageConfig } from '../oci/image-config.js';
import type { RemoteImage, RemoteLayer } from '../source/image-assembly.js';
import { DaemonError } from './daemon-error.js';
import type { BlobRecord, ImageRecord } from './state-file.js';

export async function recordImage(image: RemoteImage): Promise<ImageRecord> {
  return {
    name: image.name,
    manifestDigest: image.manifestDigest,
    config: image.config.process,
    index: { digest: `sha256:${basename(image.indexPath)}`, size: (await stat(image.indexPath)).size },
    devices: image.devices.map(({ digests }) => {
      const encoded = digests.encode();
      return { digest: digestOf(encoded), size: encoded.length };
    }),
  };
}

/** Reads images of records, each document once however many images have it. */
export class ImageRecords {
  readonly #cache: BlockCache;
  readonly #layers = new Map<string, Promise<RemoteLayer>>();
  readonly #indexes = new Map<string, Promise<string>>();

  constructor(cache: BlockCache) {
    this.#cache = cache;
  }

  /** Every document is verified. Throws DaemonError STATE for one that the cache has lost. */
  async read({ name, manifestDigest, config, index, devices }: ImageRecord): Promise<RemoteImage> {
    const [indexPath, ...layers] = await Promise.all([
      once(this.#indexes, index.digest, () => this.#index(index)),
      ...devices.map((device) => once(this.#layers, device.digest, () => this.#layer(device))),
    ]);
    const diffIDs = layers.map(({ diffID }) => diffID);
    // Nothing of an adopted mount asks for more of the config than this.
    const known: ImageConfig = { process: config, diffIDs } as ImageConfig;
    return { name, manifestDigest, config: known, indexPath, devices: layers };
  }

  async #layer(record: BlobRecord): Promise<RemoteLayer> {
    const bytes = await this.#cache.blobs.read(record, 'block digests');
    if (bytes === undefined) throw lost('block digests', record.digest);
    const digests = BlockDigests.decode(bytes);
    return { diffID: digests.diffID, size: digests.size, digests };
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
