/** Gzip streams, inflated on a thread of the addon while the caller works on what came before. */
import { InflateError, Inflater } from '../native/inflate.js';
import type { CheckpointRecorder } from './checkpoint-recorder.js';
import { LayerError } from './layer-error.js';

/** Bytes in which output is delivered: a turn of the thread costs some 30 µs, so few large ones. */
const OUTPUT_CHUNK_SIZE = 512 << 10;
/** One is with the reader, one waits for it, one is being filled. */
const BUFFERS = 3;

/**
 * Members in a row are one stream; zeros after the last one are ignored. Throws LayerError CORRUPT for damaged or
 * truncated data, and what `chunks` throws. `recorder` gets checkpoints. `isKept`: what is given stays as it is;
 * otherwise only until the next is asked for, and memory is used again.
 */
export async function* gunzip(
  chunks: AsyncIterable<Uint8Array>,
  recorder?: CheckpointRecorder,
  isKept = true,
): AsyncGenerator<Uint8Array, void, void> {
  const stream = new GunzipStream(chunks[Symbol.asyncIterator](), recorder, isKept);
  let next = stream.next();
  try {
    for (;;) {
      const bytes = await next;
      if (bytes.length === 0) return;
      next = stream.next();
      // A failure is thrown when its turn comes.
      next.catch(() => undefined);
      yield bytes;
    }
  } finally {
    await next.catch(() => undefined);
  }
}

class GunzipStream {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #recorder: CheckpointRecorder | undefined;
  readonly #inflater = new Inflater();
  #input: Uint8Array = new Uint8Array(0);
  #needsInput = true;
  #mayEnd = false;
  readonly #isKept: boolean;
  readonly #buffers: Buffer[] = [];

  constructor(source: AsyncIterator<Uint8Array>, recorder: CheckpointRecorder | undefined, isKept: boolean) {
    this.#source = source;
    this.#recorder = recorder;
    this.#isKept = isKept;
  }

  /** The next bytes; empty at the end. */
  async next(): Promise<Uint8Array> {
    const output = this.#newBuffer();
    let filled = 0;
    while (filled < output.length && (await this.#hasInput())) {
      filled += await this.#inflate(output.subarray(filled));
    }
    return output.subarray(0, filled);
  }

  #newBuffer(): Buffer {
    const isFull = !this.#isKept && this.#buffers.length === BUFFERS;
    const buffer = (isFull && this.#buffers.shift()) || Buffer.allocUnsafeSlow(OUTPUT_CHUNK_SIZE);
    if (!this.#isKept) this.#buffers.push(buffer);
    return buffer;
  }

  /** False at the end of the stream. */
  async #hasInput(): Promise<boolean> {
    while (this.#needsInput && this.#input.length === 0) {
      const next = await this.#source.next();
      if (next.done === true) {
        if (this.#mayEnd) return false;
        throw new LayerError('CORRUPT', 'damaged data: unexpected end of file');
      }
      this.#input = next.value;
    }
    return true;
  }

  async #inflate(output: Uint8Array): Promise<number> {
    try {
      const step = await this.#inflater.run(this.#input, output, this.#recorder?.span);
      this.#input = this.#input.subarray(step.consumed);
      this.#needsInput = step.needsInput;
      this.#mayEnd = step.mayEnd;
      if (step.checkpoint !== undefined) this.#recorder?.add(step.checkpoint);
      return step.produced;
    } catch (error) {
      if (!(error instanceof InflateError)) throw error;
      throw new LayerError('CORRUPT', error.message, { cause: error });
    }
  }
}
