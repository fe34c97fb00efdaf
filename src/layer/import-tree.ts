/**
 * A layer VHD made elsewhere, or any uncompressed EROFS image, to a layer VHD as this project writes them: one run
 * of blocks per file, in the order of the tree, no inline data.
 *
 * There is no tar, so what stands for the diffID is the sha256 of the payload that is written. It must not depend
 * on itself: the EROFS UUID is zero.
 */
import { createHash } from 'node:crypto';
import { ErofsError, ErofsImage, type ReadAt, readTree } from '../erofs/reader.js';
import {
  BLOCK_SIZE,
  type ByteString,
  type Directory,
  type FileExtent,
  type RegularFile,
} from '../erofs/tree.js';
import type { SparseSegment } from '../tar/tar.js';
import { DEFAULT_BLOCK_SIZE } from './block-digests.js';
import { FileData } from './file-data.js';
import { appendMetadata, type ExpandedLayer, sealLayer, writeLayer } from './layer-vhd.js';
import type { PayloadWriter } from './payload-writer.js';

export interface ImportOptions {
  /** As in ExpandOptions. */
  output: string;
  blockSize?: number;
  signal?: AbortSignal;
  onProgress?(progress: { bytesIn: number; bytesOut: number }): void;
}

/** Bytes that are read at a time. */
const PIECE_SIZE = 1 << 20;

/**
 * Re-lays the EROFS image that lies in the first bytes of a payload of `size` bytes; openVhd() gives one. Throws
 * ErofsError for an image that is damaged, compressed or has further devices, LayerError for a failed write.
 */
export async function importTree(
  payload: { readAt: ReadAt; size: number },
  options: ImportOptions,
): Promise<ExpandedLayer> {
  const blockSize = options.blockSize ?? DEFAULT_BLOCK_SIZE;
  const image = ErofsImage.open(payload.readAt, payload.size);
  const inline = new Map<RegularFile, number>();
  const root = readTree(image, { inline });
  return writeLayer(options.output, blockSize, async (writer) => {
    const copy = new TreeCopy(image, payload.readAt, inline, writer, options);
    for (const file of filesInOrder(root)) file.extents = await copy.copy(file);
    const erofs = await appendMetadata(writer, root, new Uint8Array(16));
    const hash = createHash('sha256').update(erofs.superblock);
    for await (const bytes of writer.written(BLOCK_SIZE)) hash.update(bytes);
    return sealLayer(writer, erofs, { diffID: `sha256:${hash.digest('hex')}`, blockSize });
  });
}

/** Each regular file once, depth first, names in byte order, as a sorted tar has them. */
function filesInOrder(root: Directory): Set<RegularFile> {
  const files = new Set<RegularFile>();
  const todo = [root];
  for (let directory = todo.pop(); directory !== undefined; directory = todo.pop()) {
    const names: ByteString[] = [...directory.children.keys()].sort();
    const directories: Directory[] = [];
    for (const name of names) {
      const inode = directory.children.get(name);
      if (inode?.kind === 'file') files.add(inode);
      else if (inode?.kind === 'directory') directories.push(inode);
    }
    todo.push(...directories.reverse());
  }
  return files;
}

class TreeCopy {
  readonly #data: FileData;
  /** New extents by old ones, so that files which share theirs are read once. */
  readonly #copied = new Map<string, readonly FileExtent[]>();
  #bytesIn = 0;

  constructor(
    readonly image: ErofsImage,
    readonly readAt: ReadAt,
    readonly inline: ReadonlyMap<RegularFile, number>,
    readonly writer: PayloadWriter,
    readonly options: ImportOptions,
  ) {
    this.#data = new FileData(writer);
  }

  /** The extents that the file's data gets. `file` still has the old ones. */
  async copy(file: RegularFile): Promise<readonly FileExtent[]> {
    const nid = this.inline.get(file);
    const key = `${file.size} ${JSON.stringify(file.extents)}`;
    const known = nid === undefined ? this.#copied.get(key) : undefined;
    if (known !== undefined) return known;
    const tail = nid === undefined ? 0 : this.image.inlineBytes(nid);
    const segments = segmentsOf(file, tail);
    const stored = segments.reduce((total, { length }) => total + length, 0);
    this.#data.begin(stored === file.size ? { size: file.size } : { size: file.size, segments });
    for (const extent of file.extents) await this.#copyExtent(extent, file.size - tail);
    if (nid !== undefined) {
      this.#data.append(file.size - tail, this.image.readFile(nid, file.size - tail, tail));
      await this.#breathe(tail);
    }
    const extents = await this.#data.end();
    if (nid === undefined) this.#copied.set(key, extents);
    return extents;
  }

  async #copyExtent({ fileOffset, device, block, blocks }: FileExtent, end: number): Promise<void> {
    if (device !== 0) {
      throw new ErofsError(
        'UNSUPPORTED',
        'the image has data on other devices; give an image that is complete',
      );
    }
    const length = Math.min(blocks * BLOCK_SIZE, end - fileOffset);
    for (let done = 0; done < length; done += PIECE_SIZE) {
      const piece = Math.min(PIECE_SIZE, length - done);
      this.#data.append(fileOffset + done, this.readAt(block * BLOCK_SIZE + done, piece));
      await this.#breathe(piece);
    }
  }

  async #breathe(bytes: number): Promise<void> {
    this.#bytesIn += bytes;
    this.options.signal?.throwIfAborted();
    await this.writer.ready();
    this.options.onProgress?.({ bytesIn: this.#bytesIn, bytesOut: this.writer.position });
  }
}

/** Which bytes of the file are stored: its extents, up to its size, and the inline tail. */
function segmentsOf(file: RegularFile, tail: number): SparseSegment[] {
  const segments = file.extents.map(({ fileOffset, blocks }) => ({
    offset: fileOffset,
    length: Math.min(blocks * BLOCK_SIZE, file.size - tail - fileOffset),
  }));
  return tail === 0 ? segments : [...segments, { offset: file.size - tail, length: tail }];
}
