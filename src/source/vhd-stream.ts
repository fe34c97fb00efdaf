/** A layer VHD laid out from beginning to end while its tar passes, by its recipe: nothing of the tar is kept. */
import type { LayerRecipe } from '../layer/recipe.js';
import { SourceError, type VhdPiece } from './source.js';

/** Chunks of a tar after which who waits for a piece hears that the stream is alive: what it skips may be long. */
const CHUNKS_OF_SILENCE = 64;
const NOTHING = new Uint8Array();

/**
 * The whole layer VHD in pieces of `pieceSize` bytes, in ascending order, and empty ones between. The tar is read no further than its last
 * extent, and is closed. Throws SourceError CORRUPT, and what `tar` throws.
 */
export async function* streamVhd(
  recipe: LayerRecipe,
  tar: AsyncIterable<Uint8Array>,
  pieceSize: number,
): AsyncGenerator<VhdPiece, void, void> {
  const reader = new TarReader(tar[Symbol.asyncIterator]());
  try {
    for (let offset = 0; offset < recipe.size; offset += pieceSize) {
      const bytes = Buffer.alloc(Math.min(pieceSize, recipe.size - offset));
      for (const { vhd, tar: at, length } of recipe.tarRanges(offset, bytes.length)) {
        const target = bytes.subarray(vhd - offset, vhd - offset + length);
        for (
          let done = reader.take(at, target);
          done < length;
          done += reader.take(at + done, target.subarray(done))
        ) {
          await reader.next();
          if (reader.chunks % CHUNKS_OF_SILENCE === 0) yield { offset, bytes: NOTHING };
        }
      }
      fillLiterals(recipe, offset, bytes);
      yield { offset, bytes };
    }
  } finally {
    await reader.close();
  }
}

/** Fills in the literals of a range of the VHD. Throws SourceError CORRUPT. */
export function fillLiterals(recipe: LayerRecipe, offset: number, bytes: Uint8Array): void {
  try {
    recipe.fillLiterals(offset, bytes);
  } catch (cause) {
    throw new SourceError('CORRUPT', (cause as Error).message, { cause });
  }
}

/** A tar that passes by once. */
class TarReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = new Uint8Array();
  /** That have been read. */
  chunks = 0;
  /** Offset in the tar of the first byte of #chunk. */
  #at = 0;

  constructor(chunks: AsyncIterator<Uint8Array>) {
    this.#chunks = chunks;
  }

  /** Copies what the chunk has of the bytes at `offset`, which are not before those that were taken last. */
  take(offset: number, target: Uint8Array): number {
    const bytes = this.#chunk.subarray(offset - this.#at, offset - this.#at + target.length);
    target.set(bytes);
    return bytes.length;
  }

  async next(): Promise<void> {
    this.#at += this.#chunk.length;
    this.chunks++;
    const next = await this.#chunks.next();
    if (next.done === true) throw new SourceError('CORRUPT', `the tar ends at byte ${this.#at}, too early`);
    this.#chunk = next.value;
  }

  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
}
