/**
 * Direct TCP transport (MS-SMB2 § 2.1): a zero byte, a 24-bit big-endian length, then that many bytes.
 *
 * The socket writes into a buffer of the reader, as much per system call as there is, and frames are views of that
 * buffer: nothing is copied but the beginning of a frame that does not fit into the rest of it. The buffer is
 * used again once all its frames are done with (frame-pool.ts); the consumer says so of each.
 */
import { protocolError } from './error.js';
import { FramePool, type Slab } from './frame-pool.js';

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
  readonly #onFrame: (frame: Buffer, slab: Slab) => boolean;
  readonly #pool: FramePool;
  #slab: Slab;
  /** Bytes `[#start, #end)` of the buffer are received and not yet given out. */
  #start = 0;
  #end = 0;

  /**
   * `onFrame` says whether it has kept the frame, which lies in the slab (true), or whether its memory may be written
   * again.
   */
  constructor(limit: number, onFrame: (frame: Buffer, slab: Slab) => boolean, pool = new FramePool()) {
    this.#limit = limit;
    this.#onFrame = onFrame;
    this.#pool = pool;
    this.#slab = pool.take(limit + PREFIX + SLACK);
  }

  /** Takes effect with the next bytes: the socket already has the address of the present buffer. */
  setLimit(limit: number): void {
    this.#limit = limit;
  }

  /** Where the next bytes go; never empty. */
  target(): Buffer {
    return this.#slab.buffer.subarray(this.#end);
  }

  /** `count` bytes have been put into `target()`. Throws what `onFrame` throws, and PROTOCOL. */
  received(count: number): void {
    this.#end += count;
    for (;;) {
      const held = this.#end - this.#start;
      const length = held < PREFIX ? undefined : this.#frameLength();
      if (length === undefined || held < PREFIX + length) {
        const needed = PREFIX + (length ?? 0);
        const size = this.#slab.buffer.length;
        const full = this.#start + needed > size || this.#end === size;
        if (full || (held === 0 && !this.#slab.isHeld)) this.#renew();
        return;
      }
      const at = this.#start + PREFIX;
      this.#start = at + length;
      // Counted first: what is kept may be given back in the same turn.
      const slab = this.#slab;
      slab.kept += 1;
      if (!this.#onFrame(slab.buffer.subarray(at, at + length), slab)) slab.kept -= 1;
    }
  }

  /** Moves what is held to the beginning, of a new buffer when somebody holds views of this one. */
  #renew(): void {
    const size = this.#limit + PREFIX + SLACK;
    const before = this.#slab;
    const held = before.buffer.subarray(this.#start, this.#end);
    if (before.isHeld || before.buffer.length !== size) this.#slab = this.#pool.take(size);
    this.#slab.buffer.set(held);
    this.#start = 0;
    this.#end = held.length;
    // Only now: what it still held has been moved.
    if (this.#slab !== before) this.#pool.retire(before);
  }

  #frameLength(): number {
    const prefix = this.#slab.buffer.readUInt32BE(this.#start);
    if (prefix === 0 || prefix > 0xffffff) throw protocolError('a frame that is not of SMB');
    if (prefix > this.#limit)
      throw protocolError(`a frame of ${prefix} bytes where ${this.#limit} are the most`);
    return prefix;
  }
}
