/** A blob in a registry: streamed whole and verified, or read by ranges. */
import { verifyStream } from './digest.js';
import { type HttpResponse, headerOf } from './http-client.js';
import type { Descriptor } from './manifest.js';
import { RegistryError } from './registry-error.js';
import { pauseAfter, withRetries } from './retry.js';

/** Failures in a row, without progress between them, that end a stream. */
const MAX_FAILURES = 6;
/** Bytes that count as progress: a server that sends one byte at a time is not worth waiting for. */
const PROGRESS = 64 << 10;
const RANGE_ATTEMPTS = 3;

/** Gets the blob, or the bytes of a Range header of it; answers with 200 or 206. */
export type FetchBlob = (range: string | undefined, signal: AbortSignal | undefined) => Promise<HttpResponse>;

export class RemoteBlob {
  readonly descriptor: Descriptor;
  readonly #fetch: FetchBlob;
  readonly #what: string;

  /** `what` names it in messages. */
  constructor(descriptor: Descriptor, fetch: FetchBlob, what: string) {
    this.descriptor = descriptor;
    this.#fetch = fetch;
    this.#what = what;
  }

  /**
   * The whole blob, verified at its end; a connection that is cut is taken up again where it ended. Throws
   * RegistryError, and OciError DIGEST_MISMATCH or SIZE_MISMATCH.
   */
  stream(signal?: AbortSignal): AsyncGenerator<Uint8Array, void, void> {
    return verifyStream(this.#chunks(signal), this.descriptor, this.#what);
  }

  /**
   * `length` bytes at `offset`, both within the blob. Not verified: a part has no digest. Throws RegistryError
   * UNSUPPORTED from a registry that sends no ranges.
   */
  async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    if (length === 0) return new Uint8Array();
    return withRetries(RANGE_ATTEMPTS, signal, async () => {
      const response = await this.#fetch(`bytes=${offset}-${offset + length - 1}`, signal);
      if (response.status === 200 && length !== this.descriptor.size) {
        await response.body.discard();
        throw new RegistryError('UNSUPPORTED', `${this.#what}: ${response.url.host} does not send ranges`);
      }
      if (response.status === 206) this.#checkStart(response, offset);
      const bytes = await response.body.read(length);
      if (bytes.length === length) return bytes;
      throw this.#cut(offset + bytes.length);
    });
  }

  /** Asks for its first byte, once. Throws RegistryError. */
  async probe(signal?: AbortSignal): Promise<void> {
    const response = await this.#fetch('bytes=0-0', signal);
    await response.body.discard();
  }

  async *#chunks(signal: AbortSignal | undefined): AsyncGenerator<Uint8Array, void, void> {
    const { size } = this.descriptor;
    let done = 0;
    for (let failures = 0, doneBefore = 0; done < size; ) {
      try {
        const response = await this.#fetch(done === 0 ? undefined : `bytes=${done}-`, signal);
        if (response.status === 206) this.#checkStart(response, done);
        let skip = response.status === 206 ? 0 : done;
        for await (const chunk of response.body) {
          const wanted = skip === 0 ? chunk : chunk.subarray(Math.min(skip, chunk.length));
          skip -= chunk.length - wanted.length;
          done += wanted.length;
          if (wanted.length > 0) yield wanted;
        }
        if (done < size) throw this.#cut(done);
      } catch (error) {
        failures = done - doneBefore >= PROGRESS ? 1 : failures + 1;
        doneBefore = done;
        if (failures > MAX_FAILURES) throw error;
        await pauseAfter(error, failures, signal);
      }
    }
  }

  #cut(at: number): RegistryError {
    const message = `${this.#what} ${this.descriptor.digest}: the connection ended at byte ${at}`;
    return new RegistryError('CONNECTION_LOST', message, { retryable: true });
  }

  #checkStart(response: HttpResponse, offset: number): void {
    const range = headerOf(response.headers, 'content-range') ?? '';
    const start = /^bytes (\d{1,16})-/.exec(range)?.[1];
    if (start !== undefined && Number(start) === offset) return;
    void response.body.discard();
    throw new RegistryError(
      'PROTOCOL',
      `${this.#what}: asked for byte ${offset}, the answer has another range`,
    );
  }
}
