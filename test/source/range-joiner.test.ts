import test from 'ava';
import { RangeJoiner } from '../../src/source/range-joiner.js';

const BYTES = Buffer.from(Array.from({ length: 100_000 }, (_, i) => i % 251));

test('ranges of one turn that are neighbours or overlap are one request', async (t) => {
  const requests: string[] = [];
  const joiner = new RangeJoiner(async (offset, length) => {
    requests.push(`${offset}+${length}`);
    return BYTES.subarray(offset, offset + length);
  });
  const ranges = [
    [50_000, 10],
    [0, 100],
    [50, 100],
    [8000, 10],
    [50_010, 5],
  ] as const;
  const read = await Promise.all(ranges.map(([offset, length]) => joiner.read(offset, length)));
  for (const [i, [offset, length]] of ranges.entries())
    t.deepEqual(read[i], BYTES.subarray(offset, offset + length));
  t.deepEqual(requests, ['0+8010', '50000+15']);
  await joiner.read(1, 1);
  t.is(requests.length, 3);
});

test('a request that fails is the failure of its ranges alone', async (t) => {
  const joiner = new RangeJoiner(async (offset, length) => {
    if (offset > 50_000) throw new Error('cut');
    return BYTES.subarray(offset, offset + length);
  });
  const [first, second] = await Promise.allSettled([joiner.read(0, 10), joiner.read(90_000, 10)]);
  t.is(first?.status, 'fulfilled');
  t.is(second?.status, 'rejected');
});
