/** Expands layers for tests, and reads them back with the EROFS reader. */
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ErofsImage, readTree } from '../../src/erofs/reader.js';
import { BLOCK_SIZE, type Directory, type Inode, type RegularFile } from '../../src/erofs/tree.js';
import { type ExpandedLayer, type ExpandOptions, expandLayer } from '../../src/layer/expand.js';
import { fileReader, openVhd } from '../../src/vhd/vhd.js';

export async function withDirectory<T>(run: (directory: string) => Promise<T>): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'orca-layer-'));
  try {
    return await run(directory);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

export async function* chunksOf(bytes: Uint8Array, chunkSize = 65_536): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += chunkSize) yield bytes.subarray(at, at + chunkSize);
}

export interface Layer extends ExpandedLayer {
  vhd: Buffer;
  root: Directory;
  warnings: string[];
  at(path: string): Inode | undefined;
  /** Content of a file, in latin1. */
  read(path: string): string;
}

export async function expand(
  blob: AsyncIterable<Uint8Array>,
  options: Partial<ExpandOptions> = {},
): Promise<Layer> {
  return withDirectory(async (directory) => {
    const output = join(directory, 'layer.vhd');
    const warnings: string[] = [];
    const layer = await expandLayer(blob, {
      output,
      onWarning: (message) => warnings.push(message),
      ...options,
    });
    return { ...layer, ...readLayer(output), warnings };
  });
}

export function readLayer(path: string): Pick<Layer, 'vhd' | 'root' | 'at' | 'read'> {
  const vhd = readFileSync(path);
  const fd = openSync(path, 'r');
  try {
    const payload = openVhd(fileReader(fd), vhd.length);
    const root = readTree(ErofsImage.open(payload.readAt, payload.size));
    const at = (name: string): Inode | undefined => find(root, name);
    return { vhd, root, at, read: (name) => contentOf(vhd, at(name) as RegularFile).toString('latin1') };
  } finally {
    closeSync(fd);
  }
}

export function find(root: Directory, path: string): Inode | undefined {
  let inode: Inode | undefined = root;
  for (const name of path.split('/'))
    inode = inode?.kind === 'directory' ? inode.children.get(name) : undefined;
  return inode;
}

export function contentOf(payload: Buffer, file: RegularFile): Buffer {
  const content = Buffer.alloc(file.size);
  for (const { fileOffset, block, blocks } of file.extents) {
    payload.copy(content, fileOffset, block * BLOCK_SIZE, (block + blocks) * BLOCK_SIZE);
  }
  return content;
}
