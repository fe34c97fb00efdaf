import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { checkFilesystem, checkFuseDevice, checkKernel, checkReadAhead } from '../../src/doctor/kernel.js';

for (const [release, state] of [
  ['4.19.0-26-amd64', 'problem'],
  ['5.3.18', 'problem'],
  ['5.4.0', 'warning'],
  ['6.1.0-18-amd64', 'warning'],
  ['6.8.0', 'warning'],
  ['6.9.0', 'ok'],
  ['6.18.44', 'ok'],
  ['7.0.0-rc1', 'ok'],
] as const) {
  test(`Linux ${release} is ${state}`, (t) => {
    t.is(checkKernel(release).state, state);
  });
}

test('a file system is built in, a module, or missing', (t) => {
  const builtIn = 'nodev\tsysfs\n\text4\nnodev\tfuse\n\tfuseblk\nnodev\tfusectl\n';
  t.like(checkFilesystem('fuse', builtIn, ''), { state: 'ok', text: 'the kernel has it' });
  t.is(checkFilesystem('overlay', builtIn, 'kernel/fs/overlayfs/overlay.ko.xz: \n').state, 'ok');
  t.is(checkFilesystem('fuse', '\tfuseblk\n', 'kernel/fs/fuse/fuse2.ko:').state, 'problem');
  t.regex(checkFilesystem('overlay', builtIn, '').remedy ?? '', /modprobe overlay/);
});

test('a missing device and a missing /sys are found, with what to do', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'orca-doctor-test-'));
  t.like(await checkFuseDevice(join(directory, 'fuse')), {
    state: 'problem',
    text: `${directory}/fuse cannot be opened (ENOENT)`,
  });
  t.is((await checkReadAhead(directory)).state, 'warning');
  await rm(directory, { recursive: true });
});
