import { mkdtempSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { bytesReader, ErofsImage, readTree } from '../../src/erofs/reader.js';
import type { Directory, Inode, RegularFile } from '../../src/erofs/tree.js';
import { buildImageIndex } from '../../src/image/image-index.js';
import { describePath, summarizeIndex } from '../../src/image/inspect.js';
import { writeLayerFile } from './layer-file.js';

const test = anyTest as TestFn<{ dir: string }>;
test.beforeEach((t) => {
  t.context.dir = mkdtempSync(join(tmpdir(), 'orca-index-'));
});
test.afterEach.always((t) => rmSync(t.context.dir, { recursive: true }));

const attributes = {
  mode: 0o644,
  uid: 1,
  gid: 2,
  mtime: 1_500_000_000_123_456_789n,
  xattrs: new Map<string, Uint8Array>(),
};
const file = (size: number, block: number, blocks: number, fileOffset = 0): RegularFile => ({
  ...attributes,
  kind: 'file',
  size,
  extents: blocks === 0 ? [] : [{ fileOffset, device: 0, block, blocks }],
});
const dir = (children: Record<string, Inode>): Directory => ({
  ...attributes,
  kind: 'directory',
  children: new Map(Object.entries(children)),
});
const diffID = (digit: string) => `sha256:${digit.repeat(64)}`;

function twoLayers(folder: string) {
  const shared = file(5000, 1, 2);
  const low = { diffID: diffID('a'), path: join(folder, 'low.vhd') };
  writeLayerFile(
    low.path,
    dir({ a: shared, b: shared, d: dir({ gone: file(4096, 3, 1) }) }),
    Buffer.alloc(3 * 4096, 'l'),
  );
  const high = { diffID: diffID('b'), path: join(folder, 'high.vhd') };
  const gone = { ...attributes, kind: 'chardev', major: 0, minor: 0 } as const;
  writeLayerFile(
    high.path,
    dir({ d: dir({ gone, hole: file(12288, 1, 1, 4096) }) }),
    Buffer.alloc(4096, 'h'),
  );
  return [low, high];
}

const openIndex = (built: { pieces: readonly Uint8Array[]; size: number }) =>
  ErofsImage.open(bytesReader(Buffer.concat(built.pieces)), built.size);

test('the index has the merged tree, with extents on one device per layer', (t) => {
  const built = buildImageIndex(twoLayers(t.context.dir));
  const image = openIndex(built);
  t.deepEqual(
    image.devices.map(({ tag }) => `sha256:${tag}`),
    built.devices.map((device) => device.diffID),
  );
  t.deepEqual(
    built.devices.map((device) => device.diffID),
    [diffID('a'), diffID('b')],
  );
  const tree = readTree(image);
  const d = tree.children.get('d') as Directory;
  t.deepEqual([...tree.children.keys()].sort(), ['a', 'b', 'd']);
  t.deepEqual([...d.children.keys()], ['hole']);
  t.is(tree.children.get('a'), tree.children.get('b'));
  t.deepEqual((tree.children.get('a') as RegularFile).extents, [
    { fileOffset: 0, device: 1, block: 1, blocks: 2 },
  ]);
  t.deepEqual((d.children.get('hole') as RegularFile).extents, [
    { fileOffset: 4096, device: 2, block: 1, blocks: 1 },
  ]);
  t.like(tree.children.get('a'), { mtime: attributes.mtime, uid: 1, gid: 2 });
});

test('the same layers give the same bytes, other layers others', (t) => {
  const [low, high] = twoLayers(t.context.dir) as [
    { diffID: string; path: string },
    { diffID: string; path: string },
  ];
  const bytes = Buffer.concat(buildImageIndex([low, high]).pieces);
  t.deepEqual(Buffer.concat(buildImageIndex([low, high]).pieces), bytes);
  t.notDeepEqual(Buffer.concat(buildImageIndex([high, low]).pieces), bytes);
});

test('a layer that occurs twice has one device', (t) => {
  const [low, high] = twoLayers(t.context.dir) as [
    { diffID: string; path: string },
    { diffID: string; path: string },
  ];
  const built = buildImageIndex([low, high, low]);
  t.deepEqual(
    built.devices.map((device) => device.diffID),
    [diffID('a'), diffID('b')],
  );
  t.true((readTree(openIndex(built)).children.get('d') as Directory).children.has('gone'));
});

test('a layer that is cut short is named', (t) => {
  const layers = twoLayers(t.context.dir);
  truncateSync(layers[1]?.path ?? '', 5000);
  t.throws(() => buildImageIndex(layers), {
    code: 'INVALID_LAYER',
    message: new RegExp(`^layer ${diffID('b')}`),
  });
});

test('a path is described with the extents of its bytes, holes included', (t) => {
  const image = openIndex(buildImageIndex(twoLayers(t.context.dir)));
  t.like(describePath(image, '/a'), {
    path: '/a',
    kind: 'file',
    size: 5000,
    nlink: 2,
    mode: 0o644,
    mtime: attributes.mtime,
  });
  t.deepEqual(describePath(image, 'a').extents, [
    { fileOffset: 0, length: 5000, layer: { diffID: diffID('a'), offset: 4096 } },
  ]);
  t.deepEqual(describePath(image, '/d//hole').extents, [
    { fileOffset: 0, length: 4096 },
    { fileOffset: 4096, length: 4096, layer: { diffID: diffID('b'), offset: 4096 } },
    { fileOffset: 8192, length: 4096 },
  ]);
  t.is(describePath(image, '/').kind, 'directory');
  t.throws(() => describePath(image, '/d/none'), { code: 'NOT_FOUND', message: /\/d has no "none"/ });
  t.throws(() => describePath(image, '/a/x'), { code: 'NOT_FOUND', message: /\/a is a file/ });
});

test('the summary counts what is visible of each layer', (t) => {
  const image = openIndex(buildImageIndex(twoLayers(t.context.dir)));
  const { inodes, devices } = summarizeIndex(image);
  t.like(inodes, { file: 2, directory: 2 });
  t.like(devices[0], { diffID: diffID('a'), visible: 5000, files: 1 });
  t.like(devices[1], { diffID: diffID('b'), visible: 4096, files: 1 });
});
