/**
 * A layer VHD laid out by a table of contents alone: its recipe and its chunk map. The tree is that of expanding the
 * tar; the VHD is another one, since the table is no part of the tree and knows no sparse files.
 */
import { BLOCK_SIZE, type Directory, type FileExtent } from '../erofs/tree.js';
import { writeErofs } from '../erofs/writer.js';
import { digestOf } from '../oci/digest.js';
import { quoteName } from '../tar/tar.js';
import { fixedFooter } from '../vhd/vhd.js';
import { BlockDigests, DEFAULT_BLOCK_SIZE } from './block-digests.js';
import { type Chunk, ChunkMap, compressedBound, MAX_CHUNK_BYTES, MAX_CHUNKS, MAX_SKIP } from './chunk-map.js';
import type { TocChunk, TocEntry } from './estargz-toc.js';
import { MAX_TAR_BYTES } from './expand.js';
import { LayerError } from './layer-error.js';
import { LayerTree } from './layer-tree.js';
import { uuidOf } from './layer-vhd.js';
import { RecipeBuilder } from './recipe-builder.js';

export interface EstargzLayer {
  digests: BlockDigests;
  /** Encoded. */
  recipe: Uint8Array;
  chunkMap: Uint8Array;
  /** Bytes of the VHD before the data of what is behind the landmark; 0 without one. */
  front: number;
  /** The tree that the VHD has, and the blocks of its payload. */
  root: Directory;
  blocks: number;
}

/** What stands before it was wanted by the command that the image was optimized for (docs/estargz.md, "Prioritized Files"). */
const LANDMARK = '.prefetch.landmark';

export interface EstargzBlob {
  /** Of the layer, as the image config names it. */
  diffID: string;
  /** Bytes of the blob, and of what is before its table of contents. */
  size: number;
  tocOffset: number;
}

/** Throws LayerError, ErofsError. */
export async function layOutEstargz(
  entries: readonly TocEntry[],
  { diffID, size: blobSize, tocOffset }: EstargzBlob,
  onWarning: (message: string) => void = () => undefined,
): Promise<EstargzLayer> {
  const tree = new LayerTree(onWarning);
  const data = new DataLayout(entries, tocOffset);
  let front = 0;
  for (const entry of entries) {
    if (entry.entry.name === LANDMARK) front = data.end > BLOCK_SIZE ? data.end : 0;
    const file = tree.add(entry.entry);
    if (file !== undefined) file.extents = data.place(entry);
  }
  const uuid = uuidOf(diffID);
  const root = tree.finish();
  const { superblock, metadata, blocks } = writeErofs(root, {
    uuid,
    dataBlocks: data.end / BLOCK_SIZE - 1,
  });
  const footer = fixedFooter(blocks * BLOCK_SIZE, uuid);
  const size = blocks * BLOCK_SIZE + footer.length;
  // It stays on this host, where somebody waits for it.
  const tail = [...metadata, footer];
  const recipe = await data.recipe.finish({ diffID, size, superblock, tail, level: 1 });
  if (recipe === undefined) throw new LayerError('TOO_LARGE', `layer ${diffID} has too many files`);
  const chunkMap = ChunkMap.encode(blobSize, digestOf(recipe), data.chunks);
  const digests = new BlockDigests({
    diffID,
    blockSize: DEFAULT_BLOCK_SIZE,
    size,
    chunkMap: digestOf(chunkMap),
  });
  return { digests, recipe, chunkMap, front, root, blocks };
}

/** Gives files their blocks, in the order of the table; files with the same chunks share them. */
class DataLayout {
  readonly recipe = new RecipeBuilder();
  readonly chunks: Chunk[] = [];
  /** Where the next file begins in the VHD. */
  end = BLOCK_SIZE;
  readonly #known = new Map<string, readonly FileExtent[]>();
  /** Ascending: where data begin, and where they end. */
  readonly #bounds: Float64Array;
  #stored = 0;

  constructor(entries: readonly TocEntry[], tocOffset: number) {
    const offsets = new Set([tocOffset]);
    for (const { chunks } of entries) for (const { offset } of chunks) offsets.add(offset);
    this.#bounds = Float64Array.from(offsets).sort();
    if (this.#bounds.at(-1) !== tocOffset) {
      throw new LayerError('CORRUPT', 'damaged table of contents: chunks that lie behind it');
    }
  }

  place({ entry: { name, size }, chunks }: TocEntry): readonly FileExtent[] {
    if (size === 0) return [];
    const key = chunks.map(({ digest, length }) => `${length} ${digest}`).join();
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    for (const chunk of chunks) this.chunks.push(this.#located(chunk, name));
    if (this.chunks.length > MAX_CHUNKS || this.#stored + size > MAX_TAR_BYTES) {
      throw new LayerError('TOO_LARGE', 'a layer of too many chunks or bytes');
    }
    this.recipe.add(this.end, this.#stored, size);
    this.recipe.keep();
    const blocks = Math.ceil(size / BLOCK_SIZE);
    const extents = [{ fileOffset: 0, device: 0, block: this.end / BLOCK_SIZE, blocks }];
    this.end += blocks * BLOCK_SIZE;
    this.#stored += size;
    this.#known.set(key, extents);
    return extents;
  }

  #located({ offset, skip, length, digest }: TocChunk, name: string): Chunk {
    const available = this.#after(offset) - offset;
    if (available <= 0)
      throw new LayerError('CORRUPT', `damaged table of contents: offset of ${quoteName(name)}`);
    if (length > MAX_CHUNK_BYTES || skip > MAX_SKIP) {
      throw new LayerError(
        'TOO_LARGE',
        `the chunks of ${quoteName(name)} are too large or too far within their members`,
      );
    }
    const compressed = Math.min(available, compressedBound(skip + length));
    return { offset, compressed, skip, length, digest: Buffer.from(digest, 'hex') };
  }

  /** Where what begins at `offset` ends. */
  #after(offset: number): number {
    let low = 0;
    let high = this.#bounds.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#bounds[middle] as number) > offset) high = middle;
      else low = middle + 1;
    }
    return this.#bounds[low] as number;
  }
}
