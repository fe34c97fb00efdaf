import { deepStrictEqual, ok } from 'node:assert/strict';
import test from 'ava';
import fc from 'fast-check';
import { bytesReader, ErofsImage, readTree } from '../../src/erofs/reader.js';
import { BLOCK_SIZE, type Directory, type RegularFile } from '../../src/erofs/tree.js';
import {
  DEVICES,
  describeTree,
  directory,
  file,
  flatFile,
  imageOf,
  sampleTree,
  treeArbitrary,
} from './tree-arbitrary.js';

function open(image: Uint8Array): ErofsImage {
  return ErofsImage.open(bytesReader(image), image.length);
}

function child(image: ErofsImage, name: string) {
  const nid = image.entries(image.rootNid).find((candidate) => candidate.name === name)?.nid;
  return image.inode(nid ?? Number.NaN);
}

test('what is written is what is read, hard links included', (t) => {
  const root = sampleTree();
  t.deepEqual(describeTree(readTree(open(imageOf(root)))), describeTree(root));
});

test('any tree survives being written and read, and writing it again gives the same bytes', (t) => {
  fc.assert(
    fc.property(treeArbitrary, (root) => {
      const image = imageOf(root, { devices: DEVICES });
      const read = readTree(open(image));
      deepStrictEqual(describeTree(read), describeTree(root));
      ok(imageOf(read, { devices: DEVICES }).equals(image));
    }),
    { numRuns: 150 },
  );
  t.pass();
});

test('files are read through their extents, holes as zeros', (t) => {
  const image = open(imageOf(sampleTree()));
  const linked = image.readFile(child(image, 'linked'), 0, 20_000);
  t.is(linked.length, 10_000);
  t.deepEqual([linked[0], linked[4095], linked[4096], linked[9999]], [1, 1, 2, 3]);
  const sparse = child(image, 'sparse');
  t.deepEqual([...image.readFile(sparse, 2 * BLOCK_SIZE - 1, 2)], [0, 4]);
  t.deepEqual([...image.readFile(sparse, 4 * BLOCK_SIZE - 1, 2)], [5, 0]);
  t.deepEqual([...image.readFile(sparse, 9 * BLOCK_SIZE + 3, 100)], [7, 7]);
  t.is(image.readFile(sparse, 1 << 20, 1).length, 0);
  t.true(image.readFile(child(image, 'hole'), 1 << 29, 5000).every((byte) => byte === 0));
});

test('the data of another device is not read', (t) => {
  const root = directory({ f: file(1, [{ fileOffset: 0, device: 2, block: 3, blocks: 1 }]) });
  const image = open(imageOf(root, { devices: DEVICES }));
  t.throws(() => image.readFile(child(image, 'f'), 0, 1), { code: 'UNSUPPORTED' });
});

test('a file with an inline tail is an error, or reported with its nid', (t) => {
  // Turns a flat file of one block and a half into one whose second block is inline, as mkfs.erofs makes it.
  const size = BLOCK_SIZE + 10;
  const bytes = imageOf(directory({ f: flatFile(size, 1) }));
  const inode = open(bytes).inode(child(open(bytes), 'f').nid);
  const at = inode.xattrsAt - 64;
  bytes.writeUInt16LE(1 | (2 << 1), at);
  bytes.write('0123456789', at + 64);

  const image = open(bytes);
  t.throws(() => readTree(image), { code: 'INLINE_DATA' });
  const inline = new Map<RegularFile, number>();
  const read = readTree(image, { inline }).children.get('f') as RegularFile;
  t.deepEqual(read.extents, [{ fileOffset: 0, device: 0, block: 1, blocks: 1 }]);
  t.is(inline.get(read), inode.nid);
  t.is(Buffer.from(image.readFile(inode.nid, BLOCK_SIZE - 1, 100)).toString('latin1'), '\x010123456789');
});

test('a deep tree costs no stack', (t) => {
  let root: Directory = directory({});
  for (let depth = 0; depth < 20_000; depth++) root = directory({ d: root });
  let depth = 0;
  let at = readTree(open(imageOf(root)));
  for (; at.children.size > 0; depth++) at = at.children.get('d') as Directory;
  t.is(depth, 20_000);
});
