import { createHash } from 'node:crypto';
import { join } from 'node:path';
import test from 'ava';
import { ErofsError } from '../../src/erofs/reader.js';
import { BLOCK_SIZE, type Directory, type RegularFile } from '../../src/erofs/tree.js';
import { writeErofs } from '../../src/erofs/writer.js';
import { importTree } from '../../src/layer/import-tree.js';
import { archive, gnuSparse, member, pax } from '../tar/archive.js';
import { chunksOf, expand, type Layer, readLayer, withDirectory } from './layers.js';

const LAYER = archive(
  pax([['SCHILY.xattr.user.a', '\xff\0']]),
  member({ name: 'z/file', mtime: 5 }, Buffer.alloc(300_000, 'zfile')),
  member({ name: 'a/file' }, Buffer.alloc(10_000, 'afile')),
  member({ name: 'a/copy' }, Buffer.alloc(10_000, 'afile')),
  member({ name: 'a/hard', type: '1', linkname: 'a/file' }),
  gnuSparse('sparse', 100_000, [
    [0, 'start'],
    [50_000, 'end'],
  ]),
  member({ name: '.wh.gone' }),
  member({ name: 'b/.wh..wh..opq' }),
);

function payloadOf(bytes: Buffer): { readAt: (offset: number, length: number) => Uint8Array; size: number } {
  return {
    size: bytes.length,
    readAt: (offset, length) => {
      if (offset + length > bytes.length) throw new ErofsError('TRUNCATED', 'beyond the end');
      return bytes.subarray(offset, offset + length);
    },
  };
}

async function imported(bytes: Buffer): Promise<Omit<Layer, 'warnings'>> {
  return withDirectory(async (directory) => {
    const output = join(directory, 'layer.vhd');
    const layer = await importTree(payloadOf(bytes), { output });
    return { ...layer, ...readLayer(output) };
  });
}

/** Everything of a tree but where its data lies. */
function described(layer: Pick<Layer, 'root' | 'vhd' | 'read'>): unknown {
  const seen = new Map<unknown, string>();
  const describe = (directory: Directory, prefix: string): unknown =>
    [...directory.children].map(([name, inode]) => {
      const path = prefix + name;
      const first = seen.get(inode);
      if (first !== undefined) return [path, 'is', first];
      seen.set(inode, path);
      if (inode.kind === 'directory') return [path, { ...inode, children: describe(inode, `${path}/`) }];
      if (inode.kind === 'file') return [path, { ...inode, extents: inode.extents.length }, layer.read(path)];
      return [path, inode];
    });
  return [{ ...layer.root, children: describe(layer.root, '') }];
}

test('an imported layer has the same tree, in an order and under an id of its own', async (t) => {
  const original = await expand(chunksOf(LAYER));
  const layer = await imported(original.vhd.subarray(0, -512));
  t.deepEqual(described(layer), described(original));
  t.is(layer.inodes, original.inodes);
  t.is(
    (layer.at('a/copy') as RegularFile).extents[0]?.block,
    (layer.at('a/file') as RegularFile).extents[0]?.block,
  );
  const payload = layer.vhd.subarray(0, -512);
  t.is(layer.diffID, `sha256:${createHash('sha256').update(payload).digest('hex')}`);
  for (let i = 0; i < layer.digests.count; i++) {
    t.true(layer.digests.verify(i, layer.vhd.subarray(i * 131_072, (i + 1) * 131_072)));
  }
});

test('importing what was imported changes nothing', async (t) => {
  const { vhd } = await imported((await expand(chunksOf(LAYER))).vhd.subarray(0, -512));
  t.true((await imported(vhd.subarray(0, -512))).vhd.equals(vhd));
});

test('an image with data on other devices, or cut short, is refused and leaves nothing behind', async (t) => {
  const file: RegularFile = {
    kind: 'file',
    mode: 0o644,
    uid: 0,
    gid: 0,
    mtime: 0n,
    xattrs: new Map(),
    size: 4096,
    extents: [{ fileOffset: 0, device: 1, block: 0, blocks: 1 }],
  };
  const root: Directory = { ...file, kind: 'directory', children: new Map([['f', file]]) };
  const { superblock, metadata } = writeErofs(root, {
    uuid: new Uint8Array(16),
    dataBlocks: 0,
    devices: [{ tag: 'x', blocks: 9 }],
  });
  const index = Buffer.concat([superblock, ...metadata]);
  await t.throwsAsync(imported(index), { code: 'UNSUPPORTED' });
  const { vhd } = await expand(chunksOf(LAYER));
  await t.throwsAsync(imported(vhd.subarray(0, 5 * BLOCK_SIZE)), { instanceOf: ErofsError });
});
