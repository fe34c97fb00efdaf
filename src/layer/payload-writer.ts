/**
 * Writes a layer VHD from its first data block to its footer, and computes its block digests on the way.
 *
 * Bytes are collected in large aligned buffers, which are hashed when full and written by the thread pool. The
 * first BLOCK_SIZE bytes, the superblock, come last. What has been written can be read and taken back, which is
 * how files with equal content come to share their blocks.
 */
import { createHash } from 'node:crypto';
import { readSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { BLOCK_SIZE } from '../erofs/tree.js';
import { LayerError } from './layer-error.js';

/** Bytes of a buffer, unless digest blocks are larger. */
const BUFFER_SIZE = 1 << 20;

/** Buffers on their way to the disk; more would only take memory. */
const MAX_IN_FLIGHT = 4;

const DIGEST_SIZE = 32;

interface Flush {
  start: number;
  end: number;
  done: Promise<void>;
}

export class PayloadWriter {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #blockSize: number;
  #buffer: Uint8Array;
  /** Offset in the file of the first byte of #buffer, a multiple of its size. */
  #bufferStart = 0;
  /** Bytes of #buffer in use. */
  #used = BLOCK_SIZE;
  readonly #spare: Uint8Array[] = [];
  readonly #inFlight = new Set<Flush>();
  #digests: Uint8Array[] = [];
  /** The first digest block, kept until the superblock is known. */
  #firstBlock = new Uint8Array(0);
  #failure: unknown;

  /** `file` is open for reading and writing; `path` is for messages. */
  constructor(file: FileHandle, path: string, blockSize: number) {
    this.#file = file;
    this.#path = path;
    this.#blockSize = blockSize;
    this.#buffer = new Uint8Array(Math.max(BUFFER_SIZE, blockSize));
  }

  /** Where the next byte goes. */
  get position(): number {
    return this.#bufferStart + this.#used;
  }

  append(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const length = Math.min(bytes.length - done, this.#buffer.length - this.#used);
      this.#buffer.set(
        done === 0 && length === bytes.length ? bytes : bytes.subarray(done, done + length),
        this.#used,
      );
      this.#advance(length);
      done += length;
    }
  }

  /** Writes zeros up to `position`. */
  padTo(position: number): void {
    while (this.position < position) {
      const length = Math.min(position - this.position, this.#buffer.length - this.#used);
      this.#buffer.fill(0, this.#used, this.#used + length);
      this.#advance(length);
    }
  }

  #advance(length: number): void {
    this.#used += length;
    if (this.#used === this.#buffer.length) this.#flush();
  }

  #flush(): void {
    const buffer = this.#buffer;
    const start = this.#bufferStart;
    const bytes = buffer.subarray(0, this.#used);
    this.#addDigests(bytes, start);
    const flush: Flush = {
      start,
      end: this.position,
      done: this.#writeAll(bytes, start).finally(() => {
        this.#inFlight.delete(flush);
        this.#spare.push(buffer);
      }),
    };
    flush.done.catch((error: unknown) => {
      this.#failure ??= error;
    });
    this.#inFlight.add(flush);
    this.#bufferStart = flush.end;
    this.#used = 0;
    this.#buffer = this.#spare.pop() ?? new Uint8Array(buffer.length);
  }

  /**
   * On this thread: handing a block to the thread pool (crypto.subtle) was measured at 118 µs, of which most goes
   * into a copy, and hashing it at 90 µs.
   */
  #addDigests(bytes: Uint8Array, start: number): void {
    if (start === 0) this.#firstBlock = new Uint8Array(bytes.subarray(0, this.#blockSize));
    for (let at = start === 0 ? this.#blockSize : 0; at < bytes.length; at += this.#blockSize) {
      const block = bytes.subarray(at, at + this.#blockSize);
      this.#digests[(start + at) / this.#blockSize] = createHash('sha256').update(block).digest();
    }
  }

  async #writeAll(bytes: Uint8Array, position: number): Promise<void> {
    try {
      for (let done = 0; done < bytes.length; ) {
        const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, position + done);
        done += bytesWritten;
      }
    } catch (cause) {
      throw writeFailed(this.#path, cause);
    }
  }

  /** True while `ready` is worth waiting for. */
  get isAhead(): boolean {
    return this.#inFlight.size > MAX_IN_FLIGHT;
  }

  /** To be awaited between chunks of input: until little enough is on its way. Throws WRITE_FAILED. */
  async ready(): Promise<void> {
    while (this.#inFlight.size > MAX_IN_FLIGHT) await Promise.race(this.#pending());
    if (this.#failure !== undefined) throw this.#failure;
  }

  #pending(): Promise<void>[] {
    return [...this.#inFlight].map((flush) => flush.done.catch(() => undefined));
  }

  async #settled(from: number, to: number): Promise<void> {
    await Promise.all(
      [...this.#inFlight].filter(({ start, end }) => start < to && end > from).map(({ done }) => done),
    );
    // A write that failed before may be what is missing in the range.
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Whether two ranges that have been appended hold the same bytes. */
  async equals(first: number, second: number, length: number): Promise<boolean> {
    await this.#settled(first, first + length);
    await this.#settled(second, second + length);
    const pieceLength = Math.min(length, BUFFER_SIZE);
    const [a, b] = [Buffer.allocUnsafe(pieceLength), Buffer.allocUnsafe(pieceLength)];
    for (let done = 0; done < length; done += pieceLength) {
      const piece = Math.min(pieceLength, length - done);
      this.#read(first + done, a.subarray(0, piece));
      this.#read(second + done, b.subarray(0, piece));
      if (a.compare(b, 0, piece, 0, piece) !== 0) return false;
      if (done > 0) await new Promise(setImmediate);
    }
    return true;
  }

  /** What has been appended, from `position` on; views that are to be used before the next is taken. */
  async *written(position: number): AsyncGenerator<Uint8Array, void, void> {
    await this.#settled(position, Number.POSITIVE_INFINITY);
    const piece = Buffer.allocUnsafe(BUFFER_SIZE);
    for (let at = position; at < this.position; at += piece.length) {
      const bytes = piece.subarray(0, Math.min(piece.length, this.position - at));
      this.#read(at, bytes);
      yield bytes;
      await new Promise(setImmediate);
    }
  }

  /** Fills `target` with what was written at `position`: from the page cache, hence without waiting. */
  #read(position: number, target: Uint8Array): void {
    const onDisk = Math.max(0, Math.min(target.length, this.#bufferStart - position));
    for (let done = 0; done < onDisk; ) {
      const length = readSync(this.#file.fd, target, done, onDisk - done, position + done);
      if (length === 0)
        throw new LayerError('WRITE_FAILED', `${this.#path} was changed while it was written`);
      done += length;
    }
    const from = position + onDisk - this.#bufferStart;
    if (onDisk < target.length)
      target.set(this.#buffer.subarray(from, from + target.length - onDisk), onDisk);
  }

  /** Takes back what was appended from `position` on. */
  async rewind(position: number): Promise<void> {
    if (position < this.#bufferStart) {
      await this.#settled(0, Number.POSITIVE_INFINITY);
      const start = position - (position % this.#buffer.length);
      this.#read(start, this.#buffer.subarray(0, position - start));
      this.#digests.length = Math.min(this.#digests.length, start / this.#blockSize);
      this.#bufferStart = start;
    }
    this.#used = position - this.#bufferStart;
  }

  /** Writes the rest and the superblock, and syncs unless told not to. Returns the block digests, one after the other. */
  async finish(superblock: Uint8Array, isLasting = true): Promise<Uint8Array> {
    const size = this.position;
    if (this.#used > 0) this.#flush();
    await Promise.all([...this.#inFlight].map(({ done }) => done));
    await this.ready();
    this.#firstBlock.set(superblock);
    await this.#writeAll(superblock, 0);
    this.#digests[0] = createHash('sha256').update(this.#firstBlock).digest();
    try {
      await this.#file.truncate(size);
      if (isLasting) await this.#file.sync();
    } catch (cause) {
      throw writeFailed(this.#path, cause);
    }
    const digests = new Uint8Array(Math.ceil(size / this.#blockSize) * DIGEST_SIZE);
    for (const [block, digest] of this.#digests.entries()) digests.set(digest, block * DIGEST_SIZE);
    return digests;
  }

  /** Waits for what is on its way, without regard to how it ends: the file can be closed afterwards. */
  async abandon(): Promise<void> {
    await Promise.allSettled([...this.#inFlight].map(({ done }) => done));
  }
}

export function writeFailed(path: string, cause: unknown): LayerError {
  const what = cause instanceof Error ? cause.message : String(cause);
  return new LayerError('WRITE_FAILED', `cannot write ${path}: ${what}`, { cause });
}
