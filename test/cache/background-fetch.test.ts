import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { fetchInBackground } from '../../src/cache/background-fetch.js';
import { IdleProcessors } from '../../src/cache/idle-processors.js';
import { FaultSource, randomLayer } from './layer-fixture.js';
import { BLOCK, Rig } from './scheduler-rig.js';

function place(seed: number, blocks: number, limit = Number.POSITIVE_INFINITY) {
  const content = randomLayer(seed, blocks * BLOCK);
  const source = new FaultSource('a', [content]);
  const rig = new Rig(content, [source], { maxReadBytes: 4 * BLOCK, maxPrefetchBytes: 4 * BLOCK });
  const eviction = {
    limit,
    get used() {
      return rig.file.there.size * BLOCK;
    },
  };
  const leases = [{ layer: rig.layer, close: async () => undefined, setSources: () => undefined }];
  // The machine that runs the tests is busy.
  const idleShare = () => 1;
  return { source, rig, cache: { scheduler: rig.scheduler, eviction, idleShare }, leases };
}

test('all of the image comes, but for what is there', async (t) => {
  const { source, rig, cache, leases } = place(1, 64);
  await rig.read(8, 8);
  const { signal } = new AbortController();
  await fetchInBackground(cache, leases, { rate: 1e12, signal, idle: 5, again: 5 });
  t.is(rig.file.there.size, 64);
  t.is(
    source.reads.reduce((sum, { length }) => sum + length, 0),
    64 * BLOCK,
  );
});

test('it waits while readers wait, and ends with the signal', async (t) => {
  const { rig, cache, leases } = place(2, 64);
  const ending = new AbortController();
  const idle = 300;
  const fetching = fetchInBackground(cache, leases, { rate: 1e12, signal: ending.signal, idle });
  for (let i = 0; i < 8; i++) {
    await rig.read(i);
    await sleep(50);
  }
  t.is(rig.file.there.size, 8, 'a reader came again and again');
  ending.abort();
  await fetching;
  await sleep(2 * idle);
  t.is(rig.file.there.size, 8);
});

test('it is no faster than it may be', async (t) => {
  const { rig, cache, leases } = place(3, 64);
  const ending = new AbortController();
  const rate = 32 * BLOCK;
  const begun = performance.now();
  const fetching = fetchInBackground(cache, leases, { rate, signal: ending.signal, idle: 1 });
  await sleep(700);
  const allowed = (rate * (performance.now() - begun + 250)) / 1000 / BLOCK + 4;
  t.true(rig.file.there.size > 0 && rig.file.there.size <= allowed, `${rig.file.there.size}`);
  ending.abort();
  await fetching;
});

test('it leaves the rest of the cache to others, and goes on when there is room', async (t) => {
  const { rig, cache, leases } = place(4, 64, 40 * BLOCK);
  const ending = new AbortController();
  const fetching = fetchInBackground(cache, leases, {
    rate: 1e12,
    signal: ending.signal,
    idle: 5,
    again: 5,
  });
  await sleep(600);
  t.is(rig.file.there.size, 32);
  cache.eviction.limit = 100 * BLOCK;
  await fetching;
  t.is(rig.file.there.size, 64);
});

test('it waits while the processors are busy', async (t) => {
  const { rig, cache, leases } = place(5, 64);
  const { signal } = new AbortController();
  let share = 0.1;
  cache.idleShare = () => share;
  const fetching = fetchInBackground(cache, leases, { rate: 1e12, signal, idle: 5, again: 5 });
  await sleep(600);
  t.is(rig.file.there.size, 0);
  share = 0.9;
  await fetching;
  t.is(rig.file.there.size, 64);
});

test('the idle share of the processors is one of a whole, nothing at the first look, and kept for a while', async (t) => {
  const processors = new IdleProcessors();
  t.is(processors.share(0), 0);
  await sleep(300);
  const share = processors.share(300);
  t.true(share >= 0 && share <= 1, `${share}`);
  t.is(processors.share(400), share);
});
