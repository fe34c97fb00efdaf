/**
 * The checked side of the native Inflater, which inflates gzip on threads of its own: from the beginning, or from a
 * checkpoint in the middle of a blob.
 */
import { OrcaError } from '../errors.js';
import { binding, type NativeInflater } from './binding.js';
import { checkBytes, checkInteger, checkOptions } from './check.js';

/** Deflate refers to this many bytes before at most (RFC 1951 §3.3). */
export const WINDOW_SIZE = 32768;

/** A place at which inflating can begin. */
export interface Checkpoint {
  /** Bytes of the blob, and of the output, before it. */
  in: number;
  out: number;
  /** 0 to 7: as many high bits of the byte before it belong to what follows. */
  bits: number;
  /** A gzip member begins here. */
  member: boolean;
  /** The output before it, at most WINDOW_SIZE bytes; empty at the beginning of a member. */
  window: Uint8Array;
}

export interface InflateStep {
  /** Bytes of the input that were used, and of the output that were written. */
  consumed: number;
  produced: number;
  /** The input was used up and the output is not full. */
  needsInput: boolean;
  /** The stream is complete if nothing follows. */
  mayEnd: boolean;
  /** One that was recorded; the step ended with it. */
  checkpoint?: Checkpoint;
}

/** What is wrong with compressed data. Code: CORRUPT. */
export class InflateError extends OrcaError {}

/** Where within a member to begin. */
export interface InflateStart {
  /** 0 to 7, and the byte before the first one of the input, whose high bits they are. */
  bits: number;
  byte: number;
  window: Uint8Array;
}

export class Inflater {
  readonly #native: NativeInflater;
  #running = false;

  /** Without `start`, at the beginning of a gzip member. */
  constructor(start?: InflateStart) {
    if (start === undefined) {
      this.#native = new binding.Inflater();
      return;
    }
    checkOptions(start);
    checkInteger(start.bits, 'bits', 0, 7);
    checkInteger(start.byte, 'byte', 0, 255);
    const length = checkBytes(start.window, 'window');
    if (length > WINDOW_SIZE) throw new RangeError(`a window of ${length} bytes`);
    this.#native = new binding.Inflater(start.bits, start.byte >> (8 - start.bits), start.window);
  }

  /**
   * Inflates into `output` from `input`, until one of the two is used up. Neither may be changed, nor their buffers
   * transferred, before the promise settles; one call at a time. With `span`, checkpoints are recorded that many
   * bytes of output apart, or somewhat more. Throws InflateError; nothing can follow after it.
   */
  async run(input: Uint8Array, output: Uint8Array, span = 0): Promise<InflateStep> {
    checkBytes(input, 'input');
    checkBytes(output, 'output');
    checkInteger(span, 'span', 0, Number.MAX_SAFE_INTEGER);
    if (this.#running) throw new Error('the inflater is running');
    this.#running = true;
    try {
      const step = await this.#native.run(input, output, span);
      if (step.error !== undefined) throw new InflateError('CORRUPT', `damaged data: ${step.error}`);
      return step;
    } finally {
      this.#running = false;
    }
  }
}
