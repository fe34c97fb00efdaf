import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { FaultSource, randomLayer } from './layer-fixture.js';
import { BLOCK, Rig } from './scheduler-rig.js';

test('a sequential reader is read ahead of; demand joins what is on its way, and no block is read twice', async (t) => {
  const content = randomLayer(20, 256 * BLOCK);
  const source = new FaultSource('a', [content]);
  const rig = new Rig(
    content,
    [source],
    { maxReadBytes: 8 * BLOCK },
    { openAfter: 16 * BLOCK, most: 64 * BLOCK },
  );
  for (let block = 0; block < 256; block += 8) {
    const absent = Array.from({ length: 8 }, (_, i) => block + i).filter((b) => !rig.file.has(b));
    if (absent.length > 0) t.deepEqual(await rig.read(block, 8), rig.expected(block, 8));
    for (const watched of rig.file.watched.splice(0))
      if (watched < block + 8) rig.scheduler.touched(rig.layer, watched);
  }
  await rig.idle();
  t.is(rig.file.there.size, 256);
  t.is(
    source.reads.reduce((sum, { length }) => sum + length, 0),
    content.bytes.length,
  );
  t.true(rig.scheduler.stats.blocksPrefetched > 100);
});

test('what is prefetched comes in large reads, within the budget, and resolves when it is there', async (t) => {
  const content = randomLayer(21, 200 * BLOCK + 7);
  const source = new FaultSource('a', [content]);
  const rig = new Rig(content, [source], { maxReadBytes: 16 * BLOCK, maxPrefetchBytes: 32 * BLOCK });
  await rig.read(40, 4);
  await rig.scheduler.prefetch(rig.layer, 0, 500, { priority: 'startup' });
  t.is(rig.file.there.size, 201);
  t.is(source.mostOutstanding, 2);
  t.is(
    source.reads.reduce((sum, { length }) => sum + length, 0),
    content.bytes.length,
  );
  t.is(rig.scheduler.stats.blocksPrefetched, 197);
});

test('demand comes before prefetch, and prefetch in the order of its priority', async (t) => {
  const content = randomLayer(22, 256 * BLOCK);
  const source = new FaultSource('a', [content]);
  const rig = new Rig(content, [source], { maxReadBytes: 8 * BLOCK, maxPrefetchBytes: 8 * BLOCK });
  const done = [
    rig.scheduler.prefetch(rig.layer, 0, 16, { priority: 'background' }),
    rig.scheduler.prefetch(rig.layer, 100, 16, { priority: 'startup' }),
    rig.scheduler.prefetch(rig.layer, 200, 16, { priority: 'read-ahead' }),
    rig.read(50),
  ];
  await Promise.all(done);
  t.deepEqual(
    source.reads.map(({ offset }) => offset / BLOCK),
    [50, 200, 208, 100, 108, 0, 8],
  );
});

test('a reader who comes for a prefetched block that fails is served by a read of its own', async (t) => {
  const content = randomLayer(23, 64 * BLOCK);
  const source = new FaultSource('a', [content]);
  let open: () => void = () => undefined;
  source.gate = new Promise((resolve) => {
    open = resolve;
  });
  for (const fault of ['corrupt', 'fail'] as const) {
    source.plan = () => (source.reads.length === 1 ? fault : 'ok');
    source.reads.length = 0;
    const rig = new Rig(content, [source]);
    const prefetch = rig.scheduler.prefetch(rig.layer, 0, 8, { priority: 'startup' });
    await sleep(5);
    const read = rig.read(4);
    open();
    t.deepEqual(await read, rig.expected(4));
    await prefetch;
    t.is(rig.scheduler.stats.blocksFailed, 0);
  }
});

test('a prefetch that cannot be had ends silently; one of a dropped layer ends too', async (t) => {
  const content = randomLayer(24, 64 * BLOCK);
  const refusing = new FaultSource('a', [content]);
  refusing.plan = () => 'refuse';
  const rig = new Rig(content, [refusing]);
  await rig.scheduler.prefetch(rig.layer, 0, 64, { priority: 'background' });
  t.deepEqual(rig.log, []);
  t.is(rig.layer.wants.size, 0);

  const stalling = new FaultSource('b', [content]);
  stalling.plan = () => 'stall';
  const other = new Rig(content, [stalling]);
  const ended = other.scheduler.prefetch(other.layer, 0, 64, { priority: 'background' });
  await sleep(5);
  await other.scheduler.drop(other.layer);
  await ended;
  t.pass();
});

test('a pace holds a prefetch back, and its signal ends it', async (t) => {
  const content = randomLayer(25, 64 * BLOCK);
  const source = new FaultSource('a', [content]);
  const rig = new Rig(content, [source], { maxReadBytes: 8 * BLOCK });
  const asked: number[] = [];
  const ending = new AbortController();
  const ended = rig.scheduler.prefetch(rig.layer, 0, 64, {
    priority: 'background',
    signal: ending.signal,
    pace: (bytes) => {
      asked.push(bytes);
      if (asked.length === 6) ending.abort();
      return asked.length % 2 === 1 ? 5 : 0;
    },
  });
  await ended;
  t.is(source.reads.length, 3);
  t.true(asked.every((bytes) => bytes === 8 * BLOCK));
});
