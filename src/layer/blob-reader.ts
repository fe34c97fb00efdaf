/** A blob that is hashed while it is read, whoever reads it and however far. */
import { createHash } from 'node:crypto';

export class BlobReader implements AsyncIterable<Uint8Array> {
  readonly #source: AsyncIterator<Uint8Array>;
  readonly #hash = createHash('sha256');
  #last: Promise<IteratorResult<Uint8Array, undefined>> = Promise.resolve({ done: true, value: undefined });
  #ended = false;
  /** Bytes so far. */
  bytesRead = 0;
  /** The blob threw an error. */
  hasFailed = false;

  constructor(blob: AsyncIterable<Uint8Array>) {
    this.#source = blob[Symbol.asyncIterator]();
  }

  /** The bytes that have not been read yet. Who stops iterating does not close the blob: see close(). */
  [Symbol.asyncIterator](): AsyncIterator<Uint8Array, undefined> {
    return { next: () => this.#next() };
  }

  /** One read after the other, since a stream between may still wait for one when it is given up. */
  #next(): Promise<IteratorResult<Uint8Array, undefined>> {
    this.#last = this.#last.then(() => this.#read());
    return this.#last;
  }

  async #read(): Promise<IteratorResult<Uint8Array, undefined>> {
    if (this.#ended) return { done: true, value: undefined };
    let result: IteratorResult<Uint8Array>;
    try {
      result = await this.#source.next();
    } catch (error) {
      this.#ended = true;
      this.hasFailed = true;
      throw error;
    }
    if (result.done === true) {
      this.#ended = true;
      return { done: true, value: undefined };
    }
    this.bytesRead += result.value.length;
    this.#hash.update(result.value);
    return result;
  }

  /** Reads to the end and gives the digest of all bytes, `sha256:…`. Once only. Throws what the blob throws. */
  async digest(signal: AbortSignal | undefined): Promise<string> {
    for (let result = await this.#next(); result.done !== true; result = await this.#next()) {
      signal?.throwIfAborted();
    }
    return `sha256:${this.#hash.digest('hex')}`;
  }

  async close(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#source.return?.();
  }
}
