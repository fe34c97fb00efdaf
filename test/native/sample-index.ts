/** The image that session tests are served: one device, whose every byte is known. */
import type { ExecutionContext } from 'ava';
import { BLOCK_SIZE, type Directory } from '../../src/erofs/tree.js';
import { directory, file, imageOf, special, symlink } from '../erofs/tree-arbitrary.js';
import { type Served, serve } from './kernel.js';

export const BLOCK = 65536;
/** Of device 1, in bytes; `big` is all of it, so that byte n of the file is byte n of the device. */
export const DEVICE_SIZE = 40 * BLOCK;
const DEVICES = [{ tag: 'a'.repeat(64), blocks: DEVICE_SIZE / BLOCK_SIZE }];

export function tree(): Directory {
  const names = Array.from({ length: 700 }, (_, i) => `entry-${i}`);
  return directory({
    big: file(DEVICE_SIZE, [{ fileOffset: 0, device: 1, block: 0, blocks: DEVICE_SIZE / BLOCK_SIZE }], {
      mtime: -1_500_000_000n,
    }),
    sparse: file(5 * BLOCK_SIZE, [{ fileOffset: 2 * BLOCK_SIZE, device: 1, block: 0, blocks: 1 }]),
    link: symlink('some/where'),
    null: special('chardev', 1, 3),
    many: directory(Object.fromEntries(names.map((name) => [name, file(0)]))),
  });
}

export const withoutData = (root: Directory): Buffer => imageOf(root, { dataBlocks: 0, devices: DEVICES });

export function start(t: ExecutionContext, root = tree()): Served {
  const served = serve(withoutData(root), [DEVICE_SIZE]);
  t.teardown(() => served.close());
  return served;
}

/** Every block of the device differs, and no two neighbouring bytes are the same. */
export function block(number: number): Buffer {
  const bytes = Buffer.alloc(BLOCK);
  for (let i = 0; i < BLOCK; i++) bytes[i] = number * 31 + i * 7;
  return bytes;
}

export function bytesAt(offset: number, length: number): Buffer {
  const first = Math.floor(offset / BLOCK);
  const blocks: Buffer[] = [];
  for (let number = first; number * BLOCK < offset + length; number++) blocks.push(block(number));
  return Buffer.concat(blocks).subarray(offset - first * BLOCK, offset - first * BLOCK + length);
}
