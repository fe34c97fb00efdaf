import { chmod, mkdir, mkdtemp, rm, statfs, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { checkCacheDirectory, checkRunDirectory } from '../../src/doctor/directories.js';
import { checkRunc, checkUser } from '../../src/doctor/programs.js';
import { checkDaemon, checkSnapshotter } from '../../src/doctor/services.js';

let directory: string;

test.before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'orca-doctor-test-'));
});

test.after.always(() => rm(directory, { recursive: true }));

async function program(name: string, script: string): Promise<string> {
  const path = await mkdtemp(join(directory, 'bin-'));
  await writeFile(join(path, name), `#!/bin/sh\n${script}\n`);
  await chmod(join(path, name), 0o755);
  return path;
}

test('runc is found with its version, missing, old or broken', async (t) => {
  const says = (version: string) => program('runc', `echo "runc version ${version}"; echo "spec: 1.1"`);
  t.like(await checkRunc(await says('1.1.5+ds1')), { state: 'ok' });
  t.regex((await checkRunc(await says('1.1.5+ds1'))).text, /\/runc 1\.1\.5\+ds1$/);
  t.like(await checkRunc(await says('0.1.1')), { state: 'warning', remedy: 'use runc 1.0 or later' });
  t.like(await checkRunc(await program('runc', 'exit 3')), { state: 'problem' });
  t.like(await checkRunc(directory), { state: 'problem', text: 'is not on PATH' });
});

test('other users than root need fusermount3, and cannot run containers', async (t) => {
  const without = await checkUser(1000, directory);
  t.deepEqual(
    without.slice(0, 2).map(({ name, state }) => [name, state]),
    [
      ['user', 'problem'],
      ['fusermount3', 'problem'],
    ],
  );
  t.is((await checkUser(1000, await program('fusermount3', '')))[1]?.state, 'ok');
  t.is((await checkUser(0, directory))[0]?.state, 'ok');
});

test('directories are looked at where they are, or would be made, and are not made', async (t) => {
  const place = join(directory, 'cache', 'deep');
  const { text } = await checkCacheDirectory(place, 1 << 20);
  t.regex(text, /deep \([^)]+, not made yet\), [0-9.]+ GiB free, limit 0\.0 GiB/);
  await t.throwsAsync(statfs(join(directory, 'cache')), { code: 'ENOENT' });
  t.like(await checkCacheDirectory('/proc/cache'), { state: 'warning' });
  t.like(await checkRunDirectory('/proc/run'), { state: 'problem' });
  t.regex((await checkRunDirectory('/a:b')).text, /colon/);
  await mkdir(join(directory, 'file'), { recursive: true });
  await writeFile(join(directory, 'file', 'x'), '');
  t.is((await checkRunDirectory(join(directory, 'file', 'x', 'run'))).state, 'problem');
});

test('no daemon is no trouble, one that is gone is', async (t) => {
  const socket = join(directory, 'orca.sock');
  t.like(await checkDaemon(socket, '1', '/c'), { state: 'ok' });
  await writeFile(socket, '');
  t.like(await checkDaemon(socket, '1', '/c'), { state: 'warning' });
  t.like(await checkSnapshotter(socket), { state: 'warning' });
  t.is(await checkSnapshotter(join(directory, 'none.sock')), undefined);
});
