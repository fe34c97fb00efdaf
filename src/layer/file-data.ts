/**
 * Puts the data of regular files into the payload, one file after the other: each begins at a block, holes take no
 * blocks, and a file without holes that equals an earlier one gets the extents of that.
 */
import { crc32 } from 'node:zlib';
import { BLOCK_SIZE, type FileExtent } from '../erofs/tree.js';
import type { TarEntry } from '../tar/tar.js';
import { LayerError } from './layer-error.js';
import type { PayloadWriter } from './payload-writer.js';
import type { RecipeBuilder } from './recipe-builder.js';

/**
 * A sparse file is described in chunks of a power of two, all of one size: as many as this at most, so that the
 * table of one file stays within 512 KiB. Holes that are smaller than a chunk are filled with zeros.
 */
const MAX_CHUNKS = 65536;

/** Of all sparse files of a layer together: their tables, of 8 bytes per chunk, are in memory at the end. */
const MAX_LAYER_CHUNKS = 16 << 20;

/**
 * Of one chunk. With larger ones, a tar of a few bytes would write gigabytes of zeros around them; a file of 4 TiB can
 * be described.
 */
const MAX_CHUNK_SIZE = 64 << 20;

/** Zeros that fill up the chunks of all sparse files of a layer together: hostile layers consist of little else. */
const MAX_LAYER_FILL = 1 << 30;

/** Pieces of all files of a layer together, some 100 bytes of memory each. */
const MAX_LAYER_EXTENTS = 4 << 20;

function alignDown(value: number, unit: number): number {
  return value - (value % unit);
}

function alignUp(value: number, unit: number): number {
  return alignDown(value + unit - 1, unit);
}

export class FileData {
  readonly #writer: PayloadWriter;
  readonly #recipe: RecipeBuilder | undefined;
  /** Offset in the tar of the bytes that are appended next. */
  #tarOffset = 0;
  /** The first block of a file by contentKey(); that of the first one only, so that collisions cost nothing. */
  readonly #known = new Map<number | string, number>();
  #layerChunks = 0;
  #layerExtents = 0;
  #layerFill = 0;
  #size = 0;
  #isSparse = false;
  #chunkSize = BLOCK_SIZE;
  #crc = 0;
  #extents: FileExtent[] = [];
  /** Offset in the file at which the current extent begins, and the one at which it goes on; -1: there is none. */
  #extentStart = -1;
  #next = 0;

  /** `recipe` learns where in the tar the data lies, which a file that is begun then says. */
  constructor(writer: PayloadWriter, recipe?: RecipeBuilder) {
    this.#writer = writer;
    this.#recipe = recipe;
  }

  begin(entry: Pick<TarEntry, 'size' | 'segments'> & { dataOffset?: number }): void {
    this.#size = entry.size;
    this.#tarOffset = entry.dataOffset ?? 0;
    this.#isSparse = entry.segments !== undefined;
    this.#chunkSize = BLOCK_SIZE;
    if (this.#isSparse) {
      while (this.#size / this.#chunkSize > MAX_CHUNKS) this.#chunkSize *= 2;
      if (this.#chunkSize > MAX_CHUNK_SIZE) {
        throw new LayerError('TOO_LARGE', `layer: a sparse file of ${this.#size} bytes`);
      }
      this.#layerChunks += Math.ceil(this.#size / this.#chunkSize);
      this.#layerFill += fillOf(entry.segments ?? [], this.#chunkSize);
      if (this.#layerFill > MAX_LAYER_FILL) {
        throw new LayerError('TOO_LARGE', 'layer: sparse files whose pieces are too far apart');
      }
    }
    this.#crc = 0;
    this.#extents = [];
    this.#extentStart = -1;
  }

  /** The next bytes, at `offset` of the file; offsets ascend. */
  append(offset: number, bytes: Uint8Array): void {
    const start = alignDown(offset, this.#chunkSize);
    if (this.#extentStart < 0 || start > alignUp(this.#next, this.#chunkSize)) {
      this.#endExtent();
      this.#extentStart = start;
      this.#next = start;
    }
    this.#writer.padTo(this.#writer.position + offset - this.#next);
    this.#recipe?.add(this.#writer.position, this.#tarOffset, bytes.length);
    this.#tarOffset += bytes.length;
    this.#writer.append(bytes);
    this.#next = offset + bytes.length;
    if (!this.#isSparse) this.#crc = crc32(bytes, this.#crc);
  }

  #endExtent(): void {
    if (this.#extentStart < 0) return;
    const end = Math.min(alignUp(this.#next, this.#chunkSize), alignUp(this.#size, BLOCK_SIZE));
    this.#writer.padTo(this.#writer.position + end - this.#next);
    const length = end - this.#extentStart;
    this.#layerExtents++;
    if (this.#layerChunks > MAX_LAYER_CHUNKS || this.#layerExtents > MAX_LAYER_EXTENTS) {
      throw new LayerError('TOO_LARGE', 'layer: too many sparse files, or in too many pieces');
    }
    this.#extents.push({
      fileOffset: this.#extentStart,
      device: 0,
      block: (this.#writer.position - length) / BLOCK_SIZE,
      blocks: length / BLOCK_SIZE,
    });
  }

  /** All bytes have been appended. */
  async end(): Promise<readonly FileExtent[]> {
    this.#endExtent();
    const earlier = this.#isSparse ? undefined : await this.#equalFile();
    if (earlier === undefined) this.#recipe?.keep();
    else this.#recipe?.drop();
    return earlier ?? this.#extents;
  }

  /** The extents of an earlier file with the same bytes, if there is one; what was appended is then taken back. */
  async #equalFile(): Promise<readonly FileExtent[] | undefined> {
    const [extent] = this.#extents;
    if (extent === undefined) return undefined;
    const start = extent.block * BLOCK_SIZE;
    const key = contentKey(this.#size, this.#crc);
    const earlier = this.#known.get(key);
    if (earlier === undefined) {
      this.#known.set(key, extent.block);
    } else if (await this.#writer.equals(earlier * BLOCK_SIZE, start, this.#size)) {
      await this.#writer.rewind(start);
      return [{ ...extent, block: earlier }];
    }
    return undefined;
  }
}

/** Bytes of the chunks that ascending segments lie in, which are not of a segment. */
function fillOf(segments: readonly { offset: number; length: number }[], chunkSize: number): number {
  let fill = 0;
  let covered = 0;
  for (const { offset, length } of segments) {
    if (length === 0) continue;
    const end = alignUp(offset + length, chunkSize);
    fill += Math.max(0, end - Math.max(covered, alignDown(offset, chunkSize))) - length;
    covered = Math.max(covered, end);
  }
  return fill;
}

/** Size and CRC-32 in one, as a number where it fits, since there is one key per file. */
function contentKey(size: number, crc: number): number | string {
  return size < 2 ** 21 ? size * 2 ** 32 + crc : `${size} ${crc}`;
}
