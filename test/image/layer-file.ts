/** Layer VHDs of trees that tests make by hand. */
import { writeFileSync } from 'node:fs';
import type { Directory } from '../../src/erofs/tree.js';
import { writeErofs } from '../../src/erofs/writer.js';
import { fixedFooter } from '../../src/vhd/vhd.js';

/** Writes a layer VHD of a tree whose extents lie in `data`, block 1 being its first. */
export function writeLayerFile(path: string, root: Directory, data: Uint8Array = new Uint8Array()): void {
  const uuid = new Uint8Array(16);
  const { superblock, metadata } = writeErofs(root, { uuid, dataBlocks: data.length / 4096 });
  const payload = Buffer.concat([superblock, data, ...metadata]);
  writeFileSync(path, Buffer.concat([payload, fixedFooter(payload.length, uuid)]));
}
