import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { machine } from '../../bench/machine.js';
import { interleaved, median } from '../../bench/measure.js';
import { numberText, reaches, readResults, writeResults } from '../../bench/results.js';
import { result } from './result.js';

let directory: string;
test.before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'orca-results-'));
});
test.after.always(() => rm(directory, { recursive: true }));

test('results come back as they were written, with all figures in one place', async (t) => {
  const file = join(directory, 'results.json');
  const workloads = { a: result({ figures: { one: 1 } }), b: result({ figures: { two: 2 } }) };
  const written = { machine: await machine(directory), figures: {}, workloads };
  await writeResults(file, written);
  t.deepEqual(await readResults(file), { ...written, figures: { one: 1, two: 2 } });
});

test('what is no results is named', async (t) => {
  const file = join(directory, 'other.json');
  await writeFile(file, '{"figures": {}}');
  await t.throwsAsync(readResults(file), { message: /other\.json holds no results .* no "machine"/ });
  await t.throwsAsync(readResults(join(directory, 'missing')), { message: /missing holds no results/ });
});

test('an aim is reached at its limit, where it says so', (t) => {
  t.true(reaches(3, '≥ 3'));
  t.false(reaches(2.999, '≥ 3'));
  t.true(reaches(1.03, '≤ 1.03'));
  t.false(reaches(1, '< 1'));
  t.true(reaches(0.99, '< 1'));
  t.is(reaches(1, undefined), undefined);
});

test('numbers have three digits that count', (t) => {
  t.deepEqual([0.01234, 1.5, 99.96, 123.4, 50_100, 0].map(numberText), [
    '0.0123',
    '1.5',
    '100',
    '123',
    '50100',
    '0',
  ]);
});

test('sides are measured in turn, and a round before that does not count', async (t) => {
  const order: string[] = [];
  const side = (name: string, values: number[]) => async () => {
    order.push(name);
    return values[order.filter((other) => other === name).length - 1]!;
  };
  const took = await interleaved({ a: side('a', [1000, 2, 30]), b: side('b', [1, 1, 10]) }, 2);
  t.deepEqual(order, ['b', 'a', 'a', 'b', 'b', 'a']);
  t.deepEqual(took.median, { a: 16, b: 5.5 });
  t.is(took.ratio('a', 'b'), 2.5, 'the median of the ratios of the rounds');
  t.is(median([3, 1, 2]), 2);
});
