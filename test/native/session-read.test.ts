/** READ on raw bytes: hits, blocks that are waited for, and the many ways of not getting them. */
import { constants } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { addon } from '../../src/native/addon.js';
import { Kernel, OPCODES } from './kernel.js';
import { BLOCK, block, bytesAt, DEVICE_SIZE, start } from './sample-index.js';

const { EINTR, EINVAL, EIO } = constants.errno;
const EAGAIN = 11;

test('a READ of present blocks is answered at once, of any offset and length', async (t) => {
  const { kernel, files, session, misses } = start(t);
  for (let number = 0; number < 40; number++) await files[0]!.put(number, block(number));
  const nodeid = await kernel.lookup('big');
  for (const [offset, length] of [
    [0, 4096],
    [1, 1],
    [BLOCK - 1, 2],
    [3 * BLOCK + 17, 512 << 10],
    [DEVICE_SIZE - 5, 5],
  ] as const) {
    const { error, body } = await kernel.read(nodeid, offset, length);
    t.is(error, 0);
    t.true(body.equals(bytesAt(offset, length)), `${length} bytes at ${offset}`);
  }
  t.is((await kernel.read(nodeid, DEVICE_SIZE - 5, 4096)).body.length, 5);
  t.is((await kernel.read(nodeid, DEVICE_SIZE, 4096)).body.length, 0);
  t.is((await kernel.read(nodeid, Number.MAX_SAFE_INTEGER, 4096)).body.length, 0);
  t.is((await kernel.read(nodeid, 0, 0)).body.length, 0);
  t.is((await kernel.read(nodeid, 0, 0xffffffff)).body.length, 512 << 10, 'no more than was negotiated');
  t.is((await kernel.read(1n, 0, 4096)).error, -EINVAL);
  t.deepEqual(misses, []);
  t.is(session.stats().readMisses, 0);
});

test('a READ waits for absent blocks, which are asked for once and in one piece', async (t) => {
  const { kernel, files, session, misses, missed } = start(t);
  await files[0]!.put(2, block(2));
  const nodeid = await kernel.lookup('big');
  const first = kernel.sendRead(nodeid, 0, 6 * BLOCK);
  await missed();
  const second = kernel.sendRead(nodeid, 4 * BLOCK + 100, BLOCK);
  const third = kernel.sendRead(nodeid, 7 * BLOCK, 1);
  await missed(3);
  t.deepEqual(misses, [
    [0, 0, 2],
    [0, 3, 3],
    [0, 7, 1],
  ]);
  t.is(session.stats().readsWaiting, 3);
  for (const number of [0, 1, 3, 4, 5, 7]) await files[0]!.put(number, block(number));
  t.true((await kernel.reply(first)).body.equals(bytesAt(0, 6 * BLOCK)));
  t.true((await kernel.reply(second)).body.equals(bytesAt(4 * BLOCK + 100, BLOCK)));
  t.true((await kernel.reply(third)).body.equals(bytesAt(7 * BLOCK, 1)));
  const stats = session.stats();
  t.is(stats.readsWaiting, 0);
  t.is(stats.readMisses, 3);
  t.is(stats.bytesRead, 7 * BLOCK + 1);
  files[0]!.evict(0, 2);
  kernel.sendRead(nodeid, BLOCK, 1);
  await missed();
  t.deepEqual(misses.at(-1), [0, 1, 1]);
});

test('requests are answered while READs wait', async (t) => {
  const { kernel, files } = start(t);
  const nodeid = await kernel.lookup('big');
  const waiting = Array.from({ length: 30 }, (_, number) => kernel.sendRead(nodeid, number * BLOCK, 10));
  t.not(await kernel.lookup('many/entry-3'), 0n);
  for (let number = 29; number >= 0; number--) await files[0]!.put(number, block(number));
  for (const [number, unique] of waiting.entries())
    t.true((await kernel.reply(unique)).body.equals(bytesAt(number * BLOCK, 10)));
});

test('a block that cannot be had fails who waits for it, and is asked for again', async (t) => {
  const { kernel, files, misses, missed, session } = start(t);
  const nodeid = await kernel.lookup('big');
  const unique = kernel.sendRead(nodeid, 0, 3 * BLOCK);
  await missed();
  files[0]!.fail(1, EIO);
  t.is((await kernel.reply(unique)).error, -EIO);
  t.is(session.stats().errors.EIO, 1);
  await files[0]!.put(0, block(0));
  await files[0]!.put(2, block(2));
  const again = kernel.sendRead(nodeid, 0, 3 * BLOCK);
  await missed();
  t.deepEqual(misses.at(-1), [0, 1, 1]);
  await files[0]!.put(1, block(1));
  t.true((await kernel.reply(again)).body.equals(bytesAt(0, 3 * BLOCK)));
});

test('INTERRUPT lets a READ that waits return, and only that one', async (t) => {
  const { kernel, files, missed } = start(t);
  const nodeid = await kernel.lookup('big');
  const killed = kernel.sendRead(nodeid, 0, 10);
  const alive = kernel.sendRead(nodeid, 0, 20);
  await missed();
  const body = Buffer.alloc(8);
  body.writeBigUInt64LE(killed);
  kernel.send(OPCODES.INTERRUPT, body, { unique: killed | 1n });
  t.is((await kernel.reply(killed)).error, -EINTR);
  await files[0]!.put(0, block(0));
  t.true((await kernel.reply(alive)).body.equals(bytesAt(0, 20)));
  t.is(
    (await kernel.ask(OPCODES.INTERRUPT, body, { unique: killed | 1n })).error,
    -EAGAIN,
    'it is answered already',
  );
});

test('a resent request is answered under its marked number', async (t) => {
  const { kernel, files, missed } = start(t);
  const nodeid = await kernel.lookup('big');
  const unique = (1n << 63n) | 1234n;
  kernel.sendRead(nodeid, 0, 10, unique);
  await missed();
  await files[0]!.put(0, block(0));
  t.true((await kernel.reply(unique)).body.equals(bytesAt(0, 10)));
});

test('close answers EIO to who waits, and the descriptor is closed', async (t) => {
  const { kernel, session, missed, ended } = start(t);
  const nodeid = await kernel.lookup('big');
  const unique = kernel.sendRead(nodeid, 0, 10);
  await missed();
  await session.close();
  t.is((await kernel.reply(unique)).error, -EIO);
  t.is(await kernel.next(), undefined);
  t.is(await ended, 'closed');
  await session.close();
  t.is(session.stats().requests.READ, 1);
});

test('a block file that is closed under a session gives EIO', async (t) => {
  const { kernel, files, missed } = start(t);
  const nodeid = await kernel.lookup('big');
  const unique = kernel.sendRead(nodeid, 0, 10);
  await missed();
  files[0]!.close();
  t.is((await kernel.reply(unique)).error, -EIO);
  t.is((await kernel.read(nodeid, 0, 10)).error, -EIO);
});

test('what a closed session had asked for is asked again by another that waits for it', async (t) => {
  const one = start(t);
  const [fd, kernelFd] = addon.socketPair();
  const misses: number[][] = [];
  const kernel = new Kernel(kernelFd);
  const session = new addon.Session({
    fd,
    indexPath: join(one.path, 'index'),
    blockFiles: one.files,
    onMiss: (device, first, count) => misses.push([device, first, count]),
    onEnd() {},
  });
  const nodeid = await one.kernel.lookup('big');
  one.kernel.sendRead(nodeid, 0, 10);
  await one.missed();
  const unique = kernel.sendRead(nodeid, 0, 10);
  t.not(await kernel.lookup('link'), 0n);
  t.deepEqual(misses, []);
  await one.session.close();
  while (misses.length === 0) await new Promise((resolve) => setImmediate(resolve));
  t.deepEqual(misses, [[0, 0, 1]]);
  await one.files[0]!.put(0, block(0));
  t.true((await kernel.reply(unique)).body.equals(bytesAt(0, 10)));
  await session.close();
  kernel.close();
});
