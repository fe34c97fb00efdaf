import test from 'ava';
import { SequentialStreams } from '../../src/cache/sequential-streams.js';

const options = { openAfter: 16, mostBlocks: 64 };

test('misses that follow one another open a window, and it doubles at each watched block up to the cap', (t) => {
  const streams = new SequentialStreams(1000, options);
  t.is(streams.missed(100, 8), undefined);
  t.is(streams.missed(108, 8), undefined);
  t.deepEqual(streams.missed(116, 8), { first: 124, count: 16, watch: 132 });
  t.deepEqual(streams.touched(132), { first: 140, count: 25, watch: 149 });
  t.deepEqual(streams.touched(149), { first: 165, count: 49, watch: 182 });
  const next = streams.touched(182);
  t.deepEqual(next, { first: 214, count: 33, watch: 215 });
  t.is(streams.touched(182), undefined);
});

test('the misses of a reader may come in another order', (t) => {
  const streams = new SequentialStreams(1000, options);
  streams.missed(0, 8);
  streams.missed(16, 8);
  streams.missed(8, 8);
  t.is(streams.missed(8, 8), undefined, 'what was passed does not count again');
  streams.missed(24, 8);
  const ahead = streams.missed(32, 8) ?? streams.missed(40, 8);
  t.truthy(ahead);
});

test('random misses, and sequences that are too short, open nothing', (t) => {
  const streams = new SequentialStreams(100_000, options);
  let block = 7;
  for (let i = 0; i < 1000; i++) {
    block = (block * 48_271 + 11) % 99_000;
    t.is(streams.missed(block, 8), undefined);
  }
  t.is(streams.missed(99_000, 8), undefined);
  t.is(streams.missed(99_008, 1), undefined);
});

test('readers that take turns have a window each; one that jumps begins anew', (t) => {
  const streams = new SequentialStreams(10_000, options);
  const opened = new Set<number>();
  for (let at = 0; at < 40; at += 8) {
    for (const base of [0, 1000, 2000]) if (streams.missed(base + at, 8) !== undefined) opened.add(base);
  }
  t.deepEqual([...opened], [0, 1000, 2000]);
  t.is(streams.missed(5000, 8), undefined);
  t.is(streams.missed(5008, 8), undefined);
});

test('a reader that catches up with what is on its way gets a larger window', (t) => {
  const streams = new SequentialStreams(1000, options);
  for (const at of [0, 8]) streams.missed(at, 8);
  t.deepEqual(streams.missed(16, 8), { first: 24, count: 16, watch: 32 });
  t.deepEqual(streams.missed(24, 8), { first: 40, count: 24, watch: 48 });
});

test('nothing is read ahead beyond the end of a file that is known, until a reader goes on behind it', (t) => {
  const streams = new SequentialStreams(1000, { openAfter: 16, mostBlocks: 64 });
  streams.missed(100, 8, 130);
  streams.missed(108, 8, 130);
  t.deepEqual(streams.missed(116, 8, 130), { first: 124, count: 6, watch: 127 });
  t.is(streams.touched(127), undefined);
  t.deepEqual(streams.missed(130, 2), { first: 132, count: 64, watch: 164 });
});

test('nothing is read ahead beyond the end of the layer, nor where it is turned off', (t) => {
  const streams = new SequentialStreams(30, options);
  streams.missed(0, 8);
  streams.missed(8, 8);
  t.deepEqual(streams.missed(16, 8), { first: 24, count: 6, watch: 27 });
  t.is(streams.touched(27), undefined);
  const off = new SequentialStreams(1000, { openAfter: 16, mostBlocks: 0 });
  for (let at = 0; at < 100; at += 8) t.is(off.missed(at, 8), undefined);
});
