/** Block files under eviction, on full disks and in two processes at once: readers get right bytes or an honest miss. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmdirSync, rmSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { BLOCK_SIZE } from '../../src/erofs/tree.js';
import { addon, type BlockFile } from '../../src/native/addon.js';
import { directory, file, imageOf } from '../erofs/tree-arbitrary.js';
import { serve } from './kernel.js';

const BLOCK = 65536;
const BLOCKS = 16;
const SIZE = BLOCK * BLOCKS;
const DEVICES = [{ tag: 'a'.repeat(64), blocks: SIZE / BLOCK_SIZE }];

function index(): Buffer {
  const extents = [{ fileOffset: 0, device: 1, block: 0, blocks: SIZE / BLOCK_SIZE }];
  return imageOf(directory({ big: file(SIZE, extents) }), { dataBlocks: 0, devices: DEVICES });
}

/** A block is filled with its number plus one, so that a zero is always wrong. */
function content(block: number): Uint8Array {
  return new Uint8Array(BLOCK).fill(block + 1);
}

function right(body: Buffer, offset: number): boolean {
  for (let at = 0; at < body.length; at += 512)
    if (body[at] !== Math.floor((offset + at) / BLOCK) + 1) return false;
  return body[body.length - 1] === Math.floor((offset + body.length - 1) / BLOCK) + 1;
}

function randomOf(t: ExecutionContext): (limit: number) => number {
  const seed = Number(process.env.ORCA_SEED ?? Date.now() % 2 ** 31);
  t.log(`seed ${seed}`);
  let state = seed;
  return (limit) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
}

/** A tmpfs of so many bytes. */
function tmpfs(t: ExecutionContext, bytes: number): string {
  const path = mkdtempSync(join(tmpdir(), 'orca-tmpfs-'));
  addon.mount('none', path, 'tmpfs', 0, `size=${bytes}`);
  t.teardown(() => {
    addon.umount(path, 0);
    rmdirSync(path);
  });
  return path;
}

/** Another process that puts and evicts blocks of the same files until it is told to stop. */
function churn(path: string): { ready: Promise<unknown>; stop(): Promise<void> } {
  const script = fileURLToPath(new URL('./churn-process.js', import.meta.url));
  const child = spawn(
    process.execPath,
    [script, join(path, 'data0'), join(path, 'map0'), `${SIZE}`, `${BLOCK}`],
    {
      stdio: ['pipe', 'pipe', 'inherit'],
    },
  );
  return {
    ready: once(child.stdout, 'data'),
    async stop() {
      child.stdin.end();
      const [code] = await once(child, 'exit');
      if (code !== 0) throw new Error(`the other process ended with ${code}`);
    },
  };
}

for (const processes of [1, 2])
  test(`readers get right bytes while ${processes === 1 ? 'this process' : 'another process'} evicts and puts`, async (t) => {
    const random = randomOf(t);
    // A read(2) of ext4 holds on to many pages at a time and hardly ever loses the race; one of tmpfs takes them singly.
    const served = serve(index(), [SIZE], {
      parent: tmpfs(t, 4 * SIZE),
      blockSize: BLOCK,
      threads: 3,
      onMiss(_, first, count) {
        for (let block = first; block < first + count; block++) void cache.put(block, content(block));
      },
    });
    const cache = served.files[0]!;
    t.teardown(() => served.close());
    const other = processes === 2 ? churn(served.path) : undefined;
    if (other) t.teardown(() => other.stop());
    await other?.ready;
    const nodeid = await served.kernel.lookup('big');
    let wrong = 0;
    for (let round = 0; round < 150; round++) {
      const reads = Array.from({ length: 4 }, () => {
        const offset = random(BLOCK);
        return { offset, unique: served.kernel.sendRead(nodeid, offset, SIZE - offset) };
      });
      // The whole file is read while blocks at its end go, so the bits were seen long before the bytes are copied.
      if (processes === 1) {
        if (round % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
        for (let i = 0; i < 8; i++) cache.evict(BLOCKS - 1 - random(8), 1);
      }
      for (const { offset, unique } of reads) {
        const { error, body } = await served.kernel.reply(unique);
        if (error !== 0 || !right(body, offset)) wrong++;
      }
    }
    t.is(wrong, 0);
    t.true(served.session.stats().readMisses > 0);
  });

test('a pair that processes open, fill, close and remove at the same time never holds wrong blocks', async (t) => {
  const path = mkdtempSync(join(tmpdir(), 'orca-removal-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  const script = fileURLToPath(new URL('./removal-process.js', import.meta.url));
  const args = [script, join(path, 'data'), join(path, 'map'), `${4 * 4096}`, '4096', '1500'];
  const children = Array.from({ length: 3 }, () => spawn(process.execPath, args, { stdio: 'inherit' }));
  const codes = await Promise.all(children.map(async (child) => (await once(child, 'exit'))[0]));
  t.deepEqual(codes, [0, 0, 0]);
});

test('a disk that is full rejects the put, and READs are answered from memory', async (t) => {
  const path = tmpfs(t, 4 * BLOCK + 32768);
  const cache = new addon.BlockFile({
    dataPath: join(path, 'data'),
    mapPath: join(path, 'map'),
    size: SIZE,
    blockSize: BLOCK,
  });
  const refused = new Set<number>();
  const puts: Promise<void>[] = [];
  const misses: number[] = [];
  const served = serve(index(), [], {
    blockFiles: [cache],
    onMiss(_, first, count) {
      for (let block = first; block < first + count; block++) {
        misses.push(block);
        puts.push(
          cache.put(block, content(block)).catch((error: NodeJS.ErrnoException) => {
            if (error.code !== 'ENOSPC') throw error;
            refused.add(block);
          }),
        );
      }
    },
  });
  const nodeid = await served.kernel.lookup('big');
  for (let pass = 0; pass < 2; pass++)
    for (let offset = 0; offset < SIZE; offset += 3 * BLOCK) {
      const { error, body } = await served.kernel.read(nodeid, offset, 3 * BLOCK);
      t.is(error, 0);
      t.true(right(body, offset));
    }
  await Promise.all(puts);
  t.true(refused.size > BLOCKS / 2);
  t.is(misses.length, BLOCKS, 'the second pass found the rest in memory');
  for (const block of refused) t.false(cache.has(block));
  t.is(cache.count(), BLOCKS - refused.size);

  cache.evict(0, BLOCKS);
  const { body } = await served.kernel.read(nodeid, 0, BLOCK);
  t.true(right(body, 0));
  t.is(misses.length, BLOCKS + 1, 'an evicted block is not in memory either');
  await Promise.all(puts);
  await served.close();
  await cache.close();
});

test('a data file truncated under a reader means misses, not wrong bytes', async (t) => {
  const served = serve(index(), [SIZE], {
    blockSize: BLOCK,
    onMiss(_, first, count) {
      for (let block = first; block < first + count; block++) void cache.put(block, content(block));
    },
  });
  const cache = served.files[0]!;
  const nodeid = await served.kernel.lookup('big');
  for (const length of [SIZE, SIZE / 2 + 5, 0, BLOCK, SIZE - 1, 1]) {
    for (let block = 0; block < BLOCKS; block++) await cache.put(block, content(block));
    truncateSync(join(served.path, 'data0'), length);
    for (let offset = 0; offset < SIZE; offset += 5 * BLOCK) {
      const { error, body } = await served.kernel.read(nodeid, offset, 5 * BLOCK);
      t.is(error, 0);
      t.true(right(body, offset), `truncated to ${length}, read at ${offset}`);
    }
  }
  await served.close();
});

test('puts of one block at once are all answered', async (t) => {
  const path = mkdtempSync(join(tmpdir(), 'orca-puts-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  const cache: BlockFile = new addon.BlockFile({
    dataPath: join(path, 'data'),
    mapPath: join(path, 'map'),
    size: SIZE,
    blockSize: BLOCK,
  });
  await Promise.all(Array.from({ length: 50 }, (_, i) => cache.put(i % 3, content(i % 3))));
  t.is(cache.count(), 3);
  const late = cache.put(5, content(5));
  await cache.close();
  await late.catch((error: NodeJS.ErrnoException) => t.is(error.code, 'EBADF'));
});
