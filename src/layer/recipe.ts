/**
 * How a layer VHD is made of the bytes of its tar: docs/FORMAT.md, "Layer recipe".
 *
 * Extents say which ranges of the VHD are which ranges of the tar. The first block and everything from the metadata
 * on are literals, kept compressed in pieces; whatever is neither is zero.
 */
import { inflateRawSync } from 'node:zlib';
import { BLOCK_SIZE } from '../erofs/tree.js';
import { type DocumentFormat, damaged, decodeDocument } from './document.js';

export const RECIPE_FORMAT: DocumentFormat = {
  magic: 'ORCARCPE',
  version: 1,
  name: 'layer recipe',
  some: 'a layer recipe',
  none: 'this is no layer recipe',
};
/** Offsets of the fields of the header, in bytes. */
export const RECIPE_FIELDS = {
  magic: 0,
  version: 8,
  extents: 12,
  size: 16,
  diffID: 24,
  tail: 56,
  extentBytes: 64,
  compressedExtentBytes: 68,
} as const;
export const RECIPE_HEADER_SIZE = 72;

/** Literals are compressed in pieces of this many bytes, so that a reader of one block inflates one piece. */
export const LITERAL_PIECE = 1 << 20;
/** 24 bytes of memory each; a layer has at most 4 million files and pieces of sparse files. */
export const MAX_RECIPE_EXTENTS = 4 << 20;
/** Three numbers per extent, seldom of more than two bytes each. */
export const MAX_EXTENT_BYTES = 64 << 20;
/** Metadata of a layer of four million files. */
export const MAX_LITERAL_BYTES = 1 << 30;
/** What a recipe can have at most: literals that do not compress. */
export const MAX_RECIPE_BYTES = MAX_LITERAL_BYTES + MAX_EXTENT_BYTES;

const PIECE_LENGTH_WIDTH = 4;
const DIGEST_SIZE = 32;

/** A range of the VHD that is a range of the tar; bytes. */
export interface RecipeExtent {
  vhd: number;
  tar: number;
  length: number;
}

export class LayerRecipe {
  readonly diffID: string;
  /** Bytes of the layer VHD, footer included. */
  readonly size: number;
  /** Where in the VHD the metadata begins: from here on everything is literal. */
  readonly tail: number;
  readonly #vhd: Float64Array;
  readonly #tar: Float64Array;
  readonly #length: Float64Array;
  readonly #pieces: readonly Uint8Array[];
  #inflated: { piece: number; bytes: Uint8Array } | undefined;

  private constructor(
    fields: { diffID: string; size: number; tail: number },
    extents: readonly [Float64Array, Float64Array, Float64Array],
    pieces: readonly Uint8Array[],
  ) {
    this.diffID = fields.diffID;
    this.size = fields.size;
    this.tail = fields.tail;
    [this.#vhd, this.#tar, this.#length] = extents;
    this.#pieces = pieces;
  }

  /** Throws LayerError CORRUPT. */
  static decode(encoded: Uint8Array): LayerRecipe {
    return decodeDocument(encoded, RECIPE_FORMAT, LayerRecipe.#decode);
  }

  static #decode(bytes: Buffer): LayerRecipe {
    const count = bytes.readUInt32LE(RECIPE_FIELDS.extents);
    const size = Number(bytes.readBigUInt64LE(RECIPE_FIELDS.size));
    const tail = Number(bytes.readBigUInt64LE(RECIPE_FIELDS.tail));
    const extentBytes = bytes.readUInt32LE(RECIPE_FIELDS.extentBytes);
    const compressedExtentBytes = bytes.readUInt32LE(RECIPE_FIELDS.compressedExtentBytes);
    check(Number.isSafeInteger(size) && tail >= BLOCK_SIZE && tail <= size, 'lengths');
    const literals = BLOCK_SIZE + size - tail;
    check(
      count <= MAX_RECIPE_EXTENTS && extentBytes <= MAX_EXTENT_BYTES && literals <= MAX_LITERAL_BYTES,
      'caps',
    );
    const pieceCount = Math.ceil(literals / LITERAL_PIECE);
    const extentsAt = RECIPE_HEADER_SIZE + pieceCount * PIECE_LENGTH_WIDTH;
    const piecesAt = extentsAt + compressedExtentBytes;
    check(piecesAt <= bytes.length, 'length of the extents');
    const pieces: Uint8Array[] = [];
    let at = piecesAt;
    for (let piece = 0; piece < pieceCount; piece++) {
      const length = bytes.readUInt32LE(RECIPE_HEADER_SIZE + piece * PIECE_LENGTH_WIDTH);
      check(at + length <= bytes.length, 'length of a literal');
      pieces.push(bytes.subarray(at, at + length));
      at += length;
    }
    check(at === bytes.length, 'length');
    const numbers = inflateExactly(bytes.subarray(extentsAt, piecesAt), extentBytes);
    const hex = bytes.toString('hex', RECIPE_FIELDS.diffID, RECIPE_FIELDS.diffID + DIGEST_SIZE);
    return new LayerRecipe(
      { diffID: `sha256:${hex}`, size, tail },
      decodeExtents(numbers, count, tail),
      pieces,
    );
  }

  get extentCount(): number {
    return this.#vhd.length;
  }

  /** In ascending order of both offsets, without overlap. */
  extent(index: number): RecipeExtent {
    return {
      vhd: this.#vhd[index] as number,
      tar: this.#tar[index] as number,
      length: this.#length[index] as number,
    };
  }

  /** The first extent that ends after `position` of the VHD; extentCount when there is none. */
  extentAfter(position: number): number {
    let low = 0;
    let high = this.extentCount;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#vhd[middle] as number) + (this.#length[middle] as number) > position) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** What of the `length` bytes of the VHD at `offset` is in the tar, in ascending order. */
  tarRanges(offset: number, length: number): RecipeExtent[] {
    const ranges: RecipeExtent[] = [];
    const end = offset + length;
    for (let index = this.extentAfter(offset); index < this.extentCount; index++) {
      const extent = this.extent(index);
      if (extent.vhd >= end) break;
      const skip = Math.max(0, offset - extent.vhd);
      const vhd = extent.vhd + skip;
      ranges.push({ vhd, tar: extent.tar + skip, length: Math.min(extent.length - skip, end - vhd) });
    }
    return ranges;
  }

  /** Fills in what of the VHD at `offset` is literal, and leaves the rest of `target` as it is. Throws CORRUPT. */
  fillLiterals(offset: number, target: Uint8Array): void {
    const end = offset + target.length;
    if (offset < BLOCK_SIZE)
      this.#fill(offset, target.subarray(0, Math.min(target.length, BLOCK_SIZE - offset)));
    if (end <= this.tail) return;
    const from = Math.max(offset, this.tail);
    this.#fill(BLOCK_SIZE + from - this.tail, target.subarray(from - offset));
  }

  /** `at` counts in the literals. */
  #fill(at: number, target: Uint8Array): void {
    for (let done = 0; done < target.length; ) {
      const piece = Math.floor((at + done) / LITERAL_PIECE);
      const start = at + done - piece * LITERAL_PIECE;
      const bytes = this.#piece(piece).subarray(start, start + target.length - done);
      if (bytes.length === 0) throw new RangeError('beyond the end of the layer VHD');
      target.set(bytes, done);
      done += bytes.length;
    }
  }

  #piece(piece: number): Uint8Array {
    if (this.#inflated?.piece === piece) return this.#inflated.bytes;
    const total = BLOCK_SIZE + this.size - this.tail;
    const length = Math.min(LITERAL_PIECE, total - piece * LITERAL_PIECE);
    try {
      const bytes = inflateExactly(this.#pieces[piece] as Uint8Array, length);
      this.#inflated = { piece, bytes };
      return bytes;
    } catch (cause) {
      throw damaged(RECIPE_FORMAT.name, cause);
    }
  }
}

function check(condition: boolean, what: string): void {
  if (!condition) throw new RangeError(`${what} of a layer recipe`);
}

function inflateExactly(bytes: Uint8Array, length: number): Uint8Array {
  const inflated = inflateRawSync(bytes, { maxOutputLength: Math.max(1, length) });
  check(inflated.length === length, 'compressed part');
  return inflated;
}

/** Each extent is three numbers (LEB128): bytes since the end of the one before, in the VHD and the tar; length. */
function decodeExtents(
  bytes: Uint8Array,
  count: number,
  tail: number,
): [Float64Array, Float64Array, Float64Array] {
  const columns = [0, 1, 2].map(() => new Float64Array(count)) as [Float64Array, Float64Array, Float64Array];
  let at = 0;
  const number = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[at++];
      check(byte !== undefined, 'extents');
      value += ((byte as number) & 127) * scale;
      check(value <= Number.MAX_SAFE_INTEGER, 'extents');
      if ((byte as number) < 128) return value;
    }
  };
  let vhd = BLOCK_SIZE;
  let tar = 0;
  for (let index = 0; index < count; index++) {
    vhd += number();
    tar += number();
    const length = number();
    columns[0][index] = vhd;
    columns[1][index] = tar;
    columns[2][index] = length;
    vhd += length;
    tar += length;
    check(length > 0 && vhd <= tail && tar <= Number.MAX_SAFE_INTEGER, 'extents');
  }
  check(at === bytes.length, 'extents');
  return columns;
}
