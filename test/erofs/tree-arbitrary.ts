/** Trees for tests: made by hand, and arbitrary ones for fast-check. */
import fc from 'fast-check';
import {
  BLOCK_SIZE,
  type ByteString,
  type Directory,
  type FileExtent,
  type Inode,
  type InodeAttributes,
  type RegularFile,
  type SymbolicLink,
} from '../../src/erofs/tree.js';
import { type WriteOptions, writeErofs } from '../../src/erofs/writer.js';

const DEFAULTS: InodeAttributes = { mode: 0o644, uid: 0, gid: 0, mtime: 0n, xattrs: new Map() };

export function directory(
  children: Record<string, Inode>,
  attributes: Partial<InodeAttributes> = {},
): Directory {
  const map = new Map(Object.entries(children));
  return { kind: 'directory', ...DEFAULTS, mode: 0o755, ...attributes, children: map };
}

export function file(
  size: number,
  extents: readonly FileExtent[] = [],
  attributes: Partial<InodeAttributes> = {},
): RegularFile {
  return { kind: 'file', ...DEFAULTS, ...attributes, size, extents };
}

/** A file of whole data in one run of blocks. */
export function flatFile(size: number, block: number, attributes?: Partial<InodeAttributes>): RegularFile {
  const blocks = Math.ceil(size / BLOCK_SIZE);
  return file(size, blocks === 0 ? [] : [{ fileOffset: 0, device: 0, block, blocks }], attributes);
}

export function symlink(target: ByteString, attributes: Partial<InodeAttributes> = {}): SymbolicLink {
  return { kind: 'symlink', ...DEFAULTS, mode: 0o777, ...attributes, target };
}

export function special(kind: 'chardev' | 'blockdev' | 'fifo' | 'socket', major = 0, minor = 0): Inode {
  return { kind, ...DEFAULTS, major, minor };
}

/** Blocks of data that the sample and the arbitrary trees may refer to, on the image and on each device. */
export const DATA_BLOCKS = 16;
export const DEVICES = [
  { tag: 'a'.repeat(64), blocks: 1000 },
  { tag: 'short', blocks: 16 },
];

/** Every kind of inode, and every way to store one. */
export function sampleTree(): Directory {
  const linked = flatFile(10_000, 1, {
    mode: 0o4755,
    uid: 4_000_000_000,
    gid: 70_000,
    mtime: 1_700_000_000_123_456_789n,
    xattrs: new Map([
      ['user.b', Buffer.from('2')],
      ['user.a', Buffer.from('')],
      ['security.capability', Buffer.from('0100000200200000000000000000000000000000', 'hex')],
      [
        'system.posix_acl_access',
        Buffer.from('0200000001000600ffffffff04000400ffffffff20000400ffffffff', 'hex'),
      ],
      ['trusted.overlay.opaque', Buffer.from('y')],
    ]),
  });
  const numbered = Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`name-${index}`, linked]));
  return directory(
    {
      linked,
      'another name': linked,
      '-before-the-dot': symlink('/etc/passwd'),
      empty: file(0),
      hole: file(1 << 30),
      sparse: file(9 * BLOCK_SIZE + 5, [
        { fileOffset: 2 * BLOCK_SIZE, device: 0, block: 4, blocks: 2 },
        { fileOffset: 8 * BLOCK_SIZE, device: 0, block: 6, blocks: 2 },
      ]),
      'long link': symlink('x/'.repeat(2000)),
      'longest link': symlink('y'.repeat(4095)),
      whiteout: special('chardev'),
      disk: special('blockdev', 259, 70_000),
      fifo: special('fifo'),
      socket: special('socket'),
      'not utf-8 \xff\xfe': file(0),
      ['n'.repeat(255)]: file(0, [], {
        xattrs: new Map([
          ['user.large', Buffer.alloc(60_000, 'Z')],
          ['trusted.after', Buffer.from('q')],
        ]),
      }),
      before1970: file(0, [], { mtime: -1n }),
      numbered: directory(numbered, { mode: 0o1777 }),
      nested: directory({ nested: directory({ nested: directory({}) }) }),
    },
    { mtime: -1_500_000_001n },
  );
}

/** What writeErofs makes, as one image whose data blocks hold their own number. */
export function imageOf(root: Directory, options: Partial<WriteOptions> = {}): Buffer {
  const dataBlocks = options.dataBlocks ?? DATA_BLOCKS;
  const written = writeErofs(root, { uuid: Buffer.alloc(16, 7), ...options, dataBlocks });
  const data = Buffer.alloc(dataBlocks * BLOCK_SIZE);
  for (let block = 0; block < dataBlocks; block++) {
    data.fill(block + 1, block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE);
  }
  const image = Buffer.concat([written.superblock, data, ...written.metadata]);
  if (image.length !== written.blocks * BLOCK_SIZE) throw new Error('blocks do not match the bytes written');
  return image;
}

const byteString = (options: { minLength: number; maxLength: number }): fc.Arbitrary<ByteString> =>
  fc.oneof(
    fc.string({ unit: 'grapheme-ascii', ...options }),
    fc.uint8Array(options).map((bytes) => Buffer.from(bytes).toString('latin1')),
  );

const nameArbitrary = byteString({ minLength: 1, maxLength: 255 }).filter(
  (name) => !/[/\0]/.test(name) && name !== '.' && name !== '..',
);

const xattrsArbitrary = fc
  .array(
    fc.tuple(
      fc.oneof(
        fc.constantFrom('system.posix_acl_access', 'system.posix_acl_default'),
        fc
          .tuple(
            fc.constantFrom('user.', 'trusted.', 'security.'),
            byteString({ minLength: 1, maxLength: 20 }),
          )
          .map(([prefix, suffix]) => prefix + suffix.replaceAll('\0', '0')),
      ),
      fc.uint8Array({ maxLength: 300 }).map((bytes) => new Uint8Array(bytes)),
    ),
    { maxLength: 5 },
  )
  .map((entries) => new Map([...entries].sort(([a], [b]) => (a < b ? -1 : 1))));

const attributesArbitrary: fc.Arbitrary<InodeAttributes> = fc.record({
  mode: fc.integer({ min: 0, max: 0o7777 }),
  uid: fc.integer({ min: 0, max: 0xffffffff }),
  gid: fc.integer({ min: 0, max: 0xffffffff }),
  mtime: fc.bigInt({ min: -(2n ** 62n), max: 2n ** 62n }),
  xattrs: fc.oneof(fc.constant(new Map<ByteString, Uint8Array>()), xattrsArbitrary),
});

/** Extents that lie anywhere, also behind each other, with and without holes. */
const fileArbitrary = fc
  .tuple(
    attributesArbitrary,
    fc.array(
      fc.record({
        gap: fc.integer({ min: 0, max: 3 }),
        blocks: fc.integer({ min: 1, max: 5 }),
        device: fc.integer({ min: 0, max: DEVICES.length }),
        block: fc.integer({ min: 1, max: 11 }),
      }),
      { maxLength: 4 },
    ),
    fc.integer({ min: 0, max: 2 }),
    fc.integer({ min: 0, max: BLOCK_SIZE - 1 }),
  )
  .map(([attributes, pieces, endGap, spare]): Inode => {
    const extents: FileExtent[] = [];
    let at = 0;
    for (const { gap, blocks, device, block } of pieces) {
      at += gap;
      const last = extents.at(-1);
      const isNext =
        last !== undefined && gap === 0 && last.device === device && last.block + last.blocks === block;
      if (isNext) last.blocks += blocks;
      else extents.push({ fileOffset: at * BLOCK_SIZE, device, block, blocks });
      at += blocks;
    }
    const size = Math.max((at + endGap) * BLOCK_SIZE - spare, 0);
    return { kind: 'file', ...attributes, size, extents };
  });

const leafArbitrary: fc.Arbitrary<Inode> = fc.oneof(
  fileArbitrary,
  fc.tuple(attributesArbitrary, byteString({ minLength: 1, maxLength: 4095 })).map(
    ([attributes, target]): Inode => ({
      kind: 'symlink',
      ...attributes,
      target: target.replaceAll('\0', '/'),
    }),
  ),
  fc
    .tuple(
      attributesArbitrary,
      fc.constantFrom('chardev' as const, 'blockdev' as const),
      fc.nat(0xfff),
      fc.nat(0xfffff),
    )
    .map(([attributes, kind, major, minor]): Inode => ({ kind, ...attributes, major, minor })),
  fc
    .tuple(attributesArbitrary, fc.constantFrom('fifo' as const, 'socket' as const))
    .map(([attributes, kind]): Inode => ({ kind, ...attributes, major: 0, minor: 0 })),
);

const { tree } = fc.letrec<{ tree: Directory; inode: Inode }>((tie) => ({
  tree: fc
    .tuple(attributesArbitrary, fc.array(fc.tuple(nameArbitrary, tie('inode')), { maxLength: 40 }))
    .map(([attributes, children]) => ({
      kind: 'directory' as const,
      ...attributes,
      children: new Map(children),
    })),
  inode: fc.oneof({ depthSize: 'small', withCrossShrink: true }, leafArbitrary, tie('tree')),
}));

/** Arbitrary trees, some of whose inodes have several names. */
export const treeArbitrary: fc.Arbitrary<Directory> = fc
  .tuple(tree, fc.array(fc.tuple(fc.nat(), fc.nat(), nameArbitrary), { maxLength: 5 }))
  .map(([root, links]) => {
    const directories: Directory[] = [];
    const others: Inode[] = [];
    const visit = (parent: Directory): void => {
      directories.push(parent);
      for (const child of parent.children.values()) {
        if (child.kind === 'directory') visit(child);
        else others.push(child);
      }
    };
    visit(root);
    for (const [where, which, name] of links) {
      const parent = directories[where % directories.length];
      const inode = others[which % others.length];
      if (parent && inode && !parent.children.has(name)) parent.children.set(name, inode);
    }
    return root;
  });

/** A tree as plain data in which hard links show: every inode has the number of its first visit. */
export function describeTree(root: Directory): unknown {
  const numbers = new Map<Inode, number>();
  const describe = (inode: Inode): unknown => {
    const known = numbers.get(inode);
    if (known !== undefined) return { sameAs: known };
    const number = numbers.size;
    numbers.set(inode, number);
    const xattrs = [...inode.xattrs]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, value]) => [name, Buffer.from(value).toString('hex')]);
    const described = { ...inode, number, xattrs };
    if (inode.kind !== 'directory') return described;
    const names = [...inode.children.keys()].sort();
    return {
      ...described,
      children: names.map((name) => [name, describe(inode.children.get(name) as Inode)]),
    };
  };
  return describe(root);
}
