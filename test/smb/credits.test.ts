import test from 'ava';
import { CreditWindow } from '../../src/smb/credits.js';

const never = () => {
  throw new Error('starved');
};

/** Whether a promise has settled by now. */
async function settled(promise: Promise<unknown>): Promise<boolean> {
  return Promise.race([promise.then(() => true), new Promise<boolean>((r) => setImmediate(() => r(false)))]);
}

test('a request waits until its charge is granted, in order of arrival', async (t) => {
  const window = new CreditWindow(never);
  await window.take(1);
  const large = window.take(16);
  const small = window.take(1);
  window.grant(10);
  t.false(await settled(large));
  t.false(await settled(small), 'the small one does not overtake');
  window.grant(6);
  t.true(await settled(large));
  t.false(await settled(small));
  window.settle(16, 16);
  t.true(await settled(small));
});

test('an aborted waiter leaves the line and lets the next one go', async (t) => {
  const window = new CreditWindow(never);
  await window.take(1);
  const abort = new AbortController();
  const large = window.take(100, abort.signal);
  const small = window.take(1);
  window.grant(1);
  abort.abort(new Error('enough'));
  await t.throwsAsync(large, { message: 'enough' });
  t.true(await settled(small));
});

test('a server that grants too little is noticed instead of waited for', async (t) => {
  let starved = 0;
  const window = new CreditWindow(() => starved++);
  await window.take(1);
  window.take(2).catch(() => {});
  t.is(starved, 0, 'an answer is still due');
  window.settle(1, 1);
  t.is(starved, 1);
});

test('more credits are asked for until the window is large, then as many as are spent', async (t) => {
  const window = new CreditWindow(never);
  await window.take(1);
  t.is(window.toRequest(1), 512);
  window.settle(1, 512);
  await window.take(16);
  t.is(window.toRequest(16), 16);
  t.is(window.window, 512);
});

test('a server cannot grant without bound', async (t) => {
  const window = new CreditWindow(never);
  for (let i = 0; i < 100; i++) window.grant(65535);
  t.is(window.window, 8192);
});

test('who waits when the connection fails gets its error', async (t) => {
  const window = new CreditWindow(never);
  await window.take(1);
  const waiting = window.take(1);
  window.fail(new Error('lost'));
  await t.throwsAsync(waiting, { message: 'lost' });
});
