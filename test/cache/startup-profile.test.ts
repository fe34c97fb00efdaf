import test from 'ava';
import fc from 'fast-check';
import { CacheError } from '../../src/cache/cache-error.js';
import { prefetchProfile } from '../../src/cache/profile-store.js';
import { MAX_RUNS, STARTUP_MS, StartupProfile } from '../../src/cache/startup-profile.js';
import { ACCESS_KINDS, type Access, type Located } from '../../src/native/access.js';
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

/** A path of the image, of names that are bytes. */
const path = fc
  .array(fc.stringMatching(/^[a-c\x7f-\xff]{1,3}$/), { minLength: 1, maxLength: 4 })
  .map((names) => names.join('/'));

const accesses: fc.Arbitrary<Access[]> = fc
  .array(
    fc
      .record({
        kind: fc.constantFrom(...ACCESS_KINDS),
        path: fc.oneof(path, fc.constant('')),
        first: fc.nat({ max: 40 }),
        count: fc.integer({ min: 1, max: 12 }),
        time: fc.nat({ max: STARTUP_MS }),
      })
      .map((access) => (access.kind === 'pages' ? access : { ...access, first: 0, count: 1 })),
    { maxLength: 60 },
  )
  .map((list) => list.toSorted((a, b) => a.time - b.time));

const runs = fc.array(fc.tuple(touches, accesses), { minLength: 1, maxLength: 4 });

test('neighbours in a row are one entry; times count from the first READ, and what comes later is left out', (t) => {
  const touch = (device: number, block: number, time: number) => ({ device, block, time });
  const profile = StartupProfile.record(
    [touch(1, 7, 500), touch(1, 8, 501), touch(0, 3, 520), touch(1, 9, 530), touch(2, 0, 501 + STARTUP_MS)],
    layers,
  );
  t.deepEqual(profile.entries, [
    { layer: 1, first: 7, count: 2, time: 0, seen: 1 },
    { layer: 0, first: 3, count: 1, time: 20, seen: 1 },
    { layer: 1, first: 9, count: 1, time: 30, seen: 1 },
  ]);
});

test('the bytes of version 2 do not change', (t) => {
  const access = (kind: Access['kind'], path: string, first = 0, count = 1): Access => ({
    ...{ kind, path, first, count, time: 7 },
  });
  const profile = StartupProfile.record([{ device: 0, block: 300, time: 5 }], layers.slice(0, 1), [
    access('name', 'usr/bin'),
    access('pages', 'usr/bin/sh', 2, 130),
    access('absent', 'usr/sbin'),
  ]);
  t.is(
    Buffer.from(profile.encode()).toString('hex'),
    `4f52434150524f4602000100010000000100000003000000${'a'.repeat(64)}` +
      '00ac02010001' +
      `000007${Buffer.from('usr/bin').toString('hex')}0201` +
      `040703${Buffer.from('/sh').toString('hex')}0001028201` +
      `010404${Buffer.from('sbin').toString('hex')}0001`,
  );
});

test('what is encoded decodes to the same, merged or not', (t) => {
  fc.assert(
    fc.property(runs, (list) => {
      const profile = list
        .map(([blocks, steps]) => StartupProfile.record(blocks, layers, steps))
        .reduce((merged, run) => merged.merge(run));
      const decoded = StartupProfile.decode(profile.encode());
      t.deepEqual(decoded.entries, profile.entries);
      t.deepEqual(decoded.steps, profile.steps);
      t.deepEqual(decoded.layers, profile.layers);
      t.is(decoded.runs, list.length);
    }),
    { numRuns: 100 },
  );
});

test('a merged profile says of every page how many runs have read it', (t) => {
  fc.assert(
    fc.property(runs, (list) => {
      const counted = new Map<string, number>();
      for (const [, steps] of list) {
        const read = new Set<string>();
        for (const { kind, path, first, count } of steps)
          for (let page = first; page < first + count; page++) read.add(`${kind} ${path} ${page}`);
        for (const page of read) counted.set(page, (counted.get(page) ?? 0) + 1);
      }
      const profile = list
        .map(([blocks, steps]) => StartupProfile.record(blocks, layers, steps))
        .reduce((merged, run) => merged.merge(run));
      const said = profile.steps.flatMap(({ kind, path, first, count, seen }) =>
        Array.from({ length: count }, (_, i) => [`${kind} ${path} ${first + i}`, seen] as const),
      );
      t.true(said.every(([page, seen]) => counted.get(page) === seen));
      t.is(said.length, counted.size, 'no page twice');
      const times = profile.steps.map(({ time }) => time);
      t.deepEqual(
        times,
        times.toSorted((a, b) => a - b),
      );
    }),
    { numRuns: 100 },
  );
});

test('damaged bytes decode to a profile within its bounds or are refused by name', (t) => {
  fc.assert(
    fc.property(
      touches,
      accesses,
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 6 }),
      fc.nat(),
      (blocks, names, flips, cut) => {
        const bytes = Buffer.from(StartupProfile.record(blocks, layers, names).encode());
        for (const [at, value] of flips) bytes[at % bytes.length] = value;
        try {
          const { entries, steps } = StartupProfile.decode(
            cut % 3 === 0 ? bytes.subarray(0, cut % bytes.length) : bytes,
          );
          t.true(entries.every(({ layer, count, time }) => layer < 3 && count >= 1 && time <= STARTUP_MS));
          t.true(steps.every(({ path }) => !path.split('/').some((part) => part === '..' || part === '.')));
        } catch (error) {
          t.true(error instanceof CacheError && error.code === 'INVALID_PROFILE', String(error));
        }
      },
    ),
    { numRuns: 500 },
  );
});

test('paths that leave the image, or are no paths, are refused', (t) => {
  const good = Buffer.from(
    StartupProfile.record([], layers, [
      { kind: 'name', path: 'aa/bb', first: 0, count: 1, time: 0 },
    ]).encode(),
  );
  const at = good.indexOf('aa/bb');
  for (const bad of ['../bb', 'aa/..', '/a/bb', 'aa//b', 'a/./b', 'aa/b/', 'a\0/bb']) {
    const bytes = Buffer.from(good);
    bytes.write(bad, at, 'latin1');
    t.throws(() => StartupProfile.decode(bytes), { code: 'INVALID_PROFILE' }, bad);
  }
});

test('a small profile that unfolds to long paths without end is refused', (t) => {
  const long = Array.from({ length: 16 }, () => 'x'.repeat(250)).join('/');
  const steps = Array.from({ length: 5000 }, (_, index) => ({
    ...{ kind: 'pages' as const, path: long, first: index * 2, count: 1, time: 0 },
  }));
  const profile = StartupProfile.record([], layers, steps);
  const kept = StartupProfile.decode(profile.encode()).steps.length;
  t.true(kept > 2000 && kept < 5000, 'the encoder keeps to the bound');
  const bytes = Buffer.from(profile.encode());
  const one = bytes.subarray(-8);
  const more = Buffer.concat([bytes, ...Array.from({ length: 40 }, () => one)]);
  more.writeUInt32LE(kept + 40, 20);
  t.throws(() => StartupProfile.decode(more), { code: 'INVALID_PROFILE' });
});

test('of three runs and more, what at least half have asked for is replayed; what is new is not forgotten', (t) => {
  const run = (...blocks: number[]) =>
    StartupProfile.record(
      blocks.map((block, index) => ({ device: 0, block, time: index })),
      layers,
      blocks.map((block, time) => ({ kind: 'name', path: `file-${block}`, first: 0, count: 1, time })),
    );
  const replayed = (profile: StartupProfile) => {
    const { entries, steps } = profile.usual();
    const blocks = entries.map(({ first }) => first).sort((a, b) => a - b);
    t.deepEqual(
      steps.map(({ path }) => path).sort(),
      blocks.map((block) => `file-${block}`),
    );
    return blocks;
  };
  let profile = run(10, 90).merge(run(10, 50));
  t.deepEqual(replayed(profile), [10, 50, 90]);
  profile = profile.merge(run(10, 50));
  t.deepEqual(replayed(profile), [10, 50]);
  profile = profile.merge(run(10, 70));
  t.deepEqual(replayed(profile), [10, 50]);
  for (let i = 0; i < 3; i++) profile = profile.merge(run(10, 70));
  t.deepEqual(replayed(profile), [10, 70]);
  for (let i = 0; i < 40; i++) profile = profile.merge(run(10));
  t.is(profile.runs, MAX_RUNS);
});

test('what is inherited is one run of the other image, in the order of time, and has bytes of its own', (t) => {
  const others = ['d', 'e'].map((digit) => `sha256:${digit.repeat(64)}`);
  const found = fc.record({ applies: fc.boolean(), device: fc.nat({ max: 1 }), blocks: fc.nat({ max: 3 }) });
  fc.assert(
    fc.property(runs, fc.infiniteStream(found), (list, answers) => {
      const [first, ...rest] = list.map(([touched, accessed]) =>
        StartupProfile.record(touched, layers, accessed),
      );
      const earlier = rest.reduce((merged, one) => merged.merge(one), first!).usual();
      const located: Located = { steps: [], blocks: [] };
      for (const [step, { kind, count }] of earlier.steps.entries()) {
        const { applies, device, blocks } = answers.next().value!;
        if (!applies) continue;
        located.steps.push({ step, count });
        if (kind === 'pages' && blocks > 0)
          located.blocks.push({ step, device, first: 10 * step, count: blocks });
      }
      const profile = StartupProfile.inherit(earlier, others, located);
      t.deepEqual([profile.layers, profile.runs], [others, 1]);
      t.true([...profile.entries, ...profile.steps].every(({ seen }) => seen === 1));
      for (const list of [profile.entries, profile.steps])
        t.deepEqual(
          list,
          [...list].sort((a, b) => a.time - b.time),
        );
      const sum = (list: readonly { count: number }[]) => list.reduce((all, { count }) => all + count, 0);
      t.is(sum(profile.entries), sum(located.blocks));
      t.is(sum(profile.steps), sum(located.steps));
      const { entries, steps } = StartupProfile.decode(profile.encode());
      t.deepEqual({ entries, steps }, { entries: profile.entries, steps: profile.steps });
    }),
  );
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
