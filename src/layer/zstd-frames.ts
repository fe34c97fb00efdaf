/**
 * Cuts a zstd stream at the boundaries of its frames (RFC 8878 §3), and checks what can be seen without
 * decompressing: magic numbers, window size, truncation.
 *
 * Node's decompressor silently stops at the end of a frame when the same chunk goes on with the next one, and
 * layers of many frames exist (pzstd, zstd:chunked); and fzstd would allocate windows of up to 2 GiB.
 */
import { LayerError } from './layer-error.js';

/** What zstd itself accepts unless told otherwise; level 19 uses 8 MiB, `--long` this. */
const MAX_WINDOW_SIZE = 128 << 20;

const FRAME_MAGIC = 0xfd2fb528;
const SKIPPABLE_MAGIC = 0x184d2a50;
const MAGIC_SIZE = 4;
const SKIPPABLE_SIZE_WIDTH = 4;
const CHECKSUM_SIZE = 4;
const BLOCK_HEADER_SIZE = 3;
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;

export interface FramePiece {
  /** Bytes of the stream before the frame. */
  frame: number;
  bytes: Uint8Array;
  /** The frame is complete with these bytes. */
  isLast: boolean;
}

/** A little-endian number of up to 8 bytes, exact below 2^53. */
function littleEndian(bytes: Uint8Array): number {
  return bytes.reduceRight((value, byte) => value * 256 + byte, 0);
}

function corrupt(what: string): LayerError {
  return new LayerError('CORRUPT', `zstd: ${what}`);
}

/** True of the first bytes of a zstd stream. */
export function startsZstdFrame(bytes: Uint8Array): boolean {
  const magic = littleEndian(bytes.subarray(0, MAGIC_SIZE));
  return bytes.length >= MAGIC_SIZE && (magic === FRAME_MAGIC || isSkippable(magic));
}

function isSkippable(magic: number): boolean {
  return magic - (magic % 16) === SKIPPABLE_MAGIC;
}

/** Yielded by the coroutine when it has used up its input. */
const NEED_INPUT = undefined;
type Step<T> = Generator<FramePiece | typeof NEED_INPUT, T, void>;

export class ZstdFrameSplitter {
  #chunk: Uint8Array = new Uint8Array(0);
  /** Bytes of the stream before the chunk. */
  #before = 0;
  #frameAt = 0;
  #position = 0;
  /** Where in the chunk the bytes of the frame begin that have not been given yet. */
  #start = 0;
  #isInFrame = false;
  #mayEnd = true;
  readonly #steps = this.#split();

  /** With `cutBlocks`, no piece has more than one block, of which at most 128 KiB come out. */
  constructor(readonly cutBlocks = false) {}

  /** The parts of `chunk` that belong to frames; each is of one frame. Skippable frames are left out. */
  *push(chunk: Uint8Array): Generator<FramePiece, void, void> {
    this.#before += this.#chunk.length;
    this.#chunk = chunk;
    this.#position = 0;
    this.#start = 0;
    for (;;) {
      const piece = this.#steps.next().value;
      if (piece === NEED_INPUT) return;
      yield piece;
    }
  }

  /** Throws CORRUPT when the input ends within a frame. */
  finish(): void {
    if (!this.#mayEnd) throw corrupt('the data is cut short');
  }

  *#split(): Step<never> {
    for (;;) {
      this.#mayEnd = true;
      const magicBytes = yield* this.#take(MAGIC_SIZE);
      const magic = littleEndian(magicBytes);
      if (isSkippable(magic)) {
        yield* this.#pass(littleEndian(yield* this.#take(SKIPPABLE_SIZE_WIDTH)));
        continue;
      }
      if (magic !== FRAME_MAGIC) throw corrupt('something else follows after a frame');
      this.#isInFrame = true;
      this.#start = this.#position;
      this.#frameAt = this.#before + this.#position - MAGIC_SIZE;
      yield this.#piece(magicBytes);
      yield* this.#frame();
      this.#isInFrame = false;
      yield this.#piece(this.#chunk.subarray(this.#start, this.#position), true);
    }
  }

  /** From the frame header descriptor to the end of the checksum. */
  *#frame(): Step<void> {
    const descriptor = (yield* this.#take(1))[0] as number;
    if (descriptor & 0x08) throw corrupt('reserved bit in a frame header');
    const isSingleSegment = (descriptor & 0x20) !== 0;
    const dictionaryWidth = [0, 1, 2, 4][descriptor & 3] as number;
    const sizeFlag = descriptor >> 6;
    const sizeWidth = sizeFlag === 0 ? (isSingleSegment ? 1 : 0) : 1 << sizeFlag;
    const windowWidth = isSingleSegment ? 0 : 1;
    const header = yield* this.#take(windowWidth + dictionaryWidth + sizeWidth);
    const window = isSingleSegment
      ? littleEndian(header.subarray(dictionaryWidth)) + (sizeWidth === 2 ? 256 : 0)
      : windowSize(header[0] as number);
    if (window > MAX_WINDOW_SIZE) {
      throw new LayerError(
        'TOO_LARGE',
        `zstd: a window of ${window} bytes; at most ${MAX_WINDOW_SIZE} can be read`,
      );
    }
    if (littleEndian(header.subarray(windowWidth, windowWidth + dictionaryWidth)) !== 0) {
      throw new LayerError('UNSUPPORTED_COMPRESSION', 'zstd: compressed with a dictionary');
    }
    for (let isLast = false; !isLast; ) {
      const block = littleEndian(yield* this.#take(BLOCK_HEADER_SIZE));
      isLast = (block & 1) === 1;
      const type = (block >> 1) & 3;
      if (type === RESERVED_BLOCK) throw corrupt('reserved block type');
      yield* this.#pass(type === RLE_BLOCK ? 1 : block >> 3);
      if (this.cutBlocks && !isLast) yield* this.#given();
    }
    if (descriptor & 0x04) yield* this.#pass(CHECKSUM_SIZE);
  }

  #piece(bytes: Uint8Array, isLast = false): FramePiece {
    return { frame: this.#frameAt, bytes, isLast };
  }

  *#given(): Step<void> {
    if (this.#isInFrame && this.#start < this.#position) {
      yield this.#piece(this.#chunk.subarray(this.#start, this.#position));
      this.#start = this.#position;
    }
  }

  *#more(): Step<void> {
    yield* this.#given();
    yield NEED_INPUT;
  }

  /** A copy of the next bytes, a few. */
  *#take(length: number): Step<Uint8Array> {
    const bytes = new Uint8Array(length);
    for (let filled = 0; filled < length; ) {
      if (this.#position < this.#chunk.length) {
        bytes[filled++] = this.#chunk[this.#position++] as number;
        this.#mayEnd = false;
      } else yield* this.#more();
    }
    return bytes;
  }

  *#pass(length: number): Step<void> {
    for (let remaining = length; remaining > 0; ) {
      if (this.#position === this.#chunk.length) yield* this.#more();
      const step = Math.min(remaining, this.#chunk.length - this.#position);
      this.#position += step;
      remaining -= step;
    }
  }
}

/** RFC 8878 §3.1.1.1.2. */
function windowSize(descriptor: number): number {
  const base = 2 ** (10 + (descriptor >> 3));
  return base + (base / 8) * (descriptor & 7);
}
