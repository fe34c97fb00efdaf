import test from 'ava';
import { wallClock } from '../../src/snapshotter/wall-clock.js';

test('the time lies between those that Date has before and after, and does not run backwards', (t) => {
  let last = 0n;
  for (let i = 0; i < 10_000; i++) {
    const before = BigInt(Date.now()) * 1_000_000n;
    const now = wallClock();
    const after = BigInt(Date.now() + 1) * 1_000_000n;

    if (now < before - 2_000_000n || now > after + 2_000_000n || now < last) {
      t.fail(`${before} ${now} ${after}, before it ${last}`);
      return;
    }
    last = now;
  }
  t.pass();
});
