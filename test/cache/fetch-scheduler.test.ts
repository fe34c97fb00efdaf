import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { FaultSource, randomLayer, seeded } from './layer-fixture.js';
import { BLOCK, Rig } from './scheduler-rig.js';

const EIO = 5;

test('misses of one turn that are neighbours become one read, whatever their order', async (t) => {
  const content = randomLayer(1, 64 * BLOCK);
  const source = new FaultSource('a', [content]);
  const rig = new Rig(content, [source]);
  const reads = [5, 3, 4, 20, 6].map((block) => rig.read(block));
  const [five, three] = await Promise.all(reads);
  t.deepEqual(five, rig.expected(5));
  t.deepEqual(three, rig.expected(3));
  t.deepEqual(
    source.reads.map(({ offset, length }) => [offset / BLOCK, length / BLOCK]),
    [
      [3, 4],
      [20, 1],
    ],
  );
});

test('one read is never larger than the cap, and the short last block comes whole', async (t) => {
  const content = randomLayer(2, 20 * BLOCK + 100);
  const source = new FaultSource('a', [content]);
  const rig = new Rig(content, [source], { maxReadBytes: 8 * BLOCK });
  t.deepEqual(await rig.read(0, 21), content.bytes);
  t.deepEqual(
    source.reads.map(({ length }) => length),
    [8 * BLOCK, 8 * BLOCK, 4 * BLOCK + 100],
  );
});

test('readers of a block that is on its way cause no second read', async (t) => {
  const content = randomLayer(3, 8 * BLOCK);
  const source = new FaultSource('a', [content]);
  let open: () => void = () => undefined;
  source.gate = new Promise((resolve) => {
    open = resolve;
  });
  const rig = new Rig(content, [source]);
  const first = rig.read(2);
  await sleep(5);
  const others = [rig.read(2), rig.read(2), rig.read(2)];
  await sleep(5);
  open();
  for (const answer of await Promise.all([first, ...others])) t.deepEqual(answer, rig.expected(2));
  t.is(source.reads.length, 1);
  t.is(rig.scheduler.stats.blocksWanted, 1);
});

test('no more reads are outstanding than allowed', async (t) => {
  const content = randomLayer(4, 64 * BLOCK);
  const source = new FaultSource('a', [content]);
  const rig = new Rig(content, [source], { maxOutstanding: 3 });
  await Promise.all(Array.from({ length: 32 }, (_, i) => rig.read(i * 2)));
  t.is(source.mostOutstanding, 3);
  t.is(source.reads.length, 32);
});

test('a source that is down at first makes readers wait, not fail; down and up are one log line each', async (t) => {
  const content = randomLayer(5, 32 * BLOCK);
  const source = new FaultSource('smb://share', [content]);
  source.plan = () => 'fail';
  const rig = new Rig(content, [source]);
  const reads = Promise.all([rig.read(0, 4), rig.read(10), rig.read(20, 3)]);
  await sleep(250);
  t.false(rig.states[0]?.healthy);
  source.plan = () => 'ok';
  t.deepEqual((await reads)[0], rig.expected(0, 4));
  t.true(rig.states[0]?.healthy);
  t.is(rig.log.length, 2, rig.log.join('\n'));
  t.regex(rig.log[0] ?? '', /^warn: smb:\/\/share fails/);
  t.is(rig.log[1], 'info: smb://share is back');
});

test('a source that is down is probed by one read at a time', async (t) => {
  const content = randomLayer(6, 64 * BLOCK);
  const source = new FaultSource('a', [content]);
  source.plan = () => 'fail';
  const rig = new Rig(content, [source]);
  const reads = Array.from({ length: 20 }, (_, i) => rig.read(i * 2));
  await sleep(20);
  const before = source.reads.length;
  source.mostOutstanding = 0;
  await sleep(400);
  t.true(source.reads.length > before);
  t.is(source.mostOutstanding, 1);
  source.plan = () => 'ok';
  await Promise.all(reads);
  t.pass();
});

test('when the deadline is over, readers get EIO and one line names layer, blocks, source and reason', async (t) => {
  const content = randomLayer(7, 16 * BLOCK);
  const source = new FaultSource('smb://share', [content]);
  source.plan = () => 'fail';
  const rig = new Rig(content, [source], { deadline: 1000 });
  t.is(await rig.read(4, 3), EIO);
  const errors = rig.log.filter((line) => line.startsWith('error'));
  t.is(errors.length, 1, rig.log.join('\n'));
  t.true(errors[0]?.includes(content.digests.diffID));
  t.regex(errors[0] ?? '', /blocks 4 to 6 .*smb:\/\/share: CONNECTION_LOST, connection reset by plan/);

  source.plan = () => 'ok';
  t.deepEqual(await rig.read(7, 3), rig.expected(7, 3));
  t.deepEqual(await rig.read(4, 3), rig.expected(4, 3));
});

test('who asks again right after the deadline waits only for one more try', async (t) => {
  const content = randomLayer(17, 16 * BLOCK);
  const source = new FaultSource('a', [content]);
  source.plan = () => 'fail';
  const rig = new Rig(content, [source], { deadline: 4000 });
  t.is(await rig.read(4), EIO);
  const tried = source.reads.length;
  t.is(await Promise.race([rig.read(4), sleep(3000, 'as long as before')]), EIO);
  t.true(source.reads.length > tried);
  source.plan = () => 'ok';
  t.deepEqual(await rig.read(4), rig.expected(4));
});

test('who asks after that has the whole time again, and a source that is back is asked at once', async (t) => {
  const content = randomLayer(18, 16 * BLOCK);
  const source = new FaultSource('a', [content]);
  source.plan = () => 'fail';
  const rig = new Rig(content, [source], { deadline: 2000 });
  t.is(await rig.read(4), EIO);
  t.is(await rig.read(4), EIO);
  source.plan = () => 'ok';
  source.gate = sleep(1000);
  t.deepEqual(await rig.read(4), rig.expected(4));
});

test('a source whose turn had not come when the deadline is over is asked before readers get EIO', async (t) => {
  const content = randomLayer(19, 16 * BLOCK);
  const sources = [new FaultSource('a', [content]), new FaultSource('b', [content])];
  const rig = new Rig(content, sources, { deadline: 600 });
  sources[0]!.plan = () => 'stall';
  t.deepEqual(await rig.read(4), rig.expected(4));
});

test('a corrupt block is EIO, its neighbours are served, and it is right when the source has healed', async (t) => {
  const content = randomLayer(8, 16 * BLOCK);
  const source = new FaultSource('a', [content]);
  source.plan = ({ offset, length }) =>
    offset <= 5 * BLOCK && offset + length > 5 * BLOCK ? 'corrupt' : 'ok';
  const rig = new Rig(content, [source]);
  const [four, five, six] = await Promise.all([rig.read(4), rig.read(5), rig.read(6)]);
  t.deepEqual(four, rig.expected(4));
  t.is(five, EIO);
  t.deepEqual(six, rig.expected(6));
  t.false(rig.file.has(5));
  t.is(rig.scheduler.stats.blocksCorrupt, 2);
  t.regex(rig.log.join('\n'), /block 5 of layer sha256:[0-9a-f]+: a: .*does not match/);

  source.plan = () => 'ok';
  t.deepEqual(await rig.read(5), rig.expected(5));
});

test('a block that came wrong once by accident is read again', async (t) => {
  const content = randomLayer(9, 4 * BLOCK);
  const source = new FaultSource('a', [content]);
  source.plan = () => (source.reads.length === 1 ? 'corrupt' : 'ok');
  const rig = new Rig(content, [source]);
  t.deepEqual(await rig.read(1), rig.expected(1));
  t.deepEqual(rig.log, []);
});

for (const fault of ['fail', 'corrupt', 'short', 'refuse', 'stall'] as const) {
  test(`the next source takes over from one whose reads end in "${fault}"`, async (t) => {
    const content = randomLayer(10, 64 * BLOCK);
    const first = new FaultSource('first', [content]);
    const second = new FaultSource('second', [content]);
    first.plan = () => fault;
    const rig = new Rig(content, [first, second], { attemptTimeout: 50 });
    for (const block of [3, 30, 50]) t.deepEqual(await rig.read(block, 4), rig.expected(block, 4));
    t.true(first.reads.length >= 1);
    await rig.idle();
    const [one, two] = rig.layer.sources.map((source) => source.bytes / BLOCK);
    // Of a corrupt read the blocks that verify count.
    t.true(fault === 'corrupt' ? (one ?? 0) < 12 : one === 0);
    t.is((one ?? 0) + (two ?? 0), 12);
    t.truthy(rig.layer.sources[0]?.lastProblem);
    t.deepEqual(
      rig.log.filter((line) => line.startsWith('error')),
      [],
    );
  });
}

test('the first source in order serves again when it is back', async (t) => {
  const content = randomLayer(11, 64 * BLOCK);
  const first = new FaultSource('first', [content]);
  const second = new FaultSource('second', [content]);
  first.plan = () => 'fail';
  const rig = new Rig(content, [first, second]);
  await rig.read(1);
  await rig.idle();
  t.is(rig.layer.sources[1]?.bytes, BLOCK);
  first.plan = () => 'ok';
  // It is probed in the background, so that no reader pays for it.
  while (!rig.layer.sources[0]?.state.healthy) await sleep(10);
  t.deepEqual(await rig.read(40), rig.expected(40));
  await rig.idle();
  t.is(rig.layer.sources[0]?.bytes, BLOCK);
});

test('a source that lacks the layer, or has another size of it, is passed over', async (t) => {
  const content = randomLayer(12, 8 * BLOCK);
  const cut = { bytes: content.bytes.subarray(0, 7 * BLOCK), digests: content.digests };
  const rig = new Rig(content, [
    new FaultSource('lacking', []),
    new FaultSource('cut', [cut]),
    new FaultSource('whole', [content]),
  ]);
  t.deepEqual(await rig.read(7), rig.expected(7));
  t.deepEqual(
    rig.layer.sources.map((source) => source.lastProblem?.code),
    ['NOT_FOUND', 'CORRUPT', undefined],
  );
});

test('without any source that has the layer, EIO comes at once and every source is named', async (t) => {
  const content = randomLayer(13, 8 * BLOCK);
  const rig = new Rig(content, [new FaultSource('one', []), new FaultSource('two', [])]);
  t.is(await rig.read(0), EIO);
  t.regex(rig.log.join('\n'), /one: NOT_FOUND, .*; two: NOT_FOUND, /);
});

test('what the disk refuses still reaches the readers, with one log line', async (t) => {
  const content = randomLayer(14, 8 * BLOCK);
  const rig = new Rig(content, [new FaultSource('a', [content])]);
  rig.file.refusal = Object.assign(new Error('no space'), { code: 'ENOSPC' });
  t.deepEqual(await rig.read(0, 2), rig.expected(0, 2));
  t.deepEqual(await rig.read(0, 2), rig.expected(0, 2));
  await rig.idle();
  t.is(rig.scheduler.stats.blocksUncached, 4);
  t.is(rig.log.length, 1, rig.log.join('\n'));
  t.regex(rig.log[0] ?? '', /warn: \/cache\/layers\/x.data cannot be written \(ENOSPC\)/);
});

test('suspect blocks are verified from the disk; what is spoilt there is fetched', async (t) => {
  const content = randomLayer(15, 8 * BLOCK);
  const source = new FaultSource('a', [content]);
  const rig = new Rig(content, [source]);
  rig.file.suspect = true;
  rig.file.claimed.set(1, Buffer.from(rig.expected(1)));
  rig.file.claimed.set(2, Buffer.alloc(BLOCK));
  t.deepEqual(await rig.read(1), rig.expected(1));
  t.is(source.reads.length, 0);
  t.deepEqual(await rig.read(2), rig.expected(2));
  t.is(source.reads.length, 1);
  t.is(rig.scheduler.stats.blocksRecovered, 1);
});

test('dropping a layer aborts its reads and closes what is open at the source', async (t) => {
  const content = randomLayer(16, 8 * BLOCK);
  const source = new FaultSource('a', [content]);
  source.plan = () => 'stall';
  const rig = new Rig(content, [source]);
  void rig.read(0, 4);
  await sleep(5);
  t.is(source.outstanding, 1);
  await rig.scheduler.drop(rig.layer);
  for (const layerSource of rig.layer.sources) layerSource.close();
  await sleep(1);
  t.is(source.outstanding, 0);
  t.is(source.closed, 1);
  t.is(rig.layer.wants.size, 0);
});

test('a defect is EIO and a log line, and the scheduler goes on', async (t) => {
  const content = randomLayer(18, 8 * BLOCK);
  const rig = new Rig(content, [new FaultSource('a', [content])]);
  rig.makeRoom = async () => {
    throw new Error('no such thing can happen');
  };
  t.is(await rig.read(2, 2), EIO);
  t.regex(rig.log[0] ?? '', /defect in the fetch scheduler: Error: no such thing can happen/);
  rig.makeRoom = async () => () => undefined;
  t.deepEqual(await rig.read(2, 2), rig.expected(2, 2));
});

test('under random faults of two sources every read is right or EIO, and all is right when they have healed', async (t) => {
  const seed = Date.now() % 1_000_000;
  t.log(`seed ${seed}`);
  const random = seeded(seed);
  const content = randomLayer(seed, 200 * BLOCK + 77);
  const sources = [new FaultSource('one', [content]), new FaultSource('two', [content])];
  const faults = ['ok', 'ok', 'fail', 'corrupt', 'short', 'refuse', 'stall'] as const;
  for (const source of sources) source.plan = () => faults[Math.floor(random() * faults.length)] ?? 'ok';
  const rig = new Rig(content, sources, { attemptTimeout: 30, deadline: 400, maxOutstanding: 8 });
  let failed = 0;
  const reader = async () => {
    for (let i = 0; i < 20; i++) {
      const first = Math.floor(random() * 190);
      const count = 1 + Math.floor(random() * 8);
      const answer = await rig.read(first, count);
      if (typeof answer === 'number') failed += 1;
      else t.true(answer.equals(rig.expected(first, count)), `seed ${seed}, blocks ${first}+${count}`);
      if (random() < 0.5) rig.file.evict(first, count);
    }
  };
  await Promise.all(Array.from({ length: 12 }, reader));
  t.log(`${failed} of 240 reads got EIO`);
  t.is(rig.layer.wants.size, 0);
  for (const source of sources) source.plan = () => 'ok';
  const rest = await rig.read(0, 201);
  t.true(Buffer.isBuffer(rest) && rest.equals(content.bytes), `seed ${seed}`);
});
