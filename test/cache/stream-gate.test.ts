import test from 'ava';
import { StreamGate, type Streaming } from '../../src/cache/stream-gate.js';

class Stream implements Streaming {
  isUseful = true;
  isOver = false;
  constructor(public isAwaited: boolean) {}
}

const turns = async () => {
  for (let i = 0; i < 5; i++) await new Promise(setImmediate);
};

/** Whether the promise is settled by now. */
async function state<T>(promise: Promise<T>): Promise<T | 'waiting'> {
  await turns();
  return Promise.race([promise, Promise.resolve('waiting' as const)]);
}

test('four stream at once, and who is awaited comes before who is not', async (t) => {
  const gate = new StreamGate();
  const open = Array.from({ length: 4 }, () => new Stream(true));
  for (const stream of open) t.true(await gate.enter(stream));
  const [early, late] = [new Stream(false), new Stream(true)];
  const entered = [gate.enter(early), gate.enter(late)] as const;
  t.is(await state(entered[0]), 'waiting');
  gate.leave(open[0] as Stream);
  t.is(await state(entered[1]), true);
  t.is(await state(entered[0]), 'waiting');
  gate.leave(late);
  t.is(await state(entered[0]), true);
});

test('one that nobody waits for stands back, goes on afterwards, and gives its place up where it is needed', async (t) => {
  const gate = new StreamGate();
  const [idle, busy] = [new Stream(false), new Stream(true)];
  await gate.enter(idle);
  t.is(await state(gate.turn(idle)), true);
  await gate.enter(busy);
  const turn = gate.turn(idle);
  t.is(await state(turn), 'waiting');
  t.is(await state(gate.turn(busy)), true);
  busy.isAwaited = false;
  gate.change();
  t.is(await state(turn), true);
  for (let i = 0; i < 2; i++) await gate.enter(new Stream(true));
  const needed = gate.enter(new Stream(true));
  t.is(await state(gate.turn(idle)), false);
  gate.leave(idle);
  t.is(await state(needed), true);
});

test('what is useless waits, and what is over ends', async (t) => {
  const gate = new StreamGate();
  const stream = new Stream(false);
  stream.isUseful = false;
  await gate.enter(stream);
  const turn = gate.turn(stream);
  t.is(await state(turn), 'waiting');
  stream.isOver = true;
  gate.change();
  t.is(await state(turn), false);
  t.is(await state(gate.enter(stream)), false);
});
