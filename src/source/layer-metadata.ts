/** The metadata of a layer VHD, fetched from where the layer is and verified: what a merge reads of it. */
import { ErofsError } from '../erofs/erofs-error.js';
import { checkRange, type ReadAt } from '../erofs/read-at.js';
import { readSuperblock } from '../erofs/superblock.js';
import { BLOCK_SIZE } from '../erofs/tree.js';
import type { RemoteLayer } from './image-assembly.js';
import { type LayerHandle, type Source, SourceError } from './source.js';

/** Bytes of metadata of one layer that are held in memory: those of about four million files. */
const MAX_METADATA = 1 << 30;
/** Bytes of one read from a source. */
const READ_BYTES = 1 << 20;

/**
 * Fetches everything of the layer but its file data, from the first source that has it. The reader throws ErofsError
 * UNSUPPORTED for file data. Throws SourceError, and ErofsError for a layer that is none of Orca's.
 */
export async function readLayerMetadata(
  layer: RemoteLayer,
  sources: readonly Source[],
  signal?: AbortSignal,
): Promise<ReadAt> {
  let failure: unknown = new SourceError('NOT_FOUND', `no source has the layer ${layer.diffID}`);
  for (const source of sources) {
    let handle: LayerHandle | undefined;
    try {
      handle = await source.openLayer(layer.diffID, signal);
      return await new MetadataReader(layer, handle, source.location).fetch(signal);
    } catch (error) {
      signal?.throwIfAborted();
      failure = error;
    } finally {
      await handle?.close();
    }
  }
  throw failure;
}

class MetadataReader {
  constructor(
    private readonly layer: RemoteLayer,
    private readonly handle: LayerHandle,
    private readonly location: string,
  ) {}

  async fetch(signal: AbortSignal | undefined): Promise<ReadAt> {
    const { size, digests } = this.layer;
    const head = await this.#read(0, 1, signal);
    const start = readSuperblock(slice(head, 0), size).metaBlock * BLOCK_SIZE;
    const firstBlock = Math.floor(start / digests.blockSize);
    if (firstBlock >= digests.count || size - start > MAX_METADATA) {
      throw new ErofsError('UNSUPPORTED', `layer ${this.layer.diffID}: its metadata are not at its end`);
    }
    const tailStart = firstBlock * digests.blockSize;
    const tail = Buffer.allocUnsafeSlow(size - tailStart);
    const step = Math.max(1, Math.floor(READ_BYTES / digests.blockSize));
    for (let block = firstBlock; block < digests.count; block += step) {
      const count = Math.min(step, digests.count - block);
      tail.set(await this.#read(block, count, signal), block * digests.blockSize - tailStart);
    }
    const inHead = slice(head, 0);
    const inTail = slice(tail, tailStart);
    return (offset, length) => (offset + length <= head.length ? inHead : inTail)(offset, length);
  }

  async #read(block: number, count: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
    const { digests, size, diffID } = this.layer;
    const { blockSize } = digests;
    const offset = block * blockSize;
    const bytes = await this.handle.read(offset, Math.min(size - offset, count * blockSize), signal);
    if (digests.chunkMap !== undefined && this.handle.verifiedBy === digests.chunkMap) return bytes;
    for (let index = 0; index < count; index++) {
      if (digests.verify(block + index, bytes.subarray(index * blockSize, (index + 1) * blockSize))) continue;
      throw new SourceError('CORRUPT', `${this.location}: block ${block + index} of ${diffID} is damaged`);
    }
    return bytes;
  }
}

/** Reads from bytes that lie at `start`. */
function slice(bytes: Uint8Array, start: number): ReadAt {
  return (offset, length) => {
    if (offset < start) throw new ErofsError('UNSUPPORTED', `file data at ${offset} are not metadata`);
    checkRange('a read', offset - start, length, bytes.length);
    return bytes.subarray(offset - start, offset - start + length);
  };
}
