/** A layer blob to a layer VHD, in one pass and bounded memory: docs/FORMAT.md, "Layer VHD". */
import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { BLOCK_SIZE, type Directory, type RegularFile } from '../erofs/tree.js';
import { writeErofs } from '../erofs/writer.js';
import { TarParser } from '../tar/parser.js';
import type { TarEvent } from '../tar/tar.js';
import { fixedFooter } from '../vhd/vhd.js';
import { BlockDigests, DEFAULT_BLOCK_SIZE, isBlockSize } from './block-digests.js';
import { decompress } from './decompress.js';
import { FileData } from './file-data.js';
import { LayerError } from './layer-error.js';
import { LayerTree } from './layer-tree.js';
import { PayloadWriter, writeFailed } from './payload-writer.js';

export { LayerError } from './layer-error.js';

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

export interface ExpandedLayer {
  diffID: string;
  /** Length of the layer VHD in bytes. */
  size: number;
  digests: BlockDigests;
  inodes: number;
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
  if (!isBlockSize(blockSize)) throw new RangeError(`${blockSize} is no block size`);
  return withNewFile(options.output, async (file) => {
    const writer = new PayloadWriter(file, options.output, blockSize);
    try {
      const expansion = new Expansion(writer, options);
      const diffID = await expansion.consume(blob);
      return await finishVhd(writer, expansion.tree.finish(), diffID, blockSize);
    } catch (error) {
      await writer.abandon();
      throw error;
    }
  });
}

/** Runs `write` with a file that did not exist before, and removes the file when that fails. */
export async function withNewFile<T>(path: string, write: (file: FileHandle) => Promise<T>): Promise<T> {
  let file: FileHandle;
  try {
    file = await open(path, 'wx+', 0o644);
  } catch (cause) {
    throw writeFailed(path, cause);
  }
  try {
    return await write(file);
  } catch (error) {
    await unlink(path);
    throw error;
  } finally {
    await file.close();
  }
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

/** Metadata, superblock and footer behind the data that is there. */
export async function finishVhd(
  writer: PayloadWriter,
  root: Directory,
  diffID: string,
  blockSize: number,
): Promise<ExpandedLayer> {
  const uuid = uuidOf(diffID);
  const erofs = writeErofs(root, { uuid, dataBlocks: writer.position / BLOCK_SIZE - 1 });
  for (const piece of erofs.metadata) {
    writer.append(piece);
    await writer.ready();
  }
  writer.append(fixedFooter(erofs.blocks * BLOCK_SIZE, uuid));
  const size = writer.position;
  const digests = await writer.finish(erofs.superblock);
  return {
    diffID,
    size,
    digests: new BlockDigests({ diffID, blockSize, size, digests }),
    inodes: erofs.inodes,
  };
}

/** The first 16 bytes of the digest, marked as a UUID of version 8 (RFC 9562 §5.8). */
function uuidOf(diffID: string): Uint8Array {
  const uuid = Buffer.from(diffID.slice('sha256:'.length), 'hex').subarray(0, 16);
  uuid[6] = ((uuid[6] as number) & 0x0f) | 0x80;
  uuid[8] = ((uuid[8] as number) & 0x3f) | 0x80;
  return uuid;
}
