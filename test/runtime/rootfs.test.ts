import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { lookup, readText } from '../../src/runtime/rootfs.js';

let scratch: string;
let root: string;

test.before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'orca-rootfs-'));
  root = join(scratch, 'root');
  await mkdir(join(root, 'etc'), { recursive: true });
  await mkdir(join(root, 'usr/share'), { recursive: true });
  await writeFile(join(scratch, 'passwd'), 'outside');
  await writeFile(join(root, 'passwd'), 'inside');
  await writeFile(join(root, 'usr/share/passwd'), 'shared');
});

test.after.always(() => rm(scratch, { recursive: true, force: true }));

const link = (name: string, target: string) => symlink(target, join(root, 'etc', name));
const read = (name: string) => readText(root, `/etc/${name}`, 1000);

test('links stay in the root, however many .. they have', async (t) => {
  await link('relative', '../../../../passwd');
  await link('absolute', '/passwd');
  await link('chain', 'relative');
  await link('through', '/usr/../usr/share/../share/passwd');
  t.is(await read('relative'), 'inside');
  t.is(await read('absolute'), 'inside');
  t.is(await read('chain'), 'inside');
  t.is(await read('through'), 'shared');
});

test('a directory link at the end of a path prefix is followed inside the root', async (t) => {
  await symlink('/usr', join(root, 'local'));
  t.is(await readText(root, '/local/share/passwd', 1000), 'shared');
  t.is((await lookup(root, '/local'))?.path, join(root, 'usr'));
});

test('what is not there is undefined', async (t) => {
  await link('dangling', '/nowhere/at/all');
  await link('through-a-file', '/passwd/x');
  t.is(await read('missing'), undefined);
  t.is(await read('dangling'), undefined);
  t.is(await read('through-a-file'), undefined);
  t.is(await read('n'.repeat(300)), undefined);
});

test('link loops, FIFOs, devices, directories and huge files are refused', async (t) => {
  await link('loop', 'loop');
  await t.throwsAsync(read('loop'), { code: 'HOSTILE_ROOTFS', message: /symbolic links/ });
  execFileSync('mkfifo', [join(root, 'etc/fifo')]);
  await t.throwsAsync(read('fifo'), { code: 'HOSTILE_ROOTFS', message: /no regular file/ });
  await t.throwsAsync(readText(root, '/etc', 1000), { code: 'HOSTILE_ROOTFS' });
  await writeFile(join(root, 'etc/huge'), '');
  await truncate(join(root, 'etc/huge'), 2 ** 40);
  await t.throwsAsync(read('huge'), { code: 'HOSTILE_ROOTFS', message: /1099511627776 bytes/ });
});
