/** Range reads that are asked for in one turn of the event loop, made with as few requests as possible. */

/** Bytes between two ranges that are cheaper to get than a second request is. */
const GAP = 8 << 10;
/** Of one request: what fails is asked for again as a whole. */
const MAX_REQUEST = 4 << 20;

interface Wanted {
  offset: number;
  end: number;
  resolve(bytes: Uint8Array): void;
  reject(error: unknown): void;
}

export type ReadBytes = (offset: number, length: number) => Promise<Uint8Array>;

/**
 * `length` bytes at `offset` of what lies in pieces, all of which are asked for at once. `pieceAt` gives the bytes from
 * `at` on, up to `end` at most, and where they end.
 */
export async function readPieces(
  offset: number,
  length: number,
  pieceAt: (at: number, end: number) => { bytes: Promise<Uint8Array>; end: number },
): Promise<Uint8Array> {
  const pieces: Promise<Uint8Array>[] = [];
  for (let at = offset; at < offset + length; ) {
    const { bytes, end } = pieceAt(at, offset + length);
    pieces.push(bytes);
    at = end;
  }
  // None is left under way when one has failed.
  await Promise.allSettled(pieces);
  return Buffer.concat(await Promise.all(pieces));
}

export class RangeJoiner {
  readonly #read: ReadBytes;
  #wanted: Wanted[] = [];

  constructor(read: ReadBytes) {
    this.#read = read;
  }

  /** A view that may share its buffer with those of others. */
  read(offset: number, length: number): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      if (this.#wanted.length === 0) setImmediate(() => this.#send());
      this.#wanted.push({ offset, end: offset + length, resolve, reject });
    });
  }

  #send(): void {
    const wanted = this.#wanted.sort((a, b) => a.offset - b.offset);
    this.#wanted = [];
    let run: Wanted[] = [];
    let end = 0;
    for (const want of wanted) {
      const start = run[0]?.offset ?? want.offset;
      if (run.length > 0 && (want.offset > end + GAP || want.end - start > MAX_REQUEST)) {
        void this.#request(run, end);
        run = [];
        end = 0;
      }
      run.push(want);
      end = Math.max(end, want.end);
    }
    if (run.length > 0) void this.#request(run, end);
  }

  async #request(run: readonly Wanted[], end: number): Promise<void> {
    const start = (run[0] as Wanted).offset;
    try {
      const bytes = await this.#read(start, end - start);
      for (const want of run) want.resolve(bytes.subarray(want.offset - start, want.end - start));
    } catch (error) {
      for (const want of run) want.reject(error);
    }
  }
}
