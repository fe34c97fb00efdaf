import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { diskUsage } from '../../src/snapshotter/disk-usage.js';

test('bytes are those of du, and hard links count once', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'orca-usage-'));
  t.teardown(() => rm(root, { recursive: true, force: true }));
  mkdirSync(join(root, 'a/b'), { recursive: true });
  writeFileSync(join(root, 'a/file'), Buffer.alloc(100_000, 1));
  linkSync(join(root, 'a/file'), join(root, 'a/b/link'));
  symlinkSync('/nowhere', join(root, 'symlink'));
  const { size, inodes } = await diskUsage(root);
  t.is(size, Number(execFileSync('du', ['-s', '-B1', root], { encoding: 'utf8' }).split('\t')[0]));
  t.is(inodes, 5);
  t.deepEqual(await diskUsage(join(root, 'missing')), { size: 0, inodes: 0 });
});
