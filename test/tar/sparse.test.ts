import test from 'ava';
import { checkSegments, parseSparseMap, SparseMapReader } from '../../src/tar/sparse.js';
import { MAX_SPARSE_SEGMENTS } from '../../src/tar/tar.js';

test('a map of format 0.1 is pairs of numbers', (t) => {
  t.deepEqual(parseSparseMap('0,10,512,5'), [
    { offset: 0, length: 10 },
    { offset: 512, length: 5 },
  ]);
  t.deepEqual(parseSparseMap(''), []);
  for (const text of ['1', '1,2,3', '1,,2', 'a,1', '1,-2', ',', '1,99999999999999999999']) {
    t.throws(() => parseSparseMap(text), { code: 'INVALID_SPARSE' }, text);
  }
});

test('a map of format 1.0 goes over as many blocks as it needs', (t) => {
  const numbers = Array.from({ length: 100 }, (_, i) => [i * 8192, 4096]).flat();
  const text = Buffer.from(`100\n${numbers.join('\n')}\n`.padEnd(1536, '\0'));
  const reader = new SparseMapReader();
  for (let at = 0; at < text.length; at += 512) {
    t.false(reader.done);
    reader.push(text.subarray(at, at + 512));
  }
  t.true(reader.done);
  t.is(reader.segments.length, 100);
  t.deepEqual(reader.segments[99], { offset: 99 * 8192, length: 4096 });
});

test('a map of format 1.0 without pieces is done at once', (t) => {
  const reader = new SparseMapReader();
  reader.push(Buffer.from('0\n'.padEnd(512, '\0')));
  t.true(reader.done);
});

test('a map that claims more pieces than the limit is refused before any is read', (t) => {
  const reader = new SparseMapReader();
  t.throws(() => reader.push(Buffer.from(`${MAX_SPARSE_SEGMENTS + 1}\n`)), { code: 'TOO_LARGE' });
});

test('pieces must ascend, lie in the file and be what is stored; empty ones are dropped', (t) => {
  t.deepEqual(
    checkSegments(
      [
        { offset: 0, length: 1 },
        { offset: 1, length: 0 },
        { offset: 1, length: 2 },
        { offset: 9, length: 0 },
      ],
      9,
      3,
    ),
    [
      { offset: 0, length: 1 },
      { offset: 1, length: 2 },
    ],
  );
  const bad = { code: 'INVALID_SPARSE' };
  t.throws(
    () =>
      checkSegments(
        [
          { offset: 0, length: 2 },
          { offset: 1, length: 1 },
        ],
        9,
        3,
      ),
    bad,
  );
  t.throws(() => checkSegments([{ offset: 8, length: 2 }], 9, 2), bad);
  t.throws(() => checkSegments([{ offset: 0, length: 2 }], 9, 3), bad);
  t.throws(() => checkSegments([{ offset: 10, length: 0 }], 9, 0), bad);
});
