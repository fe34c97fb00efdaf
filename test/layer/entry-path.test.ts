import test from 'ava';
import { pathComponents, pathMeaning } from '../../src/layer/entry-path.js';
import { LayerError } from '../../src/layer/layer-error.js';

function componentsOf(name: string): string[] {
  return pathComponents(name, name);
}

function meaningOf(name: string): unknown {
  return pathMeaning(componentsOf(name), name);
}

test('leading slashes, dots and double slashes mean nothing', (t) => {
  for (const name of ['a/b', './a/b', '/a/b', 'a//b/', '././/a/./b/.'])
    t.deepEqual(componentsOf(name), ['a', 'b']);
  for (const name of ['.', './', '/', '//.']) t.deepEqual(componentsOf(name), []);
  t.deepEqual(componentsOf('..a/b..'), ['..a', 'b..']);
});

test('a name that leads out of the layer is hostile, and the message names it', (t) => {
  for (const name of ['..', '../../x', 'a/../b', '/..', 'a/..']) {
    const error = t.throws(() => componentsOf(name), { instanceOf: LayerError });
    t.is(error.code, 'HOSTILE_PATH');
    t.true(error.message.includes(JSON.stringify(name)));
  }
});

test('a component has at most 255 bytes, a path 4096', (t) => {
  t.is(componentsOf('n'.repeat(255)).length, 1);
  t.throws(() => componentsOf(`a/${'n'.repeat(256)}`), { code: 'INVALID_ENTRY' });
  t.is(componentsOf('a/'.repeat(2048)).length, 2048);
  t.throws(() => componentsOf(`${'a/'.repeat(2048)}b`), { code: 'INVALID_ENTRY' });
});

test('whiteouts, opaque marks and the litter of AUFS are told from entries', (t) => {
  t.deepEqual(meaningOf('a/file'), { kind: 'entry' });
  t.deepEqual(meaningOf('a/x.wh.y'), { kind: 'entry' });
  t.deepEqual(meaningOf('a/.wh.file'), { kind: 'whiteout', name: 'file' });
  t.deepEqual(meaningOf('.wh..file'), { kind: 'whiteout', name: '.file' });
  t.deepEqual(meaningOf('.wh..wh..opq'), { kind: 'opaque' });
  t.deepEqual(meaningOf('a/.wh..wh..opq'), { kind: 'opaque' });
  t.deepEqual(meaningOf('.wh..wh.aufs'), { kind: 'litter' });
  t.deepEqual(meaningOf('.wh..wh.plnk/1.2'), { kind: 'litter' });
  t.deepEqual(meaningOf('.'), { kind: 'entry' });
});

test('whiteouts of no name, and entries below a whiteout, are refused', (t) => {
  for (const name of ['.wh.', 'a/.wh.', 'a/.wh..', 'a/.wh...', '.wh.a/b']) {
    t.throws(() => meaningOf(name), { instanceOf: LayerError, code: 'HOSTILE_PATH' }, name);
  }
});
