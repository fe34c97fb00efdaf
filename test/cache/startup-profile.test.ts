import test from 'ava';
import fc from 'fast-check';
import { CacheError } from '../../src/cache/cache-error.js';
import { prefetchProfile } from '../../src/cache/profile-store.js';
import { MAX_RUNS, STARTUP_MS, StartupProfile } from '../../src/cache/startup-profile.js';
import { FaultSource, randomLayer } from './layer-fixture.js';
import { BLOCK, Rig } from './scheduler-rig.js';

const layers = ['a', 'b', 'c'].map((digit) => `sha256:${digit.repeat(64)}`);

const touches = fc
  .array(
    fc.record({
      device: fc.nat({ max: 2 }),
      block: fc.nat({ max: 0xffff_fff0 }),
      time: fc.nat({ max: STARTUP_MS }),
    }),
    { maxLength: 200 },
  )
  .map((list) => list.toSorted((a, b) => a.time - b.time));

test('neighbours in a row are one entry; times count from the first READ, and what comes later is left out', (t) => {
  const touch = (device: number, block: number, time: number) => ({ device, block, time });
  const profile = StartupProfile.record(
    [touch(1, 7, 500), touch(1, 8, 501), touch(0, 3, 520), touch(1, 9, 530), touch(2, 0, 501 + STARTUP_MS)],
    layers,
  );
  t.deepEqual(profile.entries, [
    { layer: 1, block: 7, count: 2, time: 0, seen: 1 },
    { layer: 0, block: 3, count: 1, time: 20, seen: 1 },
    { layer: 1, block: 9, count: 1, time: 30, seen: 1 },
  ]);
});

test('the bytes of version 1 do not change', (t) => {
  const profile = StartupProfile.record([{ device: 0, block: 300, time: 5 }], layers.slice(0, 1));
  t.is(
    Buffer.from(profile.encode()).toString('hex'),
    `4f52434150524f46010001000100000001000000${'a'.repeat(64)}00ac02010001`,
  );
});

test('what is encoded decodes to the same, merged or not', (t) => {
  fc.assert(
    fc.property(fc.array(touches, { minLength: 1, maxLength: 4 }), (runs) => {
      const profile = runs
        .map((run) => StartupProfile.record(run, layers))
        .reduce((merged, run) => merged.merge(run));
      const decoded = StartupProfile.decode(profile.encode());
      t.deepEqual(decoded.entries, profile.entries);
      t.deepEqual(decoded.layers, profile.layers);
      t.is(decoded.runs, runs.length);
    }),
    { numRuns: 100 },
  );
});

test('damaged bytes decode to a profile within its bounds or are refused by name', (t) => {
  fc.assert(
    fc.property(
      touches,
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 6 }),
      fc.nat(),
      (run, flips, cut) => {
        const bytes = Buffer.from(StartupProfile.record(run, layers).encode());
        for (const [at, value] of flips) bytes[at % bytes.length] = value;
        try {
          const { entries } = StartupProfile.decode(
            cut % 3 === 0 ? bytes.subarray(0, cut % bytes.length) : bytes,
          );
          t.true(entries.every(({ layer, count, time }) => layer < 3 && count >= 1 && time <= STARTUP_MS));
        } catch (error) {
          t.true(error instanceof CacheError && error.code === 'INVALID_PROFILE', String(error));
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('of three runs and more, what fewer than half have read is left out', (t) => {
  const run = (...blocks: number[]) =>
    StartupProfile.record(
      blocks.map((block, index) => ({ device: 0, block, time: index })),
      layers,
    );
  let profile = run(10, 90).merge(run(10, 50));
  t.deepEqual(profile.entries.map(({ block }) => block).sort(), [10, 50, 90]);
  profile = profile.merge(run(10, 50));
  t.deepEqual(
    profile.entries.map(({ block, seen }) => [block, seen]),
    [
      [10, 3],
      [50, 2],
    ],
  );
  for (let i = 0; i < 40; i++) profile = profile.merge(run(10));
  t.is(profile.runs, MAX_RUNS);
});

test('a profile is fetched in its order, in large reads; layers and blocks that the image lacks are passed over', async (t) => {
  const content = randomLayer(30, 128 * BLOCK);
  const source = new FaultSource('a', [content]);
  const rig = new Rig(content, [source], { maxReadBytes: 16 * BLOCK, maxPrefetchBytes: 16 * BLOCK });
  const touched = [40, 42, 41, 10, 11, 43, 5000].map((block, time) => ({ device: 1, block, time }));
  touched.push({ device: 0, block: 1, time: 9 });
  const profile = StartupProfile.record(touched, [layers[0]!, content.digests.diffID]);
  await prefetchProfile(
    rig.scheduler,
    [{ layer: rig.layer, close: async () => undefined, setSources: () => undefined }],
    profile,
  );
  t.deepEqual(
    source.reads.map(({ offset, length }) => [offset / BLOCK, length / BLOCK]),
    [
      [10, 2],
      [40, 4],
    ],
  );
});
