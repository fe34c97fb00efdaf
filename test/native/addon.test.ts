/** The checks at the door of the addon, and the system calls that need no mount. */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { addon } from '../../src/native/addon.js';

test('arguments of a wrong type or range throw before any system call', (t) => {
  const wrong: [string, () => unknown][] = [
    ['mount source', () => addon.mount(1 as never, '/x', 'tmpfs', 0, '')],
    ['mount target', () => addon.mount('x', '', 'tmpfs', 0, '')],
    ['mount type', () => addon.mount('x', '/x', 'tm\0pfs', 0, '')],
    ['mount flags', () => addon.mount('x', '/x', 'tmpfs', -1, '')],
    ['mount data', () => addon.mount('x', '/x', 'tmpfs', 0, null as never)],
    ['umount target', () => addon.umount(undefined as never, 0)],
    ['umount flags', () => addon.umount('/x', 1.5)],
    ['mountFuse target', () => addon.mountFuse('', { source: 'x' })],
    ['mountFuse options', () => addon.mountFuse('/x', null as never)],
    ['mountFuse source', () => addon.mountFuse('/x', {} as never)],
    ['tryLock fd', () => addon.tryLock(-1, 'shared')],
    ['tryLock kind', () => addon.tryLock(0, 'both' as never)],
    ['BlockFile options', () => new addon.BlockFile(undefined as never)],
    ['BlockFile size', () => new addon.BlockFile({ dataPath: 'a', mapPath: 'b', size: 0, blockSize: 4096 })],
    [
      'BlockFile block size',
      () => new addon.BlockFile({ dataPath: 'a', mapPath: 'b', size: 1, blockSize: 5000 }),
    ],
    ['Session options', () => new addon.Session(undefined as never)],
  ];
  for (const [name, call] of wrong) {
    const error = t.throws(call, { any: true }, name);
    t.true(error instanceof TypeError || error instanceof RangeError, name);
  }
});

test('a lock excludes other openers of the file, and never waits', (t) => {
  const path = mkdtempSync(join(tmpdir(), 'orca-lock-'));
  t.teardown(() => rmSync(path, { recursive: true }));
  const [one, other] = [openSync(join(path, 'lock'), 'w'), openSync(join(path, 'lock'), 'w')];
  t.true(addon.tryLock(one, 'shared'));
  t.true(addon.tryLock(other, 'shared'));
  t.false(addon.tryLock(one, 'exclusive'));
  t.true(addon.tryLock(other, 'unlock'));
  t.true(addon.tryLock(one, 'exclusive'));
  t.false(addon.tryLock(other, 'shared'));
  closeSync(one);
  t.true(addon.tryLock(other, 'exclusive'));
  closeSync(other);
  t.throws(() => addon.tryLock(other, 'shared'), { code: 'EBADF' });
});

test('a failed system call throws with code, errno and the path', (t) => {
  const error = t.throws(() => addon.mount('none', '/nonexistent/place', 'tmpfs', 0, ''), { code: 'ENOENT' });
  t.like(error, { errno: 2, syscall: 'mount' });
  t.regex(String(error?.message), /\/nonexistent\/place/);
});

test('the time is that which other processes read, to the nanosecond', (t) => {
  const date = () => BigInt(execFileSync('date', ['+%s%N'], { encoding: 'utf8' }));
  for (let times = 0; times < 20; times++) {
    const before = date();
    const now = addon.realTime();
    const after = date();
    t.true(before <= now && now <= after, `${before} ${now} ${after}`);
  }
});
