import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { MountError } from '../../src/mount/mount-error.js';
import { prepareMountPoint } from '../../src/mount/mount-point.js';
import { addon } from '../../src/native/addon.js';

const test = anyTest as TestFn<{ directory: string }>;

test.beforeEach(async (t) => {
  t.context = { directory: await realpath(await mkdtemp(join(tmpdir(), 'orca-mount-point-'))) };
});

test.afterEach.always(async (t) => {
  await rm(t.context.directory, { recursive: true });
});

test('a directory is a mount point by its path without symbolic links', async (t) => {
  const { directory } = t.context;
  await mkdir(join(directory, 'real'));
  await symlink('real', join(directory, 'link'));
  t.is(await prepareMountPoint(join(directory, 'link')), join(directory, 'real'));
});

test('a missing mount point and one that is no directory are errors with the remedy', async (t) => {
  const { directory } = t.context;
  await writeFile(join(directory, 'file'), '');
  for (const [name, code, remedy] of [
    ['missing', 'NOT_FOUND', /mkdir/],
    ['file', 'NOT_A_DIRECTORY', /directory/],
    ['file/below', 'NOT_A_DIRECTORY', /directory/],
  ] as const) {
    const error = await t.throwsAsync(prepareMountPoint(join(directory, name)), { instanceOf: MountError });
    t.is(error?.code, code);
    t.regex(error?.message ?? '', remedy);
    t.true(error?.message.includes(join(directory, name)));
  }
});

test('a mount point of another file system is BUSY', async (t) => {
  const { directory } = t.context;
  addon.mount('none', directory, 'tmpfs', 0, '');
  try {
    const error = await t.throwsAsync(prepareMountPoint(directory), { instanceOf: MountError });
    t.is(error?.code, 'BUSY');
    t.regex(error?.message ?? '', /tmpfs/);
  } finally {
    addon.umount(directory, 0);
  }
});
