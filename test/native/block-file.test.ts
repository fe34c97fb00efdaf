import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, truncateSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { addon, type BlockFile } from '../../src/native/addon.js';

const BLOCK = 65536;
const BLOCKS = 12;
/** Three bytes short of a whole number of blocks. */
const SIZE = BLOCK * BLOCKS - 3;
/** Offsets in the map file, from block-map.h. */
const BOOT_ID = 24;

function folder(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'orca-block-file-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  return path;
}

function open(path: string, size = SIZE, blockSize = BLOCK): BlockFile {
  return new addon.BlockFile({ dataPath: join(path, 'data'), mapPath: join(path, 'map'), size, blockSize });
}

function content(block: number): Uint8Array {
  return new Uint8Array(block === BLOCKS - 1 ? BLOCK - 3 : BLOCK).fill(block + 1);
}

function pretendOtherBoot(path: string): void {
  const fd = openSync(join(path, 'map'), 'r+');
  writeSync(fd, '00000000-0000-0000-0000-000000000000', BOOT_ID);
  closeSync(fd);
}

test('a block is present once put, and its bytes are in the data file', async (t) => {
  const file = open(folder(t));
  t.is(file.blocks, BLOCKS);
  t.false(file.suspect);
  t.false(file.has(3));
  await file.put(3, content(3));
  await file.put(BLOCKS - 1, content(BLOCKS - 1));
  t.true(file.has(3));
  t.is(file.count(), 2);
  t.true(file.bytesOnDisk() >= 2 * BLOCK);
  t.deepEqual(await file.read(3), content(3));
  t.deepEqual(await file.read(BLOCKS - 1), content(BLOCKS - 1));
  t.deepEqual(await file.read(4), new Uint8Array(BLOCK));
  await file.close();
});

test('an evicted block is gone and its disk space free', async (t) => {
  const file = open(folder(t));
  for (let block = 0; block < BLOCKS; block++) await file.put(block, content(block));
  file.evict(2, 8);
  t.deepEqual(
    Array.from({ length: BLOCKS }, (_, block) => file.has(block)),
    Array.from({ length: BLOCKS }, (_, block) => block < 2 || block >= 10),
  );
  t.true(file.bytesOnDisk() <= 4 * BLOCK + 4096);
  file.evict(0, BLOCKS);
  t.is(file.bytesOnDisk(), 0);
  await file.close();
});

test('blocks outlive close and open', async (t) => {
  const path = folder(t);
  const first = open(path);
  await first.put(5, content(5));
  await first.close();
  const second = open(path);
  t.false(second.suspect);
  t.true(second.has(5));
  t.deepEqual(await second.read(5), content(5));
  await second.close();
});

test('nothing is made before a block is wanted', async (t) => {
  const path = folder(t);
  const file = open(path);
  t.is(file.bytesOnDisk(), 0);
  t.false(file.wasPresent(0));
  file.evict(0, BLOCKS);
  file.trust(0);
  await file.close();
  t.deepEqual(readdirSync(path), []);
});

test('an opener that has made nothing yet goes on with what another has made, and with what was removed', async (t) => {
  const path = folder(t);
  const idle = open(path);
  const busy = open(path);
  await busy.put(1, content(1));
  t.is(idle.count(), 1);
  t.deepEqual(await idle.read(1), content(1));
  await busy.close();
  await idle.close();

  const left = open(path);
  rmSync(join(path, 'map'));
  rmSync(join(path, 'data'));
  const anew = open(path);
  await left.put(2, content(2));
  await anew.put(3, content(3));
  t.deepEqual(await anew.read(3), content(3));
  t.deepEqual(await left.read(2), content(2));
  await left.close();
  await anew.close();
});

test('a pair that is open is not removed; one that is not goes with its blocks', async (t) => {
  const path = folder(t);
  const file = open(path);
  await file.put(1, content(1));
  t.false(addon.removeBlockFile(join(path, 'data'), join(path, 'map')));
  t.deepEqual(await file.read(1), content(1));
  await file.close();
  t.true(addon.removeBlockFile(join(path, 'data'), join(path, 'map')));
  t.deepEqual(readdirSync(path), []);
  t.true(addon.removeBlockFile(join(path, 'data'), join(path, 'map')), 'what is not there is removed');
});

test('two openers see each other’s blocks and evictions', async (t) => {
  const path = folder(t);
  const one = open(path);
  const other = open(path);
  await one.put(1, content(1));
  t.true(other.has(1));
  other.evict(1, 1);
  t.false(one.has(1));
  await one.close();
  await other.put(2, content(2));
  await other.close();
});

test('blocks of an earlier boot that were not closed are claims until trusted', async (t) => {
  const path = folder(t);
  const killed = open(path);
  await killed.put(1, content(1));
  await killed.put(2, content(2));
  await killed.put(3, content(3));
  pretendOtherBoot(path);

  const file = open(path);
  t.true(file.suspect);
  t.is(file.count(), 0);
  t.true(file.wasPresent(1) && file.wasPresent(2) && file.wasPresent(3));
  t.false(file.wasPresent(4));
  t.deepEqual(await file.read(1), content(1));
  file.trust(1);
  file.trust(4);
  t.true(file.has(1));
  t.false(file.has(4), 'only a claimed block can be trusted');
  file.evict(2, 1);
  t.false(file.wasPresent(2));
  file.trust(2);
  t.false(file.has(2));
  await file.close();

  const again = open(path);
  t.true(again.suspect, 'block 3 still waits to be verified');
  t.true(again.has(1));
  again.evict(3, 1);
  await again.close();
  await killed.close();
});

test('blocks of an earlier boot that were closed are present', async (t) => {
  const path = folder(t);
  const file = open(path);
  await file.put(1, content(1));
  await file.close();
  pretendOtherBoot(path);
  const again = open(path);
  t.false(again.suspect);
  t.true(again.has(1));
  await again.close();
});

test('a process that is killed leaves what it put', async (t) => {
  const path = folder(t);
  const script = `
    import { addon } from ${JSON.stringify(new URL('../../src/native/addon.js', import.meta.url).href)};
    const file = new addon.BlockFile(${JSON.stringify({ dataPath: join(path, 'data'), mapPath: join(path, 'map'), size: SIZE, blockSize: BLOCK })});
    await file.put(7, new Uint8Array(${BLOCK}).fill(8));
    console.log('put');
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'exit');
  const file = open(path);
  t.false(file.suspect);
  t.true(file.has(7));
  t.deepEqual(await file.read(7), content(7));
  await file.close();
});

test('a data file that was truncated has lost its blocks, also to those who have it open', async (t) => {
  const path = folder(t);
  const file = open(path);
  await file.put(0, content(0));
  await file.put(5, content(5));
  truncateSync(join(path, 'data'), BLOCK);
  t.deepEqual(await file.read(5), new Uint8Array(BLOCK));
  await file.put(8, content(8));
  t.deepEqual([file.has(0), file.has(5), file.has(8)], [true, false, true]);
  truncateSync(join(path, 'data'), 0);
  const other = open(path);
  t.is(other.count(), 0);
  t.is(file.count(), 0);
  await other.close();
  await file.close();
});

test('files of another geometry are made anew, unless somebody uses them', async (t) => {
  const path = folder(t);
  const file = open(path);
  await file.put(0, content(0));
  t.throws(() => open(path, SIZE + 1), { code: 'EBUSY' });
  await file.close();
  const other = open(path, SIZE + 1);
  t.is(other.count(), 0);
  t.is(other.bytesOnDisk(), 0);
  await other.close();
});

test('a map file of random bytes is made anew', async (t) => {
  const path = folder(t);
  const fd = openSync(join(path, 'map'), 'w');
  writeSync(fd, randomBytes(4096 + 16));
  closeSync(fd);
  const file = open(path);
  t.is(file.count(), 0);
  await file.close();
});

test('a missing folder is named', (t) => {
  const error = t.throws(() => open('/nonexistent/folder'), { code: 'ENOENT' });
  t.regex(String(error?.message), /\/nonexistent\/folder\/map/);
});

test('a wrong argument throws, before and after close', async (t) => {
  const file = open(folder(t));
  t.throws(() => file.has(-1), { instanceOf: RangeError });
  t.throws(() => file.has(BLOCKS), { instanceOf: RangeError });
  t.throws(() => file.has(0.5), { instanceOf: TypeError });
  t.throws(() => file.evict(1, BLOCKS), { instanceOf: RangeError });
  t.throws(() => file.fail(1, 0), { instanceOf: RangeError });
  await t.throwsAsync(file.put(0, new Uint8Array(1)), { instanceOf: RangeError });
  await t.throwsAsync(file.put(0, 'x' as unknown as Uint8Array), { instanceOf: TypeError });
  const closing = file.close();
  t.throws(() => file.has(0), { message: /closed/ });
  await file.close();
  await closing;
  t.throws(() => file.trust(0), { message: /closed/ });
  t.throws(() => file.wasPresent(0), { message: /closed/ });
  t.throws(() => file.count(), { message: /closed/ });
  t.throws(() => file.bytesOnDisk(), { message: /closed/ });
  t.throws(() => file.evict(0, 1), { message: /closed/ });
  t.throws(() => file.fail(0, 5), { message: /closed/ });
  await t.throwsAsync(file.read(0), { message: /closed/ });
  await t.throwsAsync(file.put(0, content(0)), { message: /closed/ });
});
