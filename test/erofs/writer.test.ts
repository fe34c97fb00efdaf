import { createHash } from 'node:crypto';
import test from 'ava';
import { bytesReader, ErofsError, ErofsImage, readTree } from '../../src/erofs/reader.js';
import { BLOCK_SIZE, type Directory, type Inode } from '../../src/erofs/tree.js';
import { writeErofs } from '../../src/erofs/writer.js';
import {
  DATA_BLOCKS,
  DEVICES,
  directory,
  file,
  flatFile,
  imageOf,
  sampleTree,
  special,
  symlink,
} from './tree-arbitrary.js';

const OPTIONS = { uuid: Buffer.alloc(16, 7), dataBlocks: DATA_BLOCKS };

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function open(image: Uint8Array): ErofsImage {
  return ErofsImage.open(bytesReader(image), image.length);
}

function entry(image: ErofsImage, name: string) {
  const nid = image.entries(image.rootNid).find((candidate) => candidate.name === name)?.nid;
  return image.inode(nid ?? Number.NaN);
}

/** A change of these digests is a change of the layer format: every diffID would get another layer VHD. */
test('the images of known trees have the digests they always had', (t) => {
  t.is(
    sha256(imageOf(directory({}), { dataBlocks: 0 })),
    '98c5255d3a5df6c0ead47b4519bd405b04c44a9c35c7b3930fe886c645a6efd4',
  );
  t.is(sha256(imageOf(sampleTree())), 'd4fd964948c1e0cb31803a41c3e793c2c0564f3ecc9fd69510ff4a2f1b7d3508');
  const indexed = directory({
    one: file(100 * BLOCK_SIZE, [{ fileOffset: 0, device: 1, block: 900, blocks: 100 }]),
    two: file(1, [{ fileOffset: 0, device: 2, block: 15, blocks: 1 }]),
  });
  t.is(
    sha256(imageOf(indexed, { dataBlocks: 0, devices: DEVICES })),
    '71a30e923246695c23f1eff82b0e6325cd683303072dbee01049322d3838aeb6',
  );
});

test('the order in which names were added does not matter', (t) => {
  const root = sampleTree();
  const reversed: Directory = { ...root, children: new Map([...root.children].reverse()) };
  t.deepEqual(imageOf(reversed), imageOf(root));
});

test('block 0 has the superblock and nothing else, and the metadata fills whole blocks', (t) => {
  const written = writeErofs(sampleTree(), OPTIONS);
  t.is(written.superblock.length, BLOCK_SIZE);
  t.true(written.superblock.subarray(0, 1024).every((byte) => byte === 0));
  t.true(written.superblock.subarray(1024 + 128).every((byte) => byte === 0));
  const metadata = written.metadata.reduce((sum, piece) => sum + piece.length, 0);
  t.is(written.blocks, 1 + DATA_BLOCKS + metadata / BLOCK_SIZE);
});

test('the root comes first, also behind a device table', (t) => {
  t.is(open(imageOf(sampleTree())).rootNid, 1);
  const image = open(imageOf(sampleTree(), { devices: DEVICES }));
  t.is(image.rootNid, (2 * 128) / 32);
  t.deepEqual(
    image.devices.map(({ tag, blocks }) => ({ tag, blocks })),
    DEVICES,
  );
});

test('a link count is the number of names, or 2 and the number of subdirectories', (t) => {
  const image = open(imageOf(sampleTree()));
  t.is(image.inode(image.rootNid).nlink, 4);
  t.is(entry(image, 'nested').nlink, 3);
  t.is(entry(image, 'linked').nlink, 502);
  t.is(entry(image, 'linked').nid, entry(image, 'another name').nid);
  t.is(entry(image, 'empty').nlink, 1);
});

test('chunks are as large as the extents allow', (t) => {
  const sizeOf = (blocks: number, extents: readonly [start: number, blocks: number][]): number => {
    const inode = file(
      blocks * BLOCK_SIZE,
      extents.map(([start, count]) => ({
        fileOffset: start * BLOCK_SIZE,
        device: 1,
        block: start,
        blocks: count,
      })),
    );
    return 2 ** (entry(open(imageOf(directory({ f: inode }), { devices: DEVICES })), 'f').location & 0x1f);
  };
  t.is(sizeOf(1, [[0, 1]]), 1);
  t.is(sizeOf(5, [[0, 5]]), 8);
  t.is(sizeOf(5, []), 8);
  t.is(sizeOf(100, [[0, 64]]), 64);
  t.is(sizeOf(100, [[32, 68]]), 32);
  t.is(sizeOf(100, [[3, 1]]), 1);
  t.is(sizeOf(2 ** 30, []), 2 ** 30);
});

test('a directory of 100,000 names is read back', (t) => {
  const names = Array.from({ length: 100_000 }, (_, index) => `file-${index}`);
  const one = file(0);
  const root: Directory = { ...directory({}), children: new Map(names.map((name) => [name, one])) };
  const tree = readTree(open(imageOf(root)));
  t.deepEqual([...tree.children.keys()], names.sort());
  t.is(open(imageOf(root)).inode(1).nlink, 2);
});

test('an inline tail never crosses a block, whatever comes before it', (t) => {
  for (let length = 1; length < 4096; length += 97) {
    const children: Record<string, Inode> = {};
    for (let index = 0; index < 60; index++) children[`${index}`] = symlink('t'.repeat(length));
    const image = open(imageOf(directory(children)));
    for (const { nid } of image.entries(image.rootNid)) t.is(image.readlink(nid).length, length);
  }
});

const REFUSED: readonly [reason: string, code: ErofsError['code'], root: () => Directory][] = [
  ['a name with a slash', 'INVALID_TREE', () => directory({ 'a/b': file(0) })],
  ['a name that is a dot', 'INVALID_TREE', () => directory({ '.': file(0) })],
  ['an empty name', 'INVALID_TREE', () => directory({ '': file(0) })],
  ['a name of 256 bytes', 'INVALID_TREE', () => directory({ ['n'.repeat(256)]: file(0) })],
  ['a name that is no byte string', 'INVALID_TREE', () => directory({ '\u0100': file(0) })],
  ['an empty link target', 'INVALID_TREE', () => directory({ l: symlink('') })],
  ['a link target of 4096 bytes', 'INVALID_TREE', () => directory({ l: symlink('x'.repeat(4096)) })],
  ['a link target with a NUL', 'INVALID_TREE', () => directory({ l: symlink('a\0b') })],
  ['a file without a whole size', 'INVALID_TREE', () => directory({ f: file(1.5) })],
  [
    'an extent beyond the data',
    'INVALID_TREE',
    () => directory({ f: flatFile(BLOCK_SIZE, DATA_BLOCKS + 1) }),
  ],
  ['an extent on the superblock', 'INVALID_TREE', () => directory({ f: flatFile(BLOCK_SIZE, 0) })],
  [
    'an extent on no device',
    'INVALID_TREE',
    () => directory({ f: file(1, [{ fileOffset: 0, device: 1, block: 1, blocks: 1 }]) }),
  ],
  [
    'overlapping extents',
    'INVALID_TREE',
    () =>
      directory({
        f: file(2 * BLOCK_SIZE, [
          { fileOffset: 0, device: 0, block: 1, blocks: 2 },
          { fileOffset: BLOCK_SIZE, device: 0, block: 1, blocks: 1 },
        ]),
      }),
  ],
  ['an extent beyond the file', 'INVALID_TREE', () => directory({ f: { ...flatFile(5000, 1), size: 4000 } })],
  [
    'a xattr without a namespace',
    'INVALID_TREE',
    () => directory({}, { xattrs: new Map([['odd', Buffer.of()]]) }),
  ],
  [
    'a xattr that is all prefix',
    'INVALID_TREE',
    () => directory({}, { xattrs: new Map([['user.', Buffer.of()]]) }),
  ],
  [
    'a xattr with a NUL',
    'INVALID_TREE',
    () => directory({}, { xattrs: new Map([['user.a\0b', Buffer.of()]]) }),
  ],
  ['a mode with type bits', 'INVALID_TREE', () => directory({}, { mode: 0o40755 })],
  ['a uid of 33 bits', 'TOO_LARGE', () => directory({}, { uid: 2 ** 32 })],
  [
    'an mtime beyond 64 bits of seconds',
    'TOO_LARGE',
    () => directory({}, { mtime: 2n ** 63n * 1_000_000_000n }),
  ],
  ['a device number that Linux lacks', 'TOO_LARGE', () => directory({ d: special('chardev', 0x1000, 0) })],
  [
    'a xattr value of 64 KiB',
    'TOO_LARGE',
    () => directory({}, { xattrs: new Map([['user.x', Buffer.alloc(65536)]]) }),
  ],
  [
    'xattrs of more than 256 KiB',
    'TOO_LARGE',
    () =>
      directory(
        {},
        { xattrs: new Map(['a', 'b', 'c', 'd', 'e'].map((n) => [`user.${n}`, Buffer.alloc(60_000)])) },
      ),
  ],
  [
    'a sparse file whose chunk table would be huge',
    'TOO_LARGE',
    () => directory({ f: file(2 ** 40, [{ fileOffset: BLOCK_SIZE, device: 0, block: 1, blocks: 1 }]) }),
  ],
];

for (const [reason, code, root] of REFUSED) {
  test(`refused: ${reason}`, (t) => {
    t.throws(() => writeErofs(root(), OPTIONS), { instanceOf: ErofsError, code });
  });
}

test('refused: a directory that is linked twice, or into itself', (t) => {
  const twice = directory({});
  t.throws(() => writeErofs(directory({ a: twice, b: twice }), OPTIONS), { code: 'INVALID_TREE' });
  const cycle = directory({});
  cycle.children.set('self', cycle);
  t.throws(() => writeErofs(cycle, OPTIONS), { code: 'INVALID_TREE' });
});

test('refused: a device table beyond the reach of the superblock', (t) => {
  const options = { ...OPTIONS, dataBlocks: 3000, devices: DEVICES };
  t.throws(() => writeErofs(directory({}), options), { code: 'TOO_LARGE' });
});
