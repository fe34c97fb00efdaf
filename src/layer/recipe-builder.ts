/** Makes the recipe of a layer (recipe.ts) while its data is written; a few bytes of memory per file. */
import { promisify } from 'node:util';
import { constants, deflateRaw } from 'node:zlib';
import { BLOCK_SIZE } from '../erofs/tree.js';
import {
  LITERAL_PIECE,
  MAX_EXTENT_BYTES,
  MAX_LITERAL_BYTES,
  MAX_RECIPE_EXTENTS,
  RECIPE_FIELDS,
  RECIPE_FORMAT,
  RECIPE_HEADER_SIZE,
  type RecipeExtent,
} from './recipe.js';

const deflate = promisify(deflateRaw);

/** LEB128 of safe integers has at most 8 bytes. */
const MAX_NUMBER = 128 ** 8;
const CHUNK_SIZE = 64 << 10;

/** What a recipe needs besides the extents. */
export interface RecipeFrame {
  diffID: string;
  /** Bytes of the VHD, footer included. */
  size: number;
  superblock: Uint8Array;
  /** From the end of the data to the end of the footer. */
  tail: readonly Uint8Array[];
  /** Of zlib; the default where the recipe is sent to others. */
  level?: number;
}

export class RecipeBuilder {
  #pending: RecipeExtent[] = [];
  #full: Uint8Array[] = [];
  #chunk = new Uint8Array(CHUNK_SIZE);
  #used = 0;
  #extents = 0;
  #vhd = BLOCK_SIZE;
  #tar = 0;
  #overflow = false;

  /** `length` bytes of the tar at `tar` have been written at `vhd`; both ascend. */
  add(vhd: number, tar: number, length: number): void {
    const last = this.#pending.at(-1);
    if (last !== undefined && last.vhd + last.length === vhd && last.tar + last.length === tar) {
      last.length += length;
    } else if (length > 0) {
      if (this.#pending.length >= MAX_RECIPE_EXTENTS) this.#overflow = true;
      else this.#pending.push({ vhd, tar, length });
    }
  }

  /** The file that was added last has been taken back. */
  drop(): void {
    this.#pending = [];
  }

  /** The file that was added last stays. */
  keep(): void {
    for (const { vhd, tar, length } of this.#pending) {
      this.#put(vhd - this.#vhd);
      this.#put(tar - this.#tar);
      this.#put(length);
      this.#vhd = vhd + length;
      this.#tar = tar + length;
      this.#extents++;
    }
    this.#pending = [];
    if (this.#extents > MAX_RECIPE_EXTENTS || this.#extentBytes > MAX_EXTENT_BYTES) this.#overflow = true;
  }

  get #extentBytes(): number {
    return this.#full.length * CHUNK_SIZE + this.#used;
  }

  #put(value: number): void {
    if (this.#overflow) return;
    if (value >= MAX_NUMBER) throw new RangeError(`${value} in a layer recipe`);
    let rest = value;
    for (; rest >= 128; rest = Math.floor(rest / 128)) this.#putByte((rest % 128) | 128);
    this.#putByte(rest);
  }

  #putByte(byte: number): void {
    if (this.#used === CHUNK_SIZE) {
      this.#full.push(this.#chunk);
      this.#chunk = new Uint8Array(CHUNK_SIZE);
      this.#used = 0;
    }
    this.#chunk[this.#used++] = byte;
  }

  /** The encoded recipe; undefined of a layer that is beyond the limits of the format. */
  async finish({
    diffID,
    size,
    superblock,
    tail,
    level = constants.Z_DEFAULT_COMPRESSION,
  }: RecipeFrame): Promise<Uint8Array | undefined> {
    const tailSize = tail.reduce((total, { length }) => total + length, 0);
    if (this.#overflow || BLOCK_SIZE + tailSize > MAX_LITERAL_BYTES) return undefined;
    const numbers = Buffer.concat([...this.#full, this.#chunk.subarray(0, this.#used)]);
    const extents = await deflate(numbers, { level });
    const pieces: Uint8Array[] = [];
    for (const piece of inPieces([superblock, ...tail])) pieces.push(await deflate(piece, { level }));
    const header = Buffer.alloc(RECIPE_HEADER_SIZE + pieces.length * 4);
    header.write(RECIPE_FORMAT.magic, RECIPE_FIELDS.magic, 'latin1');
    header.writeUInt32LE(RECIPE_FORMAT.version, RECIPE_FIELDS.version);
    header.writeUInt32LE(this.#extents, RECIPE_FIELDS.extents);
    header.writeBigUInt64LE(BigInt(size), RECIPE_FIELDS.size);
    header.write(diffID.slice('sha256:'.length), RECIPE_FIELDS.diffID, 'hex');
    header.writeBigUInt64LE(BigInt(size - tailSize), RECIPE_FIELDS.tail);
    header.writeUInt32LE(numbers.length, RECIPE_FIELDS.extentBytes);
    header.writeUInt32LE(extents.length, RECIPE_FIELDS.compressedExtentBytes);
    for (const [index, piece] of pieces.entries()) {
      header.writeUInt32LE(piece.length, RECIPE_HEADER_SIZE + index * 4);
    }
    return Buffer.concat([header, extents, ...pieces]);
  }
}

/** The same bytes in pieces of LITERAL_PIECE; the last one may be short. */
function* inPieces(buffers: readonly Uint8Array[]): Generator<Uint8Array, void, void> {
  let parts: Uint8Array[] = [];
  let length = 0;
  for (const buffer of buffers) {
    for (let at = 0; at < buffer.length; ) {
      const part = buffer.subarray(at, at + LITERAL_PIECE - length);
      parts.push(part);
      length += part.length;
      at += part.length;
      if (length < LITERAL_PIECE) continue;
      yield Buffer.concat(parts);
      parts = [];
      length = 0;
    }
  }
  if (length > 0) yield Buffer.concat(parts);
}
