/** The frame of a layer VHD around its data: a new file, then metadata, footer and superblock. */
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { BLOCK_SIZE, type Directory } from '../erofs/tree.js';
import { type WrittenErofs, writeErofs } from '../erofs/writer.js';
import { fixedFooter } from '../vhd/vhd.js';
import { BlockDigests, isBlockSize } from './block-digests.js';
import { PayloadWriter, writeFailed } from './payload-writer.js';
import type { RecipeBuilder } from './recipe-builder.js';

export interface ExpandedLayer {
  diffID: string;
  /** Length of the layer VHD in bytes. */
  size: number;
  digests: BlockDigests;
  inodes: number;
  /** The encoded recipe; absent of a layer without tar, or beyond the limits of the format. */
  recipe?: Uint8Array;
  /** Digest of the blob, and its encoded checkpoints; absent of a layer that was imported. */
  blobDigest?: string;
  checkpoints?: Uint8Array;
}

/**
 * Runs `write` with the payload of a file that did not exist before, and removes the file when that fails. Throws
 * WRITE_FAILED, or what `write` throws.
 */
export async function writeLayer<T>(
  path: string,
  blockSize: number,
  write: (writer: PayloadWriter) => Promise<T>,
): Promise<T> {
  if (!isBlockSize(blockSize)) throw new RangeError(`${blockSize} is no block size`);
  let file: FileHandle;
  try {
    file = await open(path, 'wx+', 0o644);
  } catch (cause) {
    throw writeFailed(path, cause);
  }
  const writer = new PayloadWriter(file, path, blockSize);
  try {
    return await write(writer);
  } catch (error) {
    await writer.abandon();
    await unlink(path);
    throw error;
  } finally {
    await file.close();
  }
}

/** Appends the metadata of a tree whose data has been written. */
export async function appendMetadata(
  writer: PayloadWriter,
  root: Directory,
  uuid: Uint8Array,
): Promise<WrittenErofs> {
  const erofs = writeErofs(root, { uuid, dataBlocks: writer.position / BLOCK_SIZE - 1 });
  for (const piece of erofs.metadata) {
    writer.append(piece);
    await writer.ready();
  }
  return erofs;
}

export interface SealOptions {
  diffID: string;
  blockSize: number;
  /** Has the extents of the data. */
  recipe?: RecipeBuilder;
  /** Whether the file is synced; default true. */
  isLasting?: boolean;
}

/** Appends the footer and writes the superblock. */
export async function sealLayer(
  writer: PayloadWriter,
  erofs: WrittenErofs,
  { diffID, blockSize, recipe, isLasting = true }: SealOptions,
): Promise<ExpandedLayer> {
  const { superblock, metadata } = erofs;
  const footer = fixedFooter(erofs.blocks * BLOCK_SIZE, uuidOf(diffID));
  writer.append(footer);
  const size = writer.position;
  const [digests, encoded] = await Promise.all([
    writer.finish(superblock, isLasting),
    recipe?.finish({ diffID, size, superblock, tail: [...metadata, footer] }),
  ]);
  return {
    ...(encoded === undefined ? {} : { recipe: encoded }),
    diffID,
    size,
    digests: new BlockDigests({ diffID, blockSize, size, digests }),
    inodes: erofs.inodes,
  };
}

/** The first 16 bytes of a digest, marked as a UUID of version 8 (RFC 9562 §5.8). */
export function uuidOf(digest: string): Uint8Array {
  const uuid = Buffer.from(digest.slice('sha256:'.length), 'hex').subarray(0, 16);
  uuid[6] = ((uuid[6] as number) & 0x0f) | 0x80;
  uuid[8] = ((uuid[8] as number) & 0x3f) | 0x80;
  return uuid;
}
