/**
 * The source that needs no share: layer VHDs made of the ordinary compressed blobs, by the recipes of the teleport
 * artifact. With checkpoints, ranges of the blob are read, and sequential and repeated reads do not fetch or inflate
 * twice what is kept; without them (or of a zstd blob of one frame) the blob comes as a stream.
 */
import { setMaxListeners } from 'node:events';
import { type BlobCheckpoints, type LayerDigests } from '../image/artifact.js';
import { Checkpoints } from '../layer/checkpoints.js';
import { ChunkMap, isChunkMap } from '../layer/chunk-map.js';
import { LayerError } from '../layer/layer-error.js';
import { decompressAside } from '../layer/layer-threads.js';
import { LayerRecipe } from '../layer/recipe.js';
import { verifyBytes } from '../oci/digest.js';
import type { Descriptor } from '../oci/manifest.js';
import type { RemoteBlob } from '../oci/remote-blob.js';
import type { Repository } from '../oci/repository.js';
import { BlobCache } from './blob-cache.js';
import { BlobTar, SegmentMemory } from './blob-tar.js';
import { ChunkedTar } from './chunked-tar.js';
import { asSource } from './registry-failure.js';
import { type LayerHandle, type Source, SourceError, type VhdPiece } from './source.js';
import { fillLiterals, streamVhd } from './vhd-stream.js';

/** A layer as it is in its repository. */
export interface BlobLayer {
  diffID: string;
  /** The compressed layer. */
  blob: Descriptor;
  /** Without it the layer cannot be read from the blob. */
  recipe: LayerDigests['descriptor'] | undefined;
  /** Without them it cannot be read at random. A chunk map stands for them. */
  checkpoints: BlobCheckpoints['descriptor'] | undefined;
}

export interface BlobSourceOptions {
  repository: Repository;
  layers: readonly BlobLayer[];
  /** Keeps recipes and checkpoints. */
  cacheDir: string;
}

/** Of a stream that is read for one range alone. */
const PIECE_SIZE = 1 << 20;
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
    const { recipe, tar, blob, verifiedBy } = await opened;
    const { size } = recipe;
    const close = async () => undefined;
    if (tar !== undefined) {
      const read = (offset: number, length: number) => readVhd(recipe, tar, offset, length);
      return { size, read, close, ...(verifiedBy === undefined ? {} : { verifiedBy }) };
    }
    return {
      size,
      read: (offset, length, signal = this.#stop.signal) =>
        this.#readStreamed(recipe, blob, { offset, length }, signal),
      stream: (pieceSize, signal) => this.#stream(recipe, blob, pieceSize, signal),
      close,
    };
  }

  /** Asks for the blob: the head of a layer VHD could be had without a registry. */
  async probe(diffID: string, signal: AbortSignal): Promise<void> {
    const { blob } = this.#layer(diffID);
    await asSource(this.#repository.blob(blob, 'layer').probe(signal));
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.#opened.clear();
  }

  async #open(diffID: string): Promise<OpenedLayer> {
    const layer = this.#layer(diffID);
    if (layer.recipe === undefined) {
      const message = `${this.location}: layer ${diffID} has no recipe: expand the image again`;
      throw new SourceError('NOT_FOUND', message);
    }
    const [recipeBytes, document] = await Promise.all([
      this.#document(layer.recipe, 'layer recipe'),
      layer.checkpoints && this.#document(layer.checkpoints, 'inflate checkpoints'),
    ]);
    const recipe = decoded(recipeBytes, LayerRecipe.decode);
    const blob = this.#repository.blob(layer.blob, 'layer');
    const other = (what: string) =>
      new SourceError('CORRUPT', `${this.location}: ${what} of another layer than ${diffID}`);
    if (recipe.diffID !== diffID) throw other('recipe');
    if (document === undefined) return { recipe, blob };
    const read = (offset: number, length: number): Promise<Uint8Array> => {
      this.bytesFetched += length;
      return asSource(blob.read(offset, length, this.#stop.signal));
    };
    const { digest, size } = layer.blob;
    if (isChunkMap(document)) {
      const map = decoded(document, ChunkMap.decode);
      if (map.recipe !== layer.recipe.digest || map.blobSize !== size) throw other('chunk map');
      return { recipe, blob, tar: new ChunkedTar(map, this.#memory, read), verifiedBy: map.digest };
    }
    const checkpoints = decoded(document, Checkpoints.decode);
    if (checkpoints.digest !== digest || checkpoints.blobSize !== size) throw other('checkpoints');
    if (!BlobTar.isPossible(checkpoints)) return { recipe, blob };
    return { recipe, blob, tar: new BlobTar(checkpoints, this.#memory, read) };
  }

  #layer(diffID: string): BlobLayer {
    const layer = this.#layers.get(diffID);
    if (layer === undefined) throw new SourceError('NOT_FOUND', `${this.location}: no layer ${diffID}`);
    return layer;
  }

  async #readStreamed(
    recipe: LayerRecipe,
    blob: RemoteBlob,
    { offset, length }: { offset: number; length: number },
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const bytes = Buffer.alloc(length);
    if (recipe.tarRanges(offset, length).length === 0) {
      fillLiterals(recipe, offset, bytes);
      return bytes;
    }
    for await (const piece of this.#stream(recipe, blob, PIECE_SIZE, signal)) {
      const start = Math.max(offset, piece.offset);
      const end = Math.min(offset + length, piece.offset + piece.bytes.length);
      if (end > start)
        bytes.set(piece.bytes.subarray(start - piece.offset, end - piece.offset), start - offset);
      if (end === offset + length) break;
    }
    return bytes;
  }

  async *#stream(
    recipe: LayerRecipe,
    blob: RemoteBlob,
    pieceSize: number,
    signal: AbortSignal,
  ): AsyncGenerator<VhdPiece, void, void> {
    const either = AbortSignal.any([signal, this.#stop.signal]);
    const isZstd = blob.descriptor.mediaType.endsWith('zstd');
    const tar = decompressAside(this.#counted(blob.stream(either)), isZstd);
    const pieces = streamVhd(recipe, tar, pieceSize);
    try {
      for (;;) {
        const next = await asSource(pieces.next());
        if (next.done === true) return;
        yield next.value;
      }
    } catch (cause) {
      if (cause instanceof LayerError)
        throw new SourceError('CORRUPT', `${this.location}: ${cause.message}`, { cause });
      throw cause;
    } finally {
      await pieces.return();
    }
  }

  async *#counted(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
    for await (const chunk of chunks) {
      this.bytesFetched += chunk.length;
      yield chunk;
    }
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
  blob: RemoteBlob;
  /** Of a blob that can be read at random. */
  tar?: Pick<BlobTar, 'read'>;
  /** Digest of the chunk map. */
  verifiedBy?: string;
}

function decoded<T>(document: Uint8Array, decode: (bytes: Uint8Array) => T): T {
  try {
    return decode(document);
  } catch (cause) {
    if (!(cause instanceof LayerError)) throw cause;
    throw new SourceError('CORRUPT', cause.message, { cause });
  }
}

/** `length` bytes of the layer VHD at `offset`. */
async function readVhd(
  recipe: LayerRecipe,
  tar: Pick<BlobTar, 'read'>,
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
  fillLiterals(recipe, offset, bytes);
  return bytes;
}
