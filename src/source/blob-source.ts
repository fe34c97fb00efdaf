/**
 * The source that needs no share: layer VHDs made of ranges of the ordinary compressed blobs, by the recipes and
 * checkpoints of the teleport artifact. Sequential and repeated reads do not fetch or inflate twice what is kept.
 */
import { setMaxListeners } from 'node:events';
import { type BlobCheckpoints, type LayerDigests } from '../image/artifact.js';
import { Checkpoints } from '../layer/checkpoints.js';
import { ChunkMap, isChunkMap } from '../layer/chunk-map.js';
import { LayerError } from '../layer/layer-error.js';
import { LayerRecipe } from '../layer/recipe.js';
import { verifyBytes } from '../oci/digest.js';
import type { Descriptor } from '../oci/manifest.js';
import type { Repository } from '../oci/repository.js';
import { BlobCache } from './blob-cache.js';
import { BlobTar, SegmentMemory } from './blob-tar.js';
import { ChunkedTar } from './chunked-tar.js';
import { asSource } from './registry-failure.js';
import { type LayerHandle, type Source, SourceError } from './source.js';

/** A layer as it is in its repository. */
export interface BlobLayer {
  diffID: string;
  /** The compressed layer. */
  blob: Descriptor;
  /** Without these two it cannot be read from the blob at random; a chunk map stands for checkpoints. */
  recipe: LayerDigests['descriptor'] | undefined;
  checkpoints: BlobCheckpoints['descriptor'] | undefined;
}

export interface BlobSourceOptions {
  repository: Repository;
  layers: readonly BlobLayer[];
  /** Keeps recipes and checkpoints. */
  cacheDir: string;
}

/** Tar ranges this close are read in one: what lies between is in the way of inflating anyhow. */
const JOINED_GAP = 64 << 10;

export class BlobSource implements Source {
  readonly kind = 'blob';
  readonly location: string;
  /** Bytes that were asked of the registry: ranges of blobs, recipes, checkpoints. */
  bytesFetched = 0;
  readonly #repository: Repository;
  readonly #layers: ReadonlyMap<string, BlobLayer>;
  readonly #documents: BlobCache;
  readonly #memory = new SegmentMemory();
  readonly #opened = new Map<string, Promise<OpenedLayer>>();
  readonly #stop = new AbortController();

  constructor({ repository, layers, cacheDir }: BlobSourceOptions) {
    this.#repository = repository;
    this.#layers = new Map(layers.map((layer) => [layer.diffID, layer]));
    this.#documents = new BlobCache(cacheDir);
    setMaxListeners(0, this.#stop.signal);
    this.location = `blobs of ${repository.name}`;
  }

  async readFile(path: string): Promise<Uint8Array> {
    throw new SourceError('NOT_FOUND', `${this.location} have layers only, not ${path}`);
  }

  async openLayer(diffID: string): Promise<LayerHandle> {
    if (this.#stop.signal.aborted) throw new SourceError('CLOSED', `the source ${this.location} is closed`);
    let opened = this.#opened.get(diffID);
    if (opened === undefined) {
      opened = this.#open(diffID);
      this.#opened.set(diffID, opened);
      opened.catch(() => this.#opened.delete(diffID));
    }
    const { recipe, tar, verifiedBy } = await opened;
    return {
      size: recipe.size,
      ...(verifiedBy === undefined ? {} : { verifiedBy }),
      read: (offset, length) => readVhd(recipe, tar, offset, length),
      close: async () => undefined,
    };
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.#opened.clear();
  }

  async #open(diffID: string): Promise<OpenedLayer> {
    const layer = this.#layers.get(diffID);
    if (layer === undefined) throw new SourceError('NOT_FOUND', `${this.location}: no layer ${diffID}`);
    const missing = (what: string) =>
      new SourceError(
        'NOT_FOUND',
        `${this.location}: layer ${diffID} has no ${what}: expand the image again`,
      );
    if (layer.recipe === undefined) throw missing('recipe');
    if (layer.checkpoints === undefined) throw missing('checkpoints');
    const [recipeBytes, checkpointBytes] = await Promise.all([
      this.#document(layer.recipe, 'layer recipe'),
      this.#document(layer.checkpoints, 'inflate checkpoints'),
    ]);
    const blob = this.#repository.blob(layer.blob, 'layer');
    const read = (offset: number, length: number): Promise<Uint8Array> => {
      this.bytesFetched += length;
      return asSource(blob.read(offset, length, this.#stop.signal));
    };
    const { digest, size } = layer.blob;
    if (isChunkMap(checkpointBytes)) {
      const [recipe, map] = decodeBoth(recipeBytes, checkpointBytes, ChunkMap.decode);
      if (recipe.diffID !== diffID || map.recipe !== layer.recipe.digest || map.blobSize !== size) {
        throw new SourceError(
          'CORRUPT',
          `${this.location}: recipe or chunk map of another layer than ${diffID}`,
        );
      }
      return { recipe, tar: new ChunkedTar(map, this.#memory, read), verifiedBy: map.digest };
    }
    const [recipe, checkpoints] = decodeBoth(recipeBytes, checkpointBytes, Checkpoints.decode);
    if (recipe.diffID !== diffID || checkpoints.digest !== digest || checkpoints.blobSize !== size) {
      throw new SourceError(
        'CORRUPT',
        `${this.location}: recipe or checkpoints of another layer than ${diffID}`,
      );
    }
    if (!BlobTar.isPossible(checkpoints)) throw missing('checkpoints that allow reading it at random');
    return { recipe, tar: new BlobTar(checkpoints, this.#memory, read) };
  }

  async #document(descriptor: Descriptor, what: string): Promise<Uint8Array> {
    const kept = await this.#documents.read(descriptor, what);
    if (kept !== undefined) return kept;
    const bytes = Buffer.allocUnsafeSlow(descriptor.size);
    let filled = 0;
    const stream = this.#repository.blob(descriptor, what).stream(this.#stop.signal);
    const fill = async () => {
      for await (const chunk of stream) {
        bytes.set(chunk, filled);
        filled += chunk.length;
      }
      verifyBytes(bytes, descriptor, what);
    };
    await asSource(fill());
    this.bytesFetched += bytes.length;
    // Without it they are fetched again the next time.
    await this.#documents.write(descriptor.digest, bytes).catch(() => undefined);
    return bytes;
  }
}

interface OpenedLayer {
  recipe: LayerRecipe;
  tar: Pick<BlobTar, 'read'>;
  /** Digest of the chunk map. */
  verifiedBy?: string;
}

function decodeBoth<T>(
  recipe: Uint8Array,
  document: Uint8Array,
  decode: (bytes: Uint8Array) => T,
): [LayerRecipe, T] {
  try {
    return [LayerRecipe.decode(recipe), decode(document)];
  } catch (cause) {
    if (!(cause instanceof LayerError)) throw cause;
    throw new SourceError('CORRUPT', cause.message, { cause });
  }
}

/** `length` bytes of the layer VHD at `offset`. */
async function readVhd(
  recipe: LayerRecipe,
  tar: OpenedLayer['tar'],
  offset: number,
  length: number,
): Promise<Uint8Array> {
  const bytes = Buffer.alloc(length);
  const ranges = recipe.tarRanges(offset, length);
  const groups: (typeof ranges)[] = [];
  for (const range of ranges) {
    const group = groups.at(-1);
    const last = group?.at(-1);
    if (group === undefined || last === undefined || range.tar - last.tar - last.length > JOINED_GAP)
      groups.push([range]);
    else group.push(range);
  }
  await Promise.all(
    groups.map(async (group) => {
      const start = group[0]?.tar ?? 0;
      const last = group.at(-1);
      const stored = await tar.read(start, last === undefined ? 0 : last.tar + last.length - start);
      for (const { vhd, tar: at, length: size } of group) {
        bytes.set(stored.subarray(at - start, at - start + size), vhd - offset);
      }
    }),
  );
  try {
    recipe.fillLiterals(offset, bytes);
  } catch (cause) {
    throw new SourceError('CORRUPT', (cause as Error).message, { cause });
  }
  return bytes;
}
