/** Arguments that no caller of ours has: wrong lengths, memory that is not there, files that are closed, other threads. */
import { createCipheriv, createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import test, { type ExecutionContext } from 'ava';
import { addon, type BlockFileOptions } from '../../src/native/addon.js';
import { block, start } from './sample-index.js';

const BLOCK = 65536;
const BLOCKS = 12;
const SIZE = BLOCK * BLOCKS - 3;
const CONTENT = Buffer.alloc(SIZE, 'some content that is not all the same');
const DIGESTS = Buffer.concat(
  Array.from({ length: BLOCKS }, (_, i) =>
    createHash('sha256')
      .update(CONTENT.subarray(i * BLOCK, (i + 1) * BLOCK))
      .digest(),
  ),
);

function place(t: ExecutionContext): BlockFileOptions {
  const path = mkdtempSync(join(tmpdir(), 'orca-hostile-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  return { dataPath: join(path, 'data'), mapPath: join(path, 'map'), size: SIZE, blockSize: BLOCK };
}

const run = (first: number, count: number) =>
  [
    first,
    CONTENT.subarray(first * BLOCK, (first + count) * BLOCK),
    DIGESTS.subarray(first * 32, (first + count) * 32),
  ] as const;

function detached(length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  structuredClone(bytes, { transfer: [bytes.buffer] });
  return bytes;
}

/** Says that it has another length than it has. */
function lying(length: number, said: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (const name of ['length', 'byteLength']) Object.defineProperty(bytes, name, { value: said });
  return bytes;
}

const resizable = (length: number) =>
  new Uint8Array(
    new (ArrayBuffer as new (length: number, options: object) => ArrayBuffer)(length, {
      maxByteLength: 2 * length,
    }),
  );

/** Each in place of bytes of this length. */
function impostors(length: number): [string, unknown][] {
  return [
    ['undefined', undefined],
    ['a string', 'x'.repeat(length)],
    ['an array', new Array(length).fill(0)],
    ['an object with a prototype', Object.create(Uint8Array.prototype)],
    ['an ArrayBuffer', new ArrayBuffer(length)],
    ['words', new Uint16Array(length / 2)],
    ['shared memory', new Uint8Array(new SharedArrayBuffer(length))],
    ['resizable memory', resizable(length)],
    ['one byte too few', new Uint8Array(length - 1)],
    ['one byte too many', new Uint8Array(length + 1)],
    ['nothing', new Uint8Array(0)],
    ['a detached buffer', detached(length)],
    ['a short one that lies', lying(1, length)],
    ['a long one that lies', lying(4 * length, length)],
  ];
}

test('putRun and put take whole blocks of the file with their digests, and nothing else', async (t) => {
  const file = new addon.BlockFile(place(t));
  const [, bytes, digests] = run(2, 3);
  const expected = { instanceOf: Error, message: /must|bytes|integer|from/ };
  for (const [name, wrong] of impostors(bytes.length)) {
    const error = await t.throwsAsync(
      file.putRun(2, wrong as Uint8Array, digests),
      expected,
      `bytes: ${name}`,
    );
    t.true(error instanceof TypeError || error instanceof RangeError, name);
  }
  for (const [name, wrong] of impostors(digests.length))
    await t.throwsAsync(file.putRun(2, bytes, wrong as Uint8Array), expected, `digests: ${name}`);
  for (const [name, wrong] of impostors(BLOCK))
    await t.throwsAsync(file.put(2, wrong as Uint8Array), expected, `put: ${name}`);
  for (const first of [-1, BLOCKS, 2 ** 32, 2 ** 53, 0.5, Number.NaN, '2', undefined])
    await t.throwsAsync(file.putRun(first as number, bytes, digests), expected, `block ${first}`);
  // The last block is shorter, and nothing comes after it.
  await t.throwsAsync(file.putRun(BLOCKS - 3, bytes, digests), expected);
  await t.throwsAsync(file.putRun(BLOCKS - 2, bytes, digests), expected);
  t.is(file.count(), 0);
  t.deepEqual(await file.putRun(...run(BLOCKS - 3, 3)), { wrong: [] });
  t.is(file.count(), 3);
  await file.close();
});

test('what does not match its digest is never seen, wherever in a run it is', async (t) => {
  const file = new addon.BlockFile(place(t));
  const bytes = Buffer.from(CONTENT);
  for (const block of [0, 4, BLOCKS - 1]) bytes[block * BLOCK + 77]! ^= 1;
  t.deepEqual(await file.putRun(0, bytes, DIGESTS), { wrong: [0, 4, BLOCKS - 1] });
  t.is(file.count(), BLOCKS - 3);
  t.deepEqual(await file.read(4), new Uint8Array(BLOCK));
  const shifted = Buffer.concat([DIGESTS.subarray(32), DIGESTS.subarray(0, 32)]);
  const all = Array.from({ length: BLOCKS }, (_, number) => number);
  file.evict(0, BLOCKS);
  // No two blocks are alike.
  const { wrong } = await file.putRun(0, CONTENT, shifted);
  t.deepEqual(wrong, all);
  t.is(file.count(), 0);
  t.deepEqual(await file.putRun(0, CONTENT, DIGESTS), { wrong: [] });
  await file.close();
});

test('the same blocks put many times at once, and memory that is given away afterwards', async (t) => {
  const file = new addon.BlockFile(place(t));
  const results = await Promise.all(
    Array.from({ length: 30 }, async (_, i) => {
      const first = i % (BLOCKS - 4);
      const [, bytes, digests] = run(first, 4);
      const own = { bytes: Uint8Array.from(bytes), digests: Uint8Array.from(digests) };
      const putting = file.putRun(first, own.bytes, own.digests);
      // The addon has copied the digests.
      own.digests.fill(0);
      const result = await putting;
      own.bytes.fill(0xee);
      return result;
    }),
  );
  t.true(results.every(({ wrong, error }) => wrong.length === 0 && error === undefined));
  for (const number of [0, 5, 10])
    t.deepEqual(Buffer.from(await file.read(number)), Buffer.from(run(number, 1)[1]));
  await file.close();
});

test('a file that is closed takes and tells nothing, also in the middle of a run', async (t) => {
  const options = place(t);
  const file = new addon.BlockFile(options);
  const puts = Array.from({ length: 8 }, (_, i) => file.putRun(...run(i, 4)));
  await file.close();
  for (const { wrong, error } of await Promise.all(puts)) {
    t.deepEqual(wrong, []);
    t.true(error === undefined || error.code === 'EBADF');
  }
  await t.throwsAsync(file.putRun(...run(0, 1)), { message: /closed/ });
  t.throws(() => file.watch(0), { message: /closed/ });
  t.throws(() => file.awaited(0), { message: /closed/ });
  const again = new addon.BlockFile(options);
  for (let number = 0; number < BLOCKS; number++)
    if (again.has(number)) t.deepEqual(Buffer.from(await again.read(number)), Buffer.from(run(number, 1)[1]));
  for (const wrong of [-1, BLOCKS, 1.5, Number.NaN, '1', undefined]) {
    t.throws(() => again.watch(wrong as number), { instanceOf: Error }, `watch ${wrong}`);
    t.throws(() => again.awaited(wrong as number), { instanceOf: Error }, `awaited ${wrong}`);
  }
  await again.close();
  t.throws(() => addon.blockFileInUse('a\0b'), { instanceOf: TypeError });
  t.false(addon.blockFileInUse('/nonexistent/map'));
});

test('openGcm takes keys, nonces and tags of the right lengths, and never says yes to what is not authentic', (t) => {
  const key = Buffer.alloc(16, 1);
  const nonce = Buffer.alloc(12, 2);
  const additional = Buffer.alloc(20, 3);
  const plain = Buffer.alloc(1000, 4);
  const cipher = createCipheriv('aes-128-gcm', key, nonce).setAAD(additional);
  const sealed = Buffer.concat([cipher.update(plain), cipher.final()]);
  const tag = cipher.getAuthTag();
  const message = { key, nonce, additional, tag };
  for (const [part, length] of [
    ['key', 16],
    ['nonce', 12],
    ['tag', 16],
  ] as const) {
    for (const [name, wrong] of impostors(length))
      t.throws(
        () => addon.openGcm({ ...message, [part]: wrong }, Buffer.from(sealed)),
        undefined,
        `${part}: ${name}`,
      );
  }
  for (const part of ['additional', 'data'] as const) {
    for (const [name, wrong] of impostors(part === 'data' ? 1000 : 20)) {
      const open = () =>
        part === 'data'
          ? addon.openGcm(message, wrong as Uint8Array)
          : addon.openGcm({ ...message, additional: wrong as Uint8Array }, Buffer.from(sealed));
      try {
        t.false(open(), `${part}: ${name}`);
      } catch (error) {
        t.true(error instanceof TypeError, `${part}: ${name}`);
      }
    }
  }
  t.throws(() => addon.openGcm(undefined as never, sealed), { instanceOf: TypeError });
  t.false(addon.openGcm({ ...message, key: Buffer.alloc(32, 1) }, Buffer.from(sealed)));
  // Additional data that overlaps with what is decrypted, and a tag within it.
  const whole = Buffer.concat([tag, additional, sealed]);
  const parts = { key, nonce, tag: whole.subarray(0, 16), additional: whole.subarray(16, 36) };
  t.true(addon.openGcm(parts, whole.subarray(36)));
  t.true(whole.subarray(36).equals(plain));
  t.false(addon.openGcm({ ...parts, tag: whole.subarray(40, 56) }, whole.subarray(36)));
});

test('watched blocks tell once, and what a session has touched is there after its end', async (t) => {
  const { kernel, files, session } = start(t);
  const [file] = files;
  for (let number = 0; number < 8; number++) await file!.put(number, block(number));
  for (let times = 0; times < 1000; times++) file!.watch(times % 8);
  const nodeid = await kernel.lookup('big');
  for (let times = 0; times < 3; times++) await kernel.read(nodeid, 0, 3 * BLOCK);
  t.false(file!.awaited(0));
  const touched = session.touched();
  t.true(touched.length >= 3 && touched.every(({ device }) => device === 0));
  t.is(new Set(touched.map(({ block: number }) => number)).size, touched.length);
  const read = session.filesRead();
  t.deepEqual(
    read.map(({ nid }) => nid),
    [Number(nodeid) - 2],
  );
  await session.close();
  t.deepEqual(session.touched(), touched);
  t.deepEqual(session.filesRead(), read);
});

test('what a session was asked for is there by path, also after its end; a preload of nonsense harms nobody', async (t) => {
  const { kernel, files, session } = start(t);
  await files[0]!.put(0, block(0));
  const nodeid = await kernel.lookup('big');
  t.is(await kernel.lookup('nobody'), 0n);
  await kernel.read(nodeid, 0, 5000);
  const accesses = session.accesses();
  t.deepEqual(
    accesses.map(({ kind, path, first, count }) => [kind, path, first, count]),
    [
      ['name', 'big', 0, 1],
      ['absent', 'nobody', 0, 1],
      ['pages', 'big', 0, 2],
    ],
  );
  const step = { kind: 'name' as const, path: 'big', first: 0, count: 1 };
  for (const [bad, error] of [
    [{ ...step, path: 7 }, TypeError],
    [{ ...step, first: -1 }, RangeError],
    [{ ...step, count: 0 }, RangeError],
    [{ ...step, count: 2 ** 40 }, RangeError],
  ] as const) {
    t.throws(() => session.preload('/', [bad as never]), { instanceOf: error });
  }
  t.throws(() => session.preload('', [step]), { instanceOf: TypeError });
  session.stopPreload();
  // A kind that is none, a path that is no path, and a place that is no mount of ours: none of it reaches the session.
  session.preload('/proc', [{ ...step, kind: 'bogus' as never }, { ...step, path: '../../etc' }, step]);
  session.preload('/nowhere', [step]);
  await kernel.read(nodeid, 0, 5000);
  await session.close();
  t.deepEqual(session.accesses().slice(0, 3), accesses);
});

test('a worker thread puts, verifies and decrypts like any other, and may end in the middle of it', async (t) => {
  const options = place(t);
  const own = new addon.BlockFile(options);
  const url = new URL('../../src/native/addon.js', import.meta.url).href;
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    import(workerData.url).then(async ({ addon }) => {
      const { options, content, digests, block } = workerData;
      const file = new addon.BlockFile(options);
      file.watch(3);
      parentPort.postMessage([file.awaited(3), file.has(11)]);
      const message = { key: new Uint8Array(16), nonce: new Uint8Array(12), additional: new Uint8Array(0), tag: new Uint8Array(16) };
      if (addon.openGcm(message, new Uint8Array(1 << 16))) throw new Error('not authentic');
      for (let times = 0; ; times++) {
        const puts = Array.from({ length: 16 }, () => file.putRun(0, content, digests));
        parentPort.postMessage(times);
        if (times % 2) await Promise.all(puts);
        file.evict(times % 12, 1);
      }
    });`;
  await own.putRun(...run(11, 1));
  for (const rounds of [1, 2, 4]) {
    const worker = new Worker(code, {
      eval: true,
      workerData: { url, options, content: Uint8Array.from(CONTENT), digests: Uint8Array.from(DIGESTS) },
    });
    const [told] = (await once(worker, 'message')) as [boolean[]];
    t.deepEqual(told, [false, true]);
    for (let round = 0; round < rounds; round++) await once(worker, 'message');
    await worker.terminate();
    await own.putRun(...run(11, 1));
  }
  for (let number = 0; number < BLOCKS; number++)
    if (own.has(number)) t.deepEqual(Buffer.from(await own.read(number)), Buffer.from(run(number, 1)[1]));
  t.true(own.has(11));
  await own.close();
  t.false(addon.blockFileInUse(options.mapPath), 'the workers have let go');
});
