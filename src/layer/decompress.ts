/** Blobs as the registry has them to the tar that they hold: gzip, zstd or plain, told apart by their first bytes. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import zlib from 'node:zlib';
import { Decompress } from 'fzstd';
import type { CheckpointRecorder } from './checkpoint-recorder.js';
import { gunzip } from './gunzip.js';
import { LayerError } from './layer-error.js';
import { type FramePiece, startsZstdFrame, ZstdFrameSplitter } from './zstd-frames.js';

/** Bytes in which the decompressor delivers: a turn in its thread costs some 30 µs, so few large ones. */
const OUTPUT_CHUNK_SIZE = 512 << 10;

/** The longest magic number that is looked for, of xz. */
const MAGIC_SIZE = 6;

export type Compression = 'gzip' | 'zstd' | 'plain';

/** By the first MAGIC_SIZE bytes (fewer when there are no more). Throws UNSUPPORTED_COMPRESSION. */
export function detectCompression(start: Uint8Array): Compression {
  if (start[0] === 0x1f && start[1] === 0x8b) return 'gzip';
  if (startsZstdFrame(start)) return 'zstd';
  const text = Buffer.from(start).toString('latin1');
  if (text.startsWith('BZh') || text.startsWith('\xfd7zXZ\0')) {
    throw new LayerError(
      'UNSUPPORTED_COMPRESSION',
      'layers are gzip, zstd or plain tar; this is bzip2 or xz',
    );
  }
  return 'plain';
}

/**
 * The decompressed bytes of `blob`. Several gzip members or zstd frames in a row are one stream; zero bytes after
 * the last gzip member are ignored. Throws LayerError CORRUPT for damaged or truncated data, and what `blob` throws.
 * `recorder` gets checkpoints: in gzip about every `recorder.span` bytes, in zstd where a frame begins.
 * `isKept` as gunzip has it.
 */
export async function* decompress(
  blob: AsyncIterable<Uint8Array>,
  recorder?: CheckpointRecorder,
  isKept = true,
): AsyncGenerator<Uint8Array, void, void> {
  const source = blob[Symbol.asyncIterator]();
  try {
    const start: Uint8Array[] = [];
    let length = 0;
    while (length < MAGIC_SIZE) {
      const next = await source.next();
      if (next.done === true) break;
      start.push(next.value);
      length += next.value.length;
    }
    const compression = detectCompression(Buffer.concat(start).subarray(0, MAGIC_SIZE));
    const chunks = resumed(start, source);
    if (recorder !== undefined) recorder.compression = compression;
    if (compression === 'gzip') yield* gunzip(chunks, recorder, isKept);
    else if (compression === 'zstd') yield* decompressZstd(chunks, recorder);
    else yield* chunks;
  } finally {
    await source.return?.();
  }
}

async function* resumed(
  start: readonly Uint8Array[],
  rest: AsyncIterator<Uint8Array>,
): AsyncGenerator<Uint8Array, void, void> {
  yield* start;
  for (let next = await rest.next(); next.done !== true; next = await rest.next()) yield next.value;
}

async function* transformed(
  chunks: AsyncIterable<Uint8Array>,
  transform: NodeJS.ReadWriteStream & AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array, void, void> {
  const ended = pipeline(Readable.from(chunks, { objectMode: true, highWaterMark: 2 }), transform);
  ended.catch(() => {
    // The iteration below throws the same error.
  });
  try {
    yield* transform;
  } catch (error) {
    throw isZlibError(error)
      ? new LayerError('CORRUPT', `damaged data: ${error.message}`, { cause: error })
      : error;
  }
}

function isZlibError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'code' in error && /^(Z_|ZSTD_|ERR_ZLIB_)/.test(String(error.code));
}

/** Node 22.15 and 24 have zstd, Node 20 has not. */
type ZstdConstructor = (options: { chunkSize: number }) => NodeJS.ReadWriteStream & AsyncIterable<Uint8Array>;
const createZstdDecompress = (zlib as { createZstdDecompress?: ZstdConstructor }).createZstdDecompress;
export const hasNativeZstd = createZstdDecompress !== undefined;

/** As `decompress` does it, of what is known to be zstd. */
export function decompressZstd(
  chunks: AsyncIterable<Uint8Array>,
  recorder?: CheckpointRecorder,
): AsyncGenerator<Uint8Array, void, void> {
  if (createZstdDecompress === undefined) return decompressZstdInScript(chunks, recorder);
  return recorder === undefined ? decompressFrames(chunks) : decompressEachFrame(chunks, recorder);
}

const newDecompressor = () =>
  createZstdDecompress?.({ chunkSize: OUTPUT_CHUNK_SIZE }) as ReturnType<ZstdConstructor>;

async function* decompressFrames(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
  yield* transformed(bytesOf(framePieces(chunks)), newDecompressor());
}

/** The output says where a frame begins only when each has a decompressor of its own. */
async function* decompressEachFrame(
  chunks: AsyncIterable<Uint8Array>,
  recorder: CheckpointRecorder,
): AsyncGenerator<Uint8Array, void, void> {
  const pieces = framePieces(chunks);
  let out = 0;
  for (let next = await pieces.next(); next.done !== true; next = await pieces.next()) {
    recorder.addFrame(next.value.frame, out);
    for await (const bytes of transformed(bytesOf(restOfFrame(next.value, pieces)), newDecompressor())) {
      out += bytes.length;
      yield bytes;
    }
  }
}

async function* restOfFrame(
  first: FramePiece,
  pieces: AsyncIterator<FramePiece, void>,
): AsyncGenerator<FramePiece, void, void> {
  for (let piece = first; ; ) {
    yield piece;
    if (piece.isLast) return;
    const next = await pieces.next();
    if (next.done === true) return;
    piece = next.value;
  }
}

/** `cutBlocks` as ZstdFrameSplitter has it. */
async function* framePieces(
  chunks: AsyncIterable<Uint8Array>,
  cutBlocks = false,
): AsyncGenerator<FramePiece, void, void> {
  const splitter = new ZstdFrameSplitter(cutBlocks);
  for await (const chunk of chunks) yield* splitter.push(chunk);
  splitter.finish();
}

async function* bytesOf(pieces: AsyncIterable<FramePiece>): AsyncGenerator<Uint8Array, void, void> {
  for await (const { bytes } of pieces) if (bytes.length > 0) yield bytes;
}

/** With fzstd, which checks no checksums: the diffID does that. Exported for the test on newer versions of Node. */
export async function* decompressZstdInScript(
  chunks: AsyncIterable<Uint8Array>,
  recorder?: CheckpointRecorder,
): AsyncGenerator<Uint8Array, void, void> {
  let output: Uint8Array[] = [];
  const newFrame = (): Decompress => new Decompress((bytes) => output.push(bytes));
  let decompressor = newFrame();
  let isFirst = true;
  let out = 0;
  // Block by block, since 4 bytes can stand for 128 KiB and fzstd gives all output of a push at once.
  for await (const { frame, bytes, isLast } of framePieces(chunks, true)) {
    if (isFirst) recorder?.addFrame(frame, out);
    try {
      decompressor.push(bytes, isLast);
    } catch (cause) {
      throw new LayerError('CORRUPT', 'zstd: damaged data', { cause });
    }
    if (isLast) decompressor = newFrame();
    isFirst = isLast;
    for (const { length } of output) out += length;
    yield* output;
    output = [];
  }
}
