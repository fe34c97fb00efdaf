/**
 * Direct TCP transport (MS-SMB2 § 2.1): a zero byte, a 24-bit big-endian length, then that many bytes.
 *
 * The socket writes into a buffer of the reader, as much per system call as there is, and frames are views of that
 * buffer: nothing is copied but the beginning of a frame that does not fit into the rest of it. The buffer is
 * used again once all its frames are done with; the consumer says so of each.
 */
import { protocolError } from './error.js';

const PREFIX = 4;
/** What the buffer has beyond the longest frame: the beginning of the next one, which may have to be moved. */
const SLACK = 64 * 1024;

/** A frame with its prefix, ready to send. */
export function encodeFrame(packet: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(PREFIX + packet.length);
  frame.writeUInt32BE(packet.length);
  frame.set(packet, PREFIX);
  return frame;
}

export class FrameReader {
  /** Frames longer than this are a protocol error. */
  #limit: number;
  readonly #onFrame: (frame: Buffer) => boolean;
  #buffer: Buffer;
  /** Bytes `[#start, #end)` of the buffer are received and not yet given out. */
  #start = 0;
  #end = 0;
  #kept = false;

  /** `onFrame` says whether it has kept the frame (true), or whether its memory may be written again. */
  constructor(limit: number, onFrame: (frame: Buffer) => boolean) {
    this.#limit = limit;
    this.#onFrame = onFrame;
    this.#buffer = Buffer.allocUnsafeSlow(limit + PREFIX + SLACK);
  }

  /** Takes effect with the next bytes: the socket already has the address of the present buffer. */
  setLimit(limit: number): void {
    this.#limit = limit;
  }

  /** Where the next bytes go; never empty. */
  target(): Buffer {
    return this.#buffer.subarray(this.#end);
  }

  /** `count` bytes have been put into `target()`. Throws what `onFrame` throws, and PROTOCOL. */
  received(count: number): void {
    this.#end += count;
    for (;;) {
      const held = this.#end - this.#start;
      const length = held < PREFIX ? undefined : this.#frameLength();
      if (length === undefined || held < PREFIX + length) {
        const needed = PREFIX + (length ?? 0);
        const full = this.#start + needed > this.#buffer.length || this.#end === this.#buffer.length;
        if (full || (held === 0 && !this.#kept)) this.#renew();
        return;
      }
      const at = this.#start + PREFIX;
      this.#start = at + length;
      if (this.#onFrame(this.#buffer.subarray(at, at + length))) this.#kept = true;
    }
  }

  /** Moves what is held to the beginning, of a new buffer when somebody holds views of this one. */
  #renew(): void {
    const size = this.#limit + PREFIX + SLACK;
    const held = this.#buffer.subarray(this.#start, this.#end);
    if (this.#kept || this.#buffer.length !== size) this.#buffer = Buffer.allocUnsafeSlow(size);
    this.#buffer.set(held);
    this.#start = 0;
    this.#end = held.length;
    this.#kept = false;
  }

  #frameLength(): number {
    const prefix = this.#buffer.readUInt32BE(this.#start);
    if (prefix === 0 || prefix > 0xffffff) throw protocolError('a frame that is not of SMB');
    if (prefix > this.#limit)
      throw protocolError(`a frame of ${prefix} bytes where ${this.#limit} are the most`);
    return prefix;
  }
}
