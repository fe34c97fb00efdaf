/** A layer blob to a layer VHD, in one pass and bounded memory: docs/FORMAT.md, "Layer VHD". */
import { createHash, type Hash } from 'node:crypto';
import type { RegularFile } from '../erofs/tree.js';
import { TarParser } from '../tar/parser.js';
import type { TarEvent } from '../tar/tar.js';
import { DEFAULT_BLOCK_SIZE } from './block-digests.js';
import { decompress } from './decompress.js';
import { FileData } from './file-data.js';
import { LayerError } from './layer-error.js';
import { LayerTree } from './layer-tree.js';
import { appendMetadata, type ExpandedLayer, sealLayer, uuidOf, writeLayer } from './layer-vhd.js';
import type { PayloadWriter } from './payload-writer.js';

export { LayerError } from './layer-error.js';
export type { ExpandedLayer } from './layer-vhd.js';

export interface ExpandOptions {
  /** Path of the layer VHD: must not exist, is complete and synced when the promise resolves, else removed. */
  output: string;
  /** Digest that the blob must have, as `sha256:…`. */
  blobDigest?: string;
  /** Digest that the uncompressed tar must have, as `sha256:…`. */
  diffID?: string;
  /** Bytes of a digest block; DEFAULT_BLOCK_SIZE unless given. */
  blockSize?: number;
  signal?: AbortSignal;
  /** After each chunk: bytes of the blob that were read, bytes of the VHD so far. */
  onProgress?(progress: { bytesIn: number; bytesOut: number }): void;
  /** What of the tar was ignored, such as an xattr that no layer keeps. */
  onWarning?(message: string): void;
}

/**
 * Expands a gzip, zstd or plain tar. Throws LayerError, TarError or ErofsError for what the tar does wrong, and
 * whatever `blob` or the signal throws.
 */
export async function expandLayer(
  blob: AsyncIterable<Uint8Array>,
  options: ExpandOptions,
): Promise<ExpandedLayer> {
  const blockSize = options.blockSize ?? DEFAULT_BLOCK_SIZE;
  return writeLayer(options.output, blockSize, async (writer) => {
    const expansion = new Expansion(writer, options);
    const diffID = await expansion.consume(blob);
    const erofs = await appendMetadata(writer, expansion.tree.finish(), uuidOf(diffID));
    return sealLayer(writer, erofs, diffID, blockSize);
  });
}

/** What is known of the blob so far. */
class Expansion {
  readonly tree: LayerTree;
  readonly #data: FileData;
  readonly #parser = new TarParser();
  readonly #blobHash = createHash('sha256');
  readonly #tarHash = createHash('sha256');
  #bytesIn = 0;
  /** The file whose data events follow. */
  #file: RegularFile | undefined;

  constructor(
    readonly writer: PayloadWriter,
    readonly options: ExpandOptions,
  ) {
    this.tree = new LayerTree((message) => options.onWarning?.(message));
    this.#data = new FileData(writer);
  }

  /** Reads the blob to its end, checks its digests, and returns the diffID. */
  async consume(blob: AsyncIterable<Uint8Array>): Promise<string> {
    for await (const chunk of decompress(this.#counted(blob))) {
      this.options.signal?.throwIfAborted();
      this.#tarHash.update(chunk);
      await this.#take(this.#parser.push(chunk));
      await this.writer.ready();
      this.options.onProgress?.({ bytesIn: this.#bytesIn, bytesOut: this.writer.position });
    }
    checkDigest('the blob', this.#blobHash, this.options.blobDigest);
    const diffID = checkDigest('the uncompressed layer', this.#tarHash, this.options.diffID);
    await this.#take(this.#parser.finish());
    return diffID;
  }

  async *#counted(blob: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
    for await (const chunk of blob) {
      this.#bytesIn += chunk.length;
      this.#blobHash.update(chunk);
      yield chunk;
    }
  }

  async #take(events: Iterable<TarEvent>): Promise<void> {
    for (const event of events) {
      switch (event.kind) {
        case 'entry':
          this.#file = this.tree.add(event.entry);
          if (this.#file === undefined) this.#parser.skipData();
          else this.#data.begin(event.entry);
          break;
        case 'data':
          this.#data.append(event.offset, event.bytes);
          break;
        case 'end':
          if (this.#file !== undefined) this.#file.extents = await this.#data.end();
          break;
        default:
          this.options.onWarning?.(event.message);
      }
    }
  }
}

function checkDigest(what: string, hash: Hash, expected: string | undefined): string {
  const digest = `sha256:${hash.digest('hex')}`;
  if (expected !== undefined && digest !== expected) {
    throw new LayerError('DIGEST_MISMATCH', `${what} has the digest ${digest}, but should have ${expected}`);
  }
  return digest;
}
