/** Builds the image index of a list of layer VHDs (docs/FORMAT.md, "Image index"). */
import { createHash } from 'node:crypto';
import { closeSync, fstatSync, openSync } from 'node:fs';
import type { ReadAt } from '../erofs/read-at.js';
import { ErofsImage, readTree } from '../erofs/reader.js';
import { BLOCK_SIZE, type Directory } from '../erofs/tree.js';
import { writeErofs } from '../erofs/writer.js';
import { OrcaError } from '../errors.js';
import { fileReader, openVhd } from '../vhd/vhd.js';
import { diffIDHex } from './catalog.js';
import { ImageError } from './image-error.js';
import { mergeLayers } from './merge.js';

export interface LayerFile {
  diffID: string;
  /** Path of the layer VHD. */
  path: string;
}

/** A layer VHD whose metadata can be read at once; its file data are not asked for. */
export interface ReadableLayer {
  diffID: string;
  /** Where it lies, for messages. */
  location: string;
  /** Calls `use` with the layer VHD open, and closes it. */
  open<T>(use: (readAt: ReadAt, size: number) => T): T;
}

/** A layer VHD whose tree is in memory. */
export interface LayerInMemory {
  diffID: string;
  /** As the layer VHD has it: what file data it has lie on device 0. */
  root: Directory;
  /** Blocks of BLOCK_SIZE of the layer VHD's payload. */
  blocks: number;
}

export interface ImageIndexDevice {
  diffID: string;
  /** Blocks of BLOCK_SIZE of the layer VHD's payload. */
  blocks: number;
}

export interface BuiltImageIndex {
  /** The image index, in pieces. */
  pieces: readonly Uint8Array[];
  /** Bytes in all. */
  size: number;
  devices: ImageIndexDevice[];
  inodes: number;
}

/**
 * Merges layers, lowest first. A layer that occurs twice has one device. The same layers give the same bytes.
 * Throws ImageError INVALID_LAYER, which names the layer, BAD_HARD_LINK, or ErofsError TOO_LARGE.
 */
export function buildImageIndex(layers: readonly LayerFile[]): BuiltImageIndex {
  return mergeImageIndex(layers.map(({ diffID, path }) => ({ diffID, location: path, open: opener(path) })));
}

/** The same of layers that lie elsewhere than in files. */
export function mergeImageIndex(layers: readonly (ReadableLayer | LayerInMemory)[]): BuiltImageIndex {
  const trees = new Map<string, { root: Directory; device: number; name: string }>();
  const devices: ImageIndexDevice[] = [];
  for (const layer of layers) {
    if (trees.has(layer.diffID)) continue;
    const { root, blocks } = 'root' in layer ? layer : readLayer(layer);
    devices.push({ diffID: layer.diffID, blocks });
    trees.set(layer.diffID, { root, device: devices.length, name: layer.diffID });
  }
  const merged = mergeLayers(layers.flatMap(({ diffID }) => trees.get(diffID) ?? []));
  trees.clear();
  const { superblock, metadata, inodes } = writeErofs(merged, {
    uuid: indexUuid(layers),
    dataBlocks: 0,
    devices: devices.map(({ diffID, blocks }) => ({ tag: diffIDHex(diffID), blocks })),
  });
  const pieces = [superblock, ...metadata];
  return { pieces, size: pieces.reduce((total, piece) => total + piece.length, 0), devices, inodes };
}

function opener(path: string): ReadableLayer['open'] {
  return (use) => {
    const fd = openSync(path, 'r');
    try {
      return use(fileReader(fd), fstatSync(fd).size);
    } finally {
      closeSync(fd);
    }
  };
}

function readLayer({ diffID, location, open }: ReadableLayer): { root: Directory; blocks: number } {
  try {
    return open((readAt, size) => {
      const payload = openVhd(readAt, size);
      const root = readTree(ErofsImage.open(payload.readAt, payload.size));
      return { root, blocks: Math.floor(payload.size / BLOCK_SIZE) };
    });
  } catch (cause) {
    if (!(cause instanceof OrcaError)) throw cause;
    throw new ImageError('INVALID_LAYER', `layer ${diffID} (${location}): ${cause.message}`, { cause });
  }
}

/** A UUID of version 8 (RFC 9562 §5.8) that depends on the layers alone. */
function indexUuid(layers: readonly { diffID: string }[]): Uint8Array {
  const hash = createHash('sha256').update('orca image index\n');
  for (const { diffID } of layers) hash.update(`${diffID}\n`);
  const uuid = hash.digest().subarray(0, 16);
  uuid[6] = ((uuid[6] as number) & 0x0f) | 0x80;
  uuid[8] = ((uuid[8] as number) & 0x3f) | 0x80;
  return uuid;
}
