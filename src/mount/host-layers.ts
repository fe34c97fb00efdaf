/**
 * Layers that this host expands itself, each once whoever wants it, in whatever process: the layer VHD goes into the
 * block cache, and what is needed to read it again from its blob into CACHE/blobs. CACHE/expanded has one record per
 * layer (by diffID) of where that is.
 */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { adoptLayer } from '../cache/adopted-layer.js';
import type { BlockCache } from '../cache/block-cache.js';
import { BLOCK_DIGESTS_TYPE, CHECKPOINTS_TYPE, LAYER_RECIPE_TYPE } from '../image/artifact.js';
import { diffIDHex } from '../image/catalog.js';
import { WorkArea } from '../image/work-area.js';
import { expandInThread } from '../layer/layer-threads.js';
import { writeDurably } from '../oci/durable-file.js';
import { JsonObject } from '../oci/json-object.js';
import { type Descriptor, decodeDescriptor } from '../oci/manifest.js';
import type { Repository } from '../oci/repository.js';
import { MountError } from './mount-error.js';

/** What a host has of a layer besides its blocks, all of it in CACHE/blobs. */
export interface HostLayer {
  diffID: string;
  /** The compressed layer. */
  blob: Descriptor;
  digests: Descriptor;
  recipe: Descriptor;
  /** Or a chunk map, of a layer that is read by its table of contents. */
  checkpoints: Descriptor;
  /** Of a layer that is read by its table of contents: bytes of the VHD that a container is to want first. */
  front?: number;
}

export interface HostProgress {
  diffID: string;
  /** Bytes of the blob that have been read, of `total`. */
  bytesIn: number;
  total: number;
}

const VERSION = 1;
const MAX_RECORD_BYTES = 16 << 10;
const DOCUMENTS = ['blob', 'digests', 'recipe', 'checkpoints'] as const;

export class HostLayers {
  readonly #cache: BlockCache;
  readonly #directory: string;
  readonly #work: WorkArea;

  private constructor(cache: BlockCache) {
    this.#cache = cache;
    this.#directory = join(cache.directory, 'expanded');
    this.#work = new WorkArea(this.#directory);
  }

  static async open(cache: BlockCache): Promise<HostLayers> {
    const layers = new HostLayers(cache);
    for (const folder of ['locks', 'tmp']) {
      await mkdir(join(layers.#directory, folder), { recursive: true, mode: 0o700 });
    }
    await layers.#work.removeLitter();
    return layers;
  }

  /** Expands a layer, unless the host has it or has had it. Throws what the repository and expandLayer throw. */
  async expand(
    repository: Repository,
    layer: { diffID: string; blob: Descriptor },
    signal: AbortSignal | undefined,
    onProgress: ((progress: HostProgress) => void) | undefined,
  ): Promise<HostLayer> {
    const { diffID, blob } = layer;
    return this.once(diffIDHex(diffID), diffID, signal, async (work) => {
      const output = join(work, 'layer.vhd');
      const { digests, recipe, checkpoints } = await expandInThread({
        output,
        diffID,
        // Another digest is the reason for whatever is wrong with the bytes.
        blobDigest: blob.digest.startsWith('sha256:') ? blob.digest : undefined,
        open: (either) => repository.blob(blob, 'layer').stream(either),
        signal,
        onProgress: (bytesIn) => onProgress?.({ diffID, bytesIn, total: blob.size }),
      });
      if (recipe === undefined || checkpoints === undefined) {
        throw new MountError('TOO_LARGE', `layer ${diffID} has more files than this host can expand`);
      }
      const { blobs } = this.#cache;
      const found: HostLayer = {
        diffID,
        blob,
        digests: await blobs.keep(BLOCK_DIGESTS_TYPE, digests.encode()),
        recipe: await blobs.keep(LAYER_RECIPE_TYPE, recipe),
        checkpoints: await blobs.keep(CHECKPOINTS_TYPE, checkpoints),
      };
      await adoptLayer(this.#cache, digests, output);
      return found;
    });
  }

  /**
   * What is recorded under a key of 64 hex digits, made and recorded first if nothing is. `make` may use the directory
   * `work`. Nobody else makes it at the same time.
   */
  async once(
    key: string,
    diffID: string,
    signal: AbortSignal | undefined,
    make: (work: string) => Promise<HostLayer>,
  ): Promise<HostLayer> {
    const known = await this.#known(key, diffID);
    if (known !== undefined) return known;
    return this.#work.holding(key, signal, async (work) => {
      const meanwhile = await this.#known(key, diffID);
      if (meanwhile !== undefined) return meanwhile;
      const found = await make(work);
      await this.#write(key, found, work);
      return found;
    });
  }

  #path(key: string): string {
    return join(this.#directory, `${key}.json`);
  }

  async #write(key: string, { diffID: _, ...documents }: HostLayer, work: string): Promise<void> {
    const record = { version: VERSION, ...documents };
    await writeDurably(this.#path(key), Buffer.from(`${JSON.stringify(record)}\n`), work);
  }

  /** undefined when it was never made here, or one of its documents is gone or spoilt. */
  async #known(key: string, diffID: string): Promise<HostLayer | undefined> {
    try {
      const path = this.#path(key);
      const json = JsonObject.parse(await readFile(path), MAX_RECORD_BYTES, 'PROTOCOL', path);
      if (json.size('version') !== VERSION) return undefined;
      const [blob, digests, recipe, checkpoints] = DOCUMENTS.map((name) => {
        const object = json.object(name);
        if (object === undefined) throw json.error(name, 'is missing');
        return decodeDescriptor(object);
      }) as [Descriptor, Descriptor, Descriptor, Descriptor];
      for (const document of [digests, recipe, checkpoints]) {
        if ((await this.#cache.blobs.read(document, 'layer document')) === undefined) return undefined;
      }
      const front = json.has('front') ? { front: json.size('front') } : {};
      return { diffID, blob, digests, recipe, checkpoints, ...front };
    } catch {
      return undefined;
    }
  }
}
