import test from 'ava';
import { parseContentRange, parseRange, parseRanges } from '../../src/registry/range.js';

test('one range of bytes is understood', (t) => {
  t.deepEqual(parseRange('bytes=0-0', 10), { start: 0, end: 1 });
  t.deepEqual(parseRange('bytes=5-', 10), { start: 5, end: 10 });
  t.deepEqual(parseRange('BYTES=-3', 10), { start: 7, end: 10 });
  t.deepEqual(parseRange('bytes=-30', 10), { start: 0, end: 10 });
  t.deepEqual(parseRange('bytes=3-99', 10), { start: 3, end: 10 });
});

test('no range, other units and several ranges mean everything', (t) => {
  for (const header of [undefined, '', 'lines=1-2', 'bytes=0-1,3-4', 'bytes'])
    t.is(parseRange(header, 10), undefined);
});

test('a range that is malformed or outside cannot be satisfied', (t) => {
  for (const header of [
    'bytes=10-',
    'bytes=5-4',
    'bytes=-0',
    'bytes=-',
    'bytes=',
    'bytes=a-b',
    'bytes=1-2x',
    `bytes=${'9'.repeat(40)}-`,
  ]) {
    t.is(parseRange(header, 10), 'unsatisfiable', header);
  }
  for (const header of ['bytes=0-', 'bytes=0-0', 'bytes=-1']) t.is(parseRange(header, 0), 'unsatisfiable');
});

test('the range of a chunk', (t) => {
  t.deepEqual(parseContentRange('0-9'), { start: 0, end: 10 });
  t.deepEqual(parseContentRange('5-5'), { start: 5, end: 6 });
  t.deepEqual(parseContentRange('bytes 0-9/10'), { start: 0, end: 10 });
  t.deepEqual(parseContentRange('bytes=0-9'), { start: 0, end: 10 });
  t.deepEqual(parseContentRange('bytes 0-9/*'), { start: 0, end: 10 });
  for (const header of ['', '-', '1', '9-0', '0-', '-9', '0-9-', 'x', '0 - 9', `0-${'9'.repeat(16)}`]) {
    t.is(parseContentRange(header), undefined, header);
  }
});

for (const [header, size, ranges] of [
  [undefined, 10, undefined],
  ['items=0-1', 10, undefined],
  ['bytes=0-3', 10, [[0, 4]]],
  [
    'bytes=0-3, 6-7',
    10,
    [
      [0, 4],
      [6, 8],
    ],
  ],
  [
    'bytes=6-7,0-3',
    10,
    [
      [6, 8],
      [0, 4],
    ],
  ],
  [
    'bytes=0-0,-1',
    10,
    [
      [0, 1],
      [9, 10],
    ],
  ],
  [
    'bytes= 0-1 ,, 4- ',
    10,
    [
      [0, 2],
      [4, 10],
    ],
  ],
  ['bytes=0-1,50-60', 10, [[0, 2]]],
  ['bytes=50-60', 10, 'unsatisfiable'],
  ['bytes=0-3,2-5', 10, 'unsatisfiable'],
  ['bytes=0-,0-', 10, 'unsatisfiable'],
  ['bytes=0-1,x', 10, 'unsatisfiable'],
  ['bytes=0-1,5-4', 10, [[0, 2]]],
  ['bytes=', 10, 'unsatisfiable'],
  ['bytes=,', 10, 'unsatisfiable'],
  ['bytes=0-1', 0, 'unsatisfiable'],
  [
    `bytes=${Array.from({ length: 16 }, (_, i) => `${2 * i}-${2 * i}`).join()}`,
    40,
    Array.from({ length: 16 }, (_, i) => [2 * i, 2 * i + 1]),
  ],
  [`bytes=${Array.from({ length: 17 }, (_, i) => `${2 * i}-${2 * i}`).join()}`, 40, 'unsatisfiable'],
] as const) {
  test(`several ranges: ${header?.slice(0, 40)} of ${size} bytes (${header?.length ?? 0})`, (t) => {
    const expected = Array.isArray(ranges) ? ranges.map(([start, end]) => ({ start, end })) : ranges;
    t.deepEqual(parseRanges(header, size) as unknown, expected);
  });
}
