import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { FileLock } from '../../src/image/lock.js';

const test = anyTest as TestFn<{ dir: string; path: string }>;
test.beforeEach((t) => {
  t.context.dir = mkdtempSync(join(tmpdir(), 'orca-lock-'));
  t.context.path = join(t.context.dir, 'x.lock');
});
test.afterEach.always((t) => rmSync(t.context.dir, { recursive: true }));

test('a lock has one holder, and its file is gone when nobody has it', (t) => {
  const { path } = t.context;
  const lock = FileLock.tryAcquire(path);
  t.truthy(lock);
  t.is(FileLock.tryAcquire(path), undefined);
  lock?.release();
  t.false(existsSync(path));
  FileLock.tryAcquire(path)?.release();
});

test('waiting ends when the holder releases, in any order of many', async (t) => {
  const { path } = t.context;
  let holders = 0;
  let most = 0;
  await Promise.all(
    Array.from({ length: 20 }, async () => {
      const lock = await FileLock.acquire(path);
      most = Math.max(most, ++holders);
      await new Promise((resolve) => setTimeout(resolve, 3));
      holders--;
      lock.release();
    }),
  );
  t.is(most, 1);
  t.false(existsSync(path));
});

test('waiting ends when it is aborted', async (t) => {
  const { path } = t.context;
  const lock = FileLock.tryAcquire(path);
  const abort = new AbortController();
  const waiting = FileLock.acquire(path, abort.signal);
  abort.abort();
  await t.throwsAsync(waiting, { any: true, name: 'AbortError' });
  lock?.release();
});

test('the lock of a killed process is free', async (t) => {
  const { path } = t.context;
  const module = new URL('../../src/image/lock.js', import.meta.url).href;
  const script = `import { FileLock } from ${JSON.stringify(module)};
    FileLock.tryAcquire(${JSON.stringify(path)}); console.log('held'); setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  t.is(FileLock.tryAcquire(path), undefined);
  child.kill('SIGKILL');
  await once(child, 'close');
  t.true(existsSync(path));
  FileLock.tryAcquire(path)?.release();
  t.false(existsSync(path));
});
