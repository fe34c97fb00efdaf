/**
 * Direct TCP transport (MS-SMB2 § 2.1): a zero byte, a 24-bit big-endian length, then that many bytes.
 *
 * The reader says where the socket shall put the next bytes. Small frames pass through a scratch buffer; the rest
 * of a large one is received straight into a buffer of its own, so its bytes are not copied again.
 */
import { protocolError } from './error.js';

const PREFIX = 4;
/** Holds any request's answer but data, so that many small frames cost one system call. */
const SCRATCH = 16 * 1024;

/** A frame with its prefix, ready to send. */
export function encodeFrame(packet: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(PREFIX + packet.length);
  frame.writeUInt32BE(packet.length);
  frame.set(packet, PREFIX);
  return frame;
}

export class FrameReader {
  /** Frames longer than this are a protocol error. */
  limit: number;
  readonly #onFrame: (frame: Buffer) => void;
  readonly #scratch = Buffer.allocUnsafeSlow(SCRATCH);
  #held = 0;
  #frame: Buffer | undefined;
  #filled = 0;

  constructor(limit: number, onFrame: (frame: Buffer) => void) {
    this.limit = limit;
    this.#onFrame = onFrame;
  }

  /** Where the next bytes go; never empty. */
  target(): Buffer {
    return this.#frame === undefined
      ? this.#scratch.subarray(this.#held)
      : this.#frame.subarray(this.#filled);
  }

  /** `count` bytes have been put into `target()`. Throws what `onFrame` throws, and PROTOCOL. */
  received(count: number): void {
    if (this.#frame !== undefined) {
      this.#filled += count;
      if (this.#filled === this.#frame.length) this.#emit(this.#frame);
      return;
    }
    const end = this.#held + count;
    let start = 0;
    while (end - start >= PREFIX) {
      const length = this.#frameLength(start);
      const frame = Buffer.allocUnsafeSlow(length);
      const present = Math.min(length, end - start - PREFIX);
      this.#scratch.copy(frame, 0, start + PREFIX, start + PREFIX + present);
      start += PREFIX + present;
      if (present < length) {
        this.#frame = frame;
        this.#filled = present;
      } else this.#emit(frame);
    }
    this.#scratch.copyWithin(0, start, end);
    this.#held = end - start;
  }

  #frameLength(at: number): number {
    const prefix = this.#scratch.readUInt32BE(at);
    if (prefix === 0 || prefix > 0xffffff) throw protocolError('a frame that is not of SMB');
    if (prefix > this.limit)
      throw protocolError(`a frame of ${prefix} bytes where ${this.limit} are the most`);
    return prefix;
  }

  #emit(frame: Buffer): void {
    this.#frame = undefined;
    this.#onFrame(frame);
  }
}
