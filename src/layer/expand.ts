/** A layer blob to a layer VHD, in one pass and bounded memory: docs/FORMAT.md, "Layer VHD". */
import { createHash } from 'node:crypto';
import type { RegularFile } from '../erofs/tree.js';
import { OrcaError } from '../errors.js';
import { TarParser } from '../tar/parser.js';
import type { TarEvent } from '../tar/tar.js';
import { BlobReader } from './blob-reader.js';
import { DEFAULT_BLOCK_SIZE } from './block-digests.js';
import { CheckpointRecorder } from './checkpoint-recorder.js';
import { decompress } from './decompress.js';
import { FileData } from './file-data.js';
import { LayerError } from './layer-error.js';
import { LayerTree } from './layer-tree.js';
import { appendMetadata, type ExpandedLayer, sealLayer, uuidOf, writeLayer } from './layer-vhd.js';
import type { PayloadWriter } from './payload-writer.js';
import { RecipeBuilder } from './recipe-builder.js';

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
  /** False: the file need not survive a crash of the machine, so it is not synced; default true. */
  isLasting?: boolean;
  signal?: AbortSignal;
  /** After each chunk: bytes of the blob that were read, bytes of the VHD so far. */
  onProgress?(progress: { bytesIn: number; bytesOut: number }): void;
  /** What of the tar was ignored, such as an xattr that no layer keeps. */
  onWarning?(message: string): void;
}

/** A compressed layer of a few megabytes can be any number of bytes; 256 GiB are more than images have. */
export const MAX_TAR_BYTES = 256 * 2 ** 30;

/**
 * Expands a gzip, zstd or plain tar. Throws LayerError, TarError or ErofsError for what the tar does wrong, and
 * whatever `blob` or the signal throws. When a blob has another digest than it should, DIGEST_MISMATCH says so,
 * even if it is too damaged to be read to its end.
 */
export async function expandLayer(
  blob: AsyncIterable<Uint8Array>,
  options: ExpandOptions,
): Promise<ExpandedLayer> {
  const blockSize = options.blockSize ?? DEFAULT_BLOCK_SIZE;
  return writeLayer(options.output, blockSize, async (writer) => {
    const expansion = new Expansion(writer, options);
    const { diffID, blobDigest, checkpoints } = await expansion.consume(blob);
    const erofs = await appendMetadata(writer, expansion.tree.finish(), uuidOf(diffID));
    const layer = await sealLayer(writer, erofs, {
      diffID,
      blockSize,
      recipe: expansion.recipe,
      ...(options.isLasting === undefined ? {} : { isLasting: options.isLasting }),
    });
    return { ...layer, blobDigest, checkpoints };
  });
}

/** What is known of the blob so far. */
class Expansion {
  readonly tree: LayerTree;
  readonly recipe = new RecipeBuilder();
  readonly #data: FileData;
  readonly #parser = new TarParser();
  readonly #tarHash = createHash('sha256');
  readonly #recorder = new CheckpointRecorder();
  #tarSize = 0;
  /** The file whose data events follow. */
  #file: RegularFile | undefined;

  constructor(
    readonly writer: PayloadWriter,
    readonly options: ExpandOptions,
  ) {
    this.tree = new LayerTree((message) => options.onWarning?.(message));
    this.#data = new FileData(writer, this.recipe);
  }

  /** Reads the blob to its end and checks its digests. */
  async consume(
    blob: AsyncIterable<Uint8Array>,
  ): Promise<{ diffID: string; blobDigest: string; checkpoints: Uint8Array }> {
    const { signal, blobDigest, diffID } = this.options;
    const reader = new BlobReader(blob);
    let digestRead: string;
    try {
      await this.#read(reader);
      digestRead = await reader.digest(signal);
      if (blobDigest !== undefined) checkDigest('the blob', digestRead, blobDigest);
    } catch (error) {
      if (blobDigest !== undefined && blamesBlob(error) && !reader.hasFailed) {
        checkDigest('the blob', await reader.digest(signal), blobDigest, error);
      }
      throw error;
    } finally {
      await reader.close();
    }
    const digest = `sha256:${this.#tarHash.digest('hex')}`;
    if (diffID !== undefined) checkDigest('the uncompressed layer', digest, diffID);
    const checkpoints = await this.#recorder.finish({
      digest: digestRead,
      size: reader.bytesRead,
      tarSize: this.#tarSize,
    });
    return { diffID: digest, blobDigest: digestRead, checkpoints };
  }

  async #read(reader: BlobReader): Promise<void> {
    for await (const chunk of decompress(reader, this.#recorder, false)) {
      this.options.signal?.throwIfAborted();
      this.#tarHash.update(chunk);
      this.#tarSize += chunk.length;
      if (this.#tarSize > MAX_TAR_BYTES) {
        throw new LayerError('TOO_LARGE', `layer: more than ${MAX_TAR_BYTES} bytes uncompressed`);
      }
      await this.#take(this.#parser.push(chunk));
      await this.writer.ready();
      this.options.onProgress?.({ bytesIn: reader.bytesRead, bytesOut: this.writer.position });
    }
    await this.#take(this.#parser.finish());
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
          // A few bytes of a sparse file can be many of the layer.
          if (this.writer.isAhead) await this.writer.ready();
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

/** True of an error that damaged bytes can be the reason for. */
function blamesBlob(error: unknown): boolean {
  const own =
    error instanceof LayerError && (error.code === 'WRITE_FAILED' || error.code === 'DIGEST_MISMATCH');
  return error instanceof OrcaError && !error.retryable && !own;
}

function checkDigest(what: string, digest: string, expected: string, cause?: unknown): void {
  if (digest === expected) return;
  throw new LayerError('DIGEST_MISMATCH', `${what} has the digest ${digest}, but should have ${expected}`, {
    cause,
  });
}
