import test from 'ava';
import {
  type Directory,
  HARDLINK_XATTR,
  IMPLICIT_XATTR,
  type Inode,
  OPAQUE_XATTR,
} from '../../src/erofs/tree.js';
import { LayerError } from '../../src/layer/layer-error.js';
import { LayerTree } from '../../src/layer/layer-tree.js';
import type { TarEntry, TarEntryType } from '../../src/tar/tar.js';

type Fields = Partial<Omit<TarEntry, 'type' | 'name'>>;
type Entry = readonly [type: TarEntryType, name: string, fields?: Fields];

function entry([type, name, fields]: Entry): TarEntry {
  return {
    type,
    name,
    linkname: '',
    mode: 0o640,
    uid: 1,
    gid: 2,
    size: 0,
    mtime: 3n,
    major: 0,
    minor: 0,
    xattrs: new Map(),
    dataOffset: 0,
    storedSize: 0,
    ...fields,
  };
}

function link(name: string, linkname: string): Entry {
  return ['hardlink', name, { linkname }];
}

function symlink(name: string, linkname: string): Entry {
  return ['symlink', name, { linkname }];
}

function build(...entries: Entry[]): {
  root: Directory;
  at: (path: string) => Inode | undefined;
  warnings: string[];
} {
  const warnings: string[] = [];
  const tree = new LayerTree((message) => warnings.push(message));
  for (const fields of entries) tree.add(entry(fields));
  const root = tree.finish();
  return { root, at: (path) => find(root, path), warnings };
}

function find(root: Directory, path: string): Inode | undefined {
  let inode: Inode | undefined = root;
  for (const name of path.split('/'))
    inode = inode?.kind === 'directory' ? inode.children.get(name) : undefined;
  return inode;
}

/** `path type` of every inode, in order, with the marks of whiteouts, opaque directories and open hard links. */
function outline(directory: Directory, prefix = ''): string[] {
  return [...directory.children]
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([name, inode]) => {
      const target = inode.xattrs.get(HARDLINK_XATTR);
      const marks = [
        inode.kind === 'chardev' && inode.major === 0 && inode.minor === 0 ? 'whiteout' : inode.kind,
        ...(inode.xattrs.has(OPAQUE_XATTR) ? ['opaque'] : []),
        ...(target === undefined ? [] : [`-> ${Buffer.from(target).toString('latin1')}`]),
      ];
      const line = `${prefix}${name} ${marks.join(' ')}`;
      return inode.kind === 'directory' ? [line, ...outline(inode, `${prefix}${name}/`)] : [line];
    });
}

function refused(t: { throws: Function }, code: string, ...entries: Entry[]): string {
  const error = t.throws(() => build(...entries), { instanceOf: LayerError }) as LayerError;
  if (error.code !== code) throw error;
  return error.message;
}

test('entries of each type become inodes with all their attributes', (t) => {
  const xattrs = new Map([['user.a', Buffer.from('v')]]);
  const { at } = build(
    ['file', 'f', { size: 9, mode: 0o4755, xattrs }],
    symlink('s', '/else/../where'),
    ['chardev', 'c', { major: 4, minor: 64 }],
    ['blockdev', 'b', { major: 8, minor: 1 }],
    ['fifo', 'p'],
    ['directory', 'd/', { mtime: -1n }],
  );
  t.deepEqual(at('f'), {
    kind: 'file',
    mode: 0o4755,
    uid: 1,
    gid: 2,
    mtime: 3n,
    xattrs,
    size: 9,
    extents: [],
  });
  t.like(at('s'), { kind: 'symlink', target: '/else/../where' });
  t.like(at('c'), { kind: 'chardev', major: 4, minor: 64 });
  t.like(at('b'), { kind: 'blockdev', major: 8, minor: 1 });
  t.like(at('p'), { kind: 'fifo', major: 0, minor: 0 });
  t.like(at('d'), { kind: 'directory', mtime: -1n, mode: 0o640 });
});

test('missing parents are made, of root, with mode 755 and time 0, until their own entry comes', (t) => {
  const { at, root } = build(['file', 'a/b/c'], ['directory', 'a/b'], ['directory', './', { mode: 0o700 }]);
  t.like(at('a'), { mode: 0o755, uid: 0, gid: 0, mtime: 0n });
  t.like(at('a/b'), { mode: 0o640, uid: 1, mtime: 3n });
  t.is(at('a/b/c')?.kind, 'file');
  t.like(root, { mode: 0o700, uid: 1 });
});

test('the last entry of a name wins; a directory over a directory keeps its children', (t) => {
  t.deepEqual(outline(build(['file', 'x', { size: 1 }], symlink('x', 'y')).root), ['x symlink']);
  t.deepEqual(outline(build(['file', 'x'], ['directory', 'x'], ['file', 'x/y']).root), [
    'x directory',
    'x/y file',
  ]);
  t.deepEqual(outline(build(['file', 'x/y'], ['file', 'x']).root), ['x file']);
  t.deepEqual(outline(build(['file', 'x/y'], ['file', 'x'], ['directory', 'x']).root), ['x directory']);
  const { at } = build(['file', 'x/y'], ['directory', 'x', { mode: 0o711 }]);
  t.like(at('x'), { mode: 0o711 });
  t.is(at('x/y')?.kind, 'file');
});

test('symbolic links on the way are followed within the layer, the last name is not', (t) => {
  t.deepEqual(
    outline(
      build(['directory', 'usr/lib'], symlink('lib', 'usr/lib'), ['file', 'lib/a'], symlink('lib', 'else'))
        .root,
    ),
    ['lib symlink', 'usr directory', 'usr/lib directory', 'usr/lib/a file'],
  );
  t.deepEqual(outline(build(symlink('a/out', '../../../b'), ['file', 'a/out/x']).root), [
    'a directory',
    'a/out symlink',
    'b directory',
    'b/x file',
  ]);
  t.deepEqual(outline(build(symlink('a/abs', '/c/./d'), ['file', 'a/abs/x']).root), [
    'a directory',
    'a/abs symlink',
    'c directory',
    'c/d directory',
    'c/d/x file',
  ]);
  refused(t, 'INVALID_ENTRY', symlink('a', 'b'), symlink('b', 'a'), ['file', 'a/x']);
  refused(t, 'INVALID_ENTRY', symlink('a', 'n'.repeat(300)), ['file', 'a/x']);
});

test('an entry below a file is refused', (t) => {
  t.regex(refused(t, 'NOT_A_DIRECTORY', ['file', 'a'], ['file', 'a/b']), /"a\/b"/);
});

test('hard links share the inode of their target, which a later entry of its name does not change', (t) => {
  const { at } = build(['file', 'a', { size: 1 }], link('b', './a'), link('/c', './b'), [
    'file',
    'a',
    { size: 2 },
  ]);
  t.is(at('b'), at('c'));
  t.like(at('b'), { size: 1 });
  t.like(at('a'), { size: 2 });
});

test('a hard link to a symbolic link is that link', (t) => {
  const { at } = build(symlink('s', 'nowhere'), link('h', 's'));
  t.is(at('h'), at('s'));
  t.is(at('h')?.kind, 'symlink');
});

test('hard links may stand before their targets, also in chains', (t) => {
  const { at, root } = build(link('a', 'b'), link('b', 'c'), link('x/y', 'a'), ['file', 'c', { size: 5 }]);
  t.is(at('a'), at('c'));
  t.is(at('b'), at('c'));
  t.is(at('x/y'), at('c'));
  t.deepEqual(outline(root), ['a file', 'b file', 'c file', 'x directory', 'x/y file']);
});

test('a hard link whose name gets another entry is that entry', (t) => {
  t.deepEqual(outline(build(link('a', 'b'), ['directory', 'a'], ['file', 'b']).root), [
    'a directory',
    'b file',
  ]);
});

test('a hard link to what is not in the layer keeps the path of its target, and further links share it', (t) => {
  const { at, root } = build(link('a', './usr//bin/tool'), link('b', 'a'), link('c', 'a'));
  t.deepEqual(outline(root), ['a file -> usr/bin/tool', 'b file -> usr/bin/tool', 'c file -> usr/bin/tool']);
  t.is(at('a'), at('b'));
  t.is(at('a'), at('c'));
});

test('a hard link to a name that the layer deletes refers to the layers below', (t) => {
  t.deepEqual(outline(build(['file', '.wh.old'], link('new', 'old')).root), [
    'new file -> old',
    'old whiteout',
  ]);
});

test('a hard link to itself means the layers below, or nothing new', (t) => {
  t.deepEqual(outline(build(link('a', 'a')).root), ['a file -> a']);
  t.deepEqual(outline(build(['file', 'a'], link('a', 'a')).root), ['a file']);
  t.deepEqual(outline(build(link('a', 'b'), link('b', 'a')).root), ['a file -> b', 'b file -> b']);
});

test('hard links in a circle, to a directory or out of the layer are refused', (t) => {
  refused(t, 'LINK_CYCLE', link('a', 'b'), link('b', 'c'), link('c', 'a'));
  refused(t, 'INVALID_ENTRY', ['directory', 'd'], link('a', 'd'));
  refused(t, 'INVALID_ENTRY', link('a', 'd'), ['directory', 'd']);
  refused(t, 'INVALID_ENTRY', link('a', './'));
  t.regex(refused(t, 'HOSTILE_PATH', link('a', '/etc/shadow')), /"\/etc\/shadow"/);
  t.regex(refused(t, 'HOSTILE_PATH', link('a', '../../etc/passwd')), /"a"/);
});

test('whiteouts become devices 0/0 and opaque marks an xattr, wherever they stand', (t) => {
  t.deepEqual(
    outline(
      build(['file', 'd/.wh.gone'], ['file', 'o/kept'], ['file', 'o/.wh..wh..opq'], ['directory', 'o']).root,
    ),
    ['d directory', 'd/gone whiteout', 'o directory opaque', 'o/kept file'],
  );
  t.true(build(['file', '.wh..wh..opq']).root.xattrs.has(OPAQUE_XATTR));
  t.deepEqual(
    Buffer.from(build(['file', '.wh..wh..opq']).root.xattrs.get(OPAQUE_XATTR) as Uint8Array),
    Buffer.from('y'),
  );
});

test('a whiteout of a name in the same layer leaves the entry, and makes a directory opaque', (t) => {
  for (const order of [0, 1]) {
    const entries: Entry[] = [
      ['file', '.wh.f'],
      ['file', 'f'],
      ['directory', 'd'],
      ['file', 'd/x'],
      ['file', '.wh.d'],
    ];
    const tree = build(...(order === 0 ? entries : entries.toReversed()));
    t.deepEqual(outline(tree.root), ['d directory opaque', 'd/x file', 'f file']);
  }
});

test('the litter of AUFS is ignored', (t) => {
  t.deepEqual(
    outline(build(['directory', '.wh..wh.plnk'], ['file', '.wh..wh.plnk/1'], ['file', '.wh..wh.aufs']).root),
    [],
  );
});

test('what no Linux file system can hold is refused, by name', (t) => {
  t.regex(refused(t, 'INVALID_ENTRY', ['file', './']), /root/);
  t.regex(refused(t, 'INVALID_ENTRY', symlink('s', '')), /"s"/);
  refused(t, 'INVALID_ENTRY', symlink('s', 't'.repeat(4096)));
  refused(t, 'INVALID_ENTRY', ['chardev', 'c', { major: 4096 }]);
  refused(t, 'INVALID_ENTRY', ['blockdev', 'c', { minor: 1 << 20 }]);
  refused(
    t,
    'INVALID_ENTRY',
    symlink('a', 'x/'.repeat(2047)),
    ['file', 'a/y'],
    symlink('b', `a/${'x/'.repeat(2040)}`),
    ['file', 'b/y'],
  );
});

test('dropped xattrs are warned about', (t) => {
  const { warnings } = build([
    'directory',
    'd',
    { xattrs: new Map([['trusted.overlay.opaque', Buffer.from('y')]]) },
  ]);
  t.is(warnings.length, 1);
});

test('directories that no entry describes are marked, until one does', (t) => {
  const implicit = (inode: Inode | undefined) => inode?.xattrs.has(IMPLICIT_XATTR);
  const { root, at } = build(['file', 'a/b/f'], ['directory', 'a']);
  t.true(implicit(root));
  t.false(implicit(at('a')));
  t.true(implicit(at('a/b')));
  t.like(at('a'), { mode: 0o640 });
  t.false(implicit(build(['directory', '.']).root));
  const { at: opaque } = build(['file', 'd/.wh..wh..opq']);
  t.deepEqual([...(opaque('d') as Directory).xattrs.keys()].sort(), [IMPLICIT_XATTR, OPAQUE_XATTR].sort());
});
