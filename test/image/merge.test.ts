import test from 'ava';
import {
  type Directory,
  HARDLINK_XATTR,
  IMPLICIT_XATTR,
  type Inode,
  isWhiteout,
  OPAQUE_XATTR,
  type RegularFile,
  type SpecialFile,
  type SymbolicLink,
} from '../../src/erofs/tree.js';
import { mergeLayers } from '../../src/image/merge.js';
import { Random } from './random.js';

type Attributes = Partial<Pick<Inode, 'mode' | 'uid' | 'xattrs'>>;
const attributes = { mode: 0o644, uid: 0, gid: 0, mtime: 0n, xattrs: new Map<string, Uint8Array>() };
const file = (size: number, more: Attributes = {}): RegularFile => ({
  ...attributes,
  ...more,
  kind: 'file',
  size,
  extents: size === 0 ? [] : [{ fileOffset: 0, device: 0, block: size, blocks: Math.ceil(size / 4096) }],
});
const dir = (children: Record<string, Inode>, more: Attributes = {}): Directory => ({
  ...attributes,
  mode: 0o755,
  ...more,
  kind: 'directory',
  children: new Map(Object.entries(children)),
});
const symlink = (target: string): SymbolicLink => ({ ...attributes, kind: 'symlink', target });
const whiteout = (): SpecialFile => ({ ...attributes, kind: 'chardev', major: 0, minor: 0 });
const opaque = new Map([[OPAQUE_XATTR, Buffer.from('y')]]);
const opaqueDir = (children: Record<string, Inode>, more: Attributes = {}) =>
  dir(children, { xattrs: opaque, ...more });
const hardLink = (target: string) =>
  file(0, { xattrs: new Map([[HARDLINK_XATTR, Buffer.from(target, 'latin1')]]) });

/** Merges trees, lowest first, on devices 1, 2, … */
function merge(...roots: Directory[]): Directory {
  return mergeLayers(roots.map((root, i) => ({ root, device: i + 1, name: `layer${i}` })));
}

/** One line per path: kind, mode, size, device, xattrs, and which names share an inode. */
function listing(root: Directory): Record<string, string> {
  const lines: Record<string, string> = {};
  const numbers = new Map<Inode, string>();
  const work: [string, Inode][] = [['', root]];
  for (let next = work.pop(); next !== undefined; next = work.pop()) {
    const [path, inode] = next;
    const first = numbers.get(inode) ?? path;
    numbers.set(inode, first);
    const detail = inode.kind === 'file' ? `${inode.size}@${inode.extents[0]?.device ?? '-'}` : '';
    const xattrs = [...inode.xattrs.keys()].sort().join(',');
    lines[path || '/'] =
      `${inode.kind} ${inode.mode.toString(8)} ${inode.uid} ${detail} ${xattrs} ${inode.kind === 'directory' ? '' : first}`;
    if (inode.kind === 'directory') {
      for (const name of [...inode.children.keys()].sort().reverse()) {
        work.push([`${path}/${name}`, inode.children.get(name) as Inode]);
      }
    }
  }
  return lines;
}

const paths = (root: Directory) => Object.keys(listing(root)).sort();
const at = (root: Directory, path: string) =>
  path.split('/').reduce<Inode | undefined>((inode, name) => (inode as Directory).children.get(name), root);

test('names of all layers are there, and the topmost wins', (t) => {
  const merged = merge(dir({ a: file(1), b: file(2) }), dir({ b: file(3), c: file(4) }));
  t.deepEqual(paths(merged), ['/', '/a', '/b', '/c']);
  t.like(at(merged, 'b'), { size: 3 });
});

test('extents get the device of their layer', (t) => {
  const merged = merge(dir({ a: file(1) }), dir({ b: file(2) }));
  t.is((at(merged, 'a') as RegularFile).extents[0]?.device, 1);
  t.is((at(merged, 'b') as RegularFile).extents[0]?.device, 2);
});

test('a merged directory has the attributes of the topmost layer that has it', (t) => {
  const merged = merge(
    dir({ d: dir({ a: file(1) }, { mode: 0o700, xattrs: new Map([['user.low', Buffer.from('1')]]) }) }),
    dir({ d: dir({}, { mode: 0o1777, uid: 7, xattrs: new Map([['user.high', Buffer.from('1')]]) }) }),
    dir({}, { mode: 0o711 }),
  );
  t.like(at(merged, 'd'), { mode: 0o1777, uid: 7 });
  t.deepEqual([...(at(merged, 'd') as Directory).xattrs.keys()], ['user.high']);
  t.is(merged.mode, 0o711);
});

test('a whiteout deletes a file, a directory and a whiteout, and is not there itself', (t) => {
  const low = dir({ f: file(1), d: dir({ a: file(1) }), keep: file(1) });
  t.deepEqual(paths(merge(low, dir({ f: whiteout(), d: whiteout(), nothing: whiteout() }))), ['/', '/keep']);
  t.deepEqual(paths(merge(low, dir({ f: whiteout() }), dir({ f: whiteout() }))), [
    '/',
    '/d',
    '/d/a',
    '/keep',
  ]);
});

test('a whiteout in the lowest layer and in a directory of one layer only is not there either', (t) => {
  t.deepEqual(paths(merge(dir({ w: whiteout(), d: dir({ w: whiteout() }) }))), ['/', '/d']);
  t.deepEqual(paths(merge(dir({}), dir({ d: dir({ w: whiteout(), a: file(1) }) }))), ['/', '/d', '/d/a']);
});

test('what was deleted can come back without its past', (t) => {
  const merged = merge(
    dir({ d: dir({ old: file(1) }) }),
    dir({ d: whiteout() }),
    dir({ d: dir({ new: file(1) }) }),
  );
  t.deepEqual(paths(merged), ['/', '/d', '/d/new']);
});

test('an opaque directory hides what is below it, and not what is above', (t) => {
  const merged = merge(
    dir({ d: dir({ low: file(1), sub: dir({ x: file(1) }) }) }),
    dir({ d: opaqueDir({ mid: file(1) }) }),
    dir({ d: dir({ high: file(1) }) }),
  );
  t.deepEqual(paths(merged), ['/', '/d', '/d/high', '/d/mid']);
});

test('overlay marks do not appear in the merged tree', (t) => {
  const marks = new Map([
    ...opaque,
    ['trusted.overlay.origin', Buffer.from('x')],
    ['user.kept', Buffer.from('x')],
  ]);
  const merged = merge(
    dir({ d: dir({}, { xattrs: marks }), f: file(1, { xattrs: marks }) }, { xattrs: marks }),
  );
  for (const inode of [merged, at(merged, 'd'), at(merged, 'f')]) {
    t.deepEqual([...(inode as Inode).xattrs.keys()], ['user.kept']);
  }
});

test('only y makes a directory opaque', (t) => {
  for (const value of ['x', 'yes', '']) {
    const xattrs = new Map([[OPAQUE_XATTR, Buffer.from(value)]]);
    t.deepEqual(paths(merge(dir({ d: dir({ a: file(1) }) }), dir({ d: dir({}, { xattrs }) }))), [
      '/',
      '/d',
      '/d/a',
    ]);
  }
});

test('a directory that its layer does not describe has the attributes of the layers below', (t) => {
  const implicit = new Map([[IMPLICIT_XATTR, new Uint8Array()]]);
  const low = dir({ tmp: dir({ a: file(1) }, { mode: 0o1777, uid: 3 }) }, { mode: 0o555 });
  const high = dir(
    { tmp: dir({ b: file(1) }, { xattrs: implicit }), new: dir({}, { xattrs: implicit }) },
    { xattrs: implicit },
  );
  const merged = merge(low, high);
  t.like(merged, { mode: 0o555 });
  t.like(at(merged, 'tmp'), { mode: 0o1777, uid: 3 });
  t.like(at(merged, 'new'), { mode: 0o755, uid: 0 });
  t.deepEqual([...(at(merged, 'tmp') as Directory).children.keys()].sort(), ['a', 'b']);
  for (const inode of [merged, at(merged, 'tmp'), at(merged, 'new')]) t.is(inode?.xattrs.size, 0);
});

test('an opaque root hides all layers below', (t) => {
  t.deepEqual(paths(merge(dir({ a: file(1) }), opaqueDir({ b: file(1) }), dir({ c: file(1) }))), [
    '/',
    '/b',
    '/c',
  ]);
});

test('a change of type replaces, and cuts off what is below', (t) => {
  const tree = dir({ x: dir({ a: file(1) }) });
  t.is(at(merge(tree, dir({ x: file(5) })), 'x')?.kind, 'file');
  t.is(at(merge(tree, dir({ x: symlink('a') })), 'x')?.kind, 'symlink');
  t.deepEqual(paths(merge(dir({ x: file(5) }), tree)), ['/', '/x', '/x/a']);
  t.deepEqual(paths(merge(tree, dir({ x: file(5) }), dir({ x: dir({ b: file(1) }) }))), ['/', '/x', '/x/b']);
  t.is(at(merge(tree, dir({ x: { ...whiteout(), minor: 3 } })), 'x')?.kind, 'chardev');
});

test('hard links of a layer stay one inode, also when one name is deleted above', (t) => {
  const shared = file(9);
  const merged = merge(dir({ a: shared, b: shared, d: dir({ c: shared }) }), dir({ b: whiteout() }));
  t.is(at(merged, 'a'), at(merged, 'd/c'));
  t.is(at(merged, 'b'), undefined);
  const link = symlink('x');
  const links = merge(dir({ a: link, b: link }));
  t.is(at(links, 'a'), at(links, 'b'));
});

test('layers are not changed, and the same layer may appear twice', (t) => {
  const layer = dir({ a: file(1), d: dir({ b: file(2) }) });
  const before = listing(layer);
  const merged = mergeLayers([
    { root: layer, device: 1, name: 'x' },
    { root: dir({ a: whiteout() }), device: 2, name: 'y' },
    { root: layer, device: 1, name: 'x' },
  ]);
  t.deepEqual(paths(merged), ['/', '/a', '/d', '/d/b']);
  t.deepEqual(listing(layer), before);
});

test('a hard link to a file of a lower layer is that file', (t) => {
  const merged = merge(dir({ d: dir({ a: file(7) }) }), dir({ b: hardLink('d/a'), c: hardLink('/d/./a') }));
  t.is(at(merged, 'b'), at(merged, 'd/a'));
  t.is(at(merged, 'c'), at(merged, 'd/a'));
  t.like(at(merged, 'b'), { size: 7 });
  t.false(at(merged, 'b')?.xattrs.has(HARDLINK_XATTR));
});

test('a hard link outlives its target', (t) => {
  const merged = merge(
    dir({ a: file(7) }),
    dir({ b: hardLink('a'), a: whiteout() }),
    dir({ c: hardLink('b') }),
  );
  t.deepEqual(paths(merged), ['/', '/b', '/c']);
  t.is(at(merged, 'b'), at(merged, 'c'));
  t.is((at(merged, 'c') as RegularFile).extents[0]?.device, 1);
});

test('a hard link means the file that was there, not the one that the same layer puts in its place', (t) => {
  const merged = merge(dir({ a: file(7) }), dir({ b: hardLink('a'), a: file(8) }));
  t.like(at(merged, 'b'), { size: 7 });
  t.like(at(merged, 'a'), { size: 8 });
});

test('the path of a hard link goes through symbolic links, but its end does not', (t) => {
  const low = dir({
    usr: dir({ lib: dir({ a: file(7), l: symlink('a') }) }),
    lib: symlink('usr/lib'),
    abs: symlink('/lib'),
    deep: dir({ up: symlink('../../../usr') }),
  });
  const merged = merge(
    low,
    dir({ x: hardLink('lib/a'), y: hardLink('abs/l'), z: hardLink('deep/up/lib/../lib/a') }),
  );
  t.is(at(merged, 'x'), at(merged, 'usr/lib/a'));
  t.is(at(merged, 'y'), at(merged, 'usr/lib/l'));
  t.is(at(merged, 'z'), at(merged, 'usr/lib/a'));
});

test('a hard link whose path leads back into its own layer is found there', (t) => {
  const merged = merge(
    dir({ lib: symlink('usr/lib') }),
    dir({ usr: dir({ lib: dir({ a: file(7) }) }), b: hardLink('lib/a') }),
  );
  t.is(at(merged, 'b'), at(merged, 'usr/lib/a'));
});

test('a hard link to nothing, to itself, to a directory or around a loop is an error that names layer and path', (t) => {
  const loop = dir({ l: symlink('m'), m: symlink('l'), d: dir({}), w: file(1) });
  for (const target of ['none', 'd', 'b', 'l/x', 'w/x', '']) {
    t.throws(
      () => merge(loop, dir({ b: hardLink(target) })),
      { code: 'BAD_HARD_LINK', message: /^layer layer1: hard link to/ },
      target,
    );
  }
  t.throws(() => merge(dir({ b: hardLink('c'), c: hardLink('b') })), { code: 'BAD_HARD_LINK' });
});

test('names are bytes', (t) => {
  const merged = merge(
    dir({ '\u00ff\u00fe': file(1), __proto__x: file(1) }),
    dir({ b: hardLink('\u00ff\u00fe') }),
  );
  t.is(at(merged, 'b'), at(merged, '\u00ff\u00fe'));
});

test('depth is no limit', (t) => {
  const deep = (leaf: string) => {
    let tree = dir({ [leaf]: file(1) });
    for (let i = 0; i < 50_000; i++) tree = dir({ d: tree });
    return tree;
  };
  let inode: Inode | undefined = merge(deep('a'), deep('b'));
  let depth = 0;
  for (; at(inode as Directory, 'd') !== undefined; depth++) inode = at(inode as Directory, 'd');
  t.is(depth, 50_000);
  t.deepEqual([...(inode as Directory).children.keys()].sort(), ['a', 'b']);
});

test('no layers are an error', (t) => {
  t.throws(() => merge(), { code: 'INVALID_INPUT' });
});

function randomTree(random: Random, depth: number, shared: RegularFile[]): Directory {
  const children: Record<string, Inode> = {};
  for (let i = random.below(5); i >= 0; i--) {
    const name = 'abcdef'[random.below(6)] as string;
    const kind = random.below(10);
    if (kind < 4 && depth > 0) children[name] = randomTree(random, depth - 1, shared);
    else if (kind < 6) children[name] = whiteout();
    else if (kind < 7) children[name] = symlink('abc'[random.below(3)] as string);
    else if (kind < 8) children[name] = shared[random.below(shared.length)] as RegularFile;
    else children[name] = file(random.below(9000));
  }
  const mark = random.below(5) === 0 ? { xattrs: opaque } : {};
  return dir(children, { mode: random.below(0o777), uid: random.below(100), ...mark });
}

/** The same rules in another way: layers are applied one after the other to a table of paths. */
function applyInTurn(roots: readonly Directory[]): Record<string, string> {
  const table = new Map<string, { inode: Inode; device: number }>();
  const remove = (path: string) => {
    for (const key of [...table.keys()]) if (key === path || key.startsWith(`${path}/`)) table.delete(key);
  };
  for (const [i, root] of roots.entries()) {
    const apply = (path: string, inode: Inode) => {
      if (isWhiteout(inode)) return remove(path);
      if (
        inode.kind !== 'directory' ||
        table.get(path)?.inode.kind !== 'directory' ||
        inode.xattrs.has(OPAQUE_XATTR)
      ) {
        remove(path);
      }
      table.set(path, { inode, device: i + 1 });
      if (inode.kind === 'directory')
        for (const [name, child] of inode.children) apply(`${path}/${name}`, child);
    };
    apply('', root);
  }
  const first = new Map<string, string>();
  const numbers = new Map<Inode, number>();
  const lines: Record<string, string> = {};
  for (const path of [...table.keys()].sort()) {
    const { inode, device } = table.get(path) as { inode: Inode; device: number };
    if (!numbers.has(inode)) numbers.set(inode, numbers.size);
    const group = `${numbers.get(inode)}@${device}`;
    if (!first.has(group)) first.set(group, path);
    const detail = inode.kind === 'file' ? `${inode.size}@${inode.size === 0 ? '-' : device}` : '';
    lines[path || '/'] =
      `${inode.kind} ${inode.mode.toString(8)} ${inode.uid} ${detail}  ${inode.kind === 'directory' ? '' : first.get(group)}`;
  }
  return lines;
}

test('random layers merge as if they were applied one after the other', (t) => {
  for (let seed = 1; seed <= 400; seed++) {
    const random = new Random(seed);
    const roots = Array.from({ length: 1 + random.below(6) }, () => {
      const shared = [file(100 + random.below(100)), file(200 + random.below(100))];
      return randomTree(random, 3, shared);
    });
    t.deepEqual(listing(merge(...roots)), applyInTurn(roots), `seed ${seed}`);
  }
});
