/** `mount -t fuse.orca` and lines of fstab, by the real mount(8), in a mount namespace of its own. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { addImage } from '../source/store-fixture.js';

const helper = fileURLToPath(new URL('../../src/cli/mount-helper.js', import.meta.url));
const HELLO = '#!/bin/sh\necho hello\n';
let directory: string;
let mountpoint: string;
let options: string;
let namespace: ChildProcess;

/** Runs a program in the namespace, where /sbin has the helper and PATH finds it. */
function run(program: string, ...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const entered = ['--mount', '--target', String(namespace.pid), '--', program, ...args];
    const child = execFile('nsenter', entered, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(child.exitCode), stdout, stderr });
    });
  });
}

test.before(async () => {
  directory = await realpath(await mkdtemp(join(tmpdir(), 'orca-mount-helper-')));
  mountpoint = join(directory, 'mnt dir');
  const sbin = await realpath('/sbin');
  for (const name of ['mnt dir', 'layers', 'cache', 'run']) await mkdir(join(directory, name));
  await addImage(join(directory, 'store'), 'app:1', [{ 'bin/hello': Buffer.from(HELLO) }], 4096);
  options = `store=${directory}/store,cache=${directory}/cache,run-dir=${directory}/run`;
  // Overlayfs does not take every file system for its upper layer; it always takes a tmpfs.
  const prepare = `mount -t tmpfs none '${directory}/layers' && cd '${directory}/layers' && mkdir up work &&
    printf '#!/bin/sh\\nexec "%s" "%s" "$@"\\n' '${process.execPath}' '${helper}' > up/mount.fuse.orca &&
    chmod 755 up/mount.fuse.orca &&
    mount -t overlay none -o lowerdir=${sbin},upperdir=up,workdir=work ${sbin} && echo ready && exec sleep infinity`;
  namespace = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', prepare], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(namespace.stdout!, 'data');
});

test.afterEach.always(async () => {
  await run('umount', mountpoint);
});

test.after.always(async () => {
  namespace.kill('SIGKILL');
  await rm(directory, { recursive: true });
});

test.serial('mount -t fuse.orca mounts an image, and umount ends it', async (t) => {
  const all = `${options},ro,_netdev,noauto,nofail,x-systemd.automount,x-systemd.requires=network-online.target`;
  const mounted = await run('mount', '-t', 'fuse.orca', 'app:1', mountpoint, '-o', all);
  t.deepEqual(mounted, { code: 0, stdout: '', stderr: '' });
  t.is((await run('cat', `${mountpoint}/bin/hello`)).stdout, HELLO);
  t.regex((await run('findmnt', '-no', 'SOURCE,FSTYPE', mountpoint)).stdout, /^app:1 +fuse\.orca\n$/);
  // systemd goes by it, and finds it by the source that fstab names.
  t.is((await run('findmnt', '-no', 'OPTIONS', '--mtab', '-O', '_netdev', mountpoint)).code, 0);
  t.is((await run('umount', mountpoint)).code, 0);
  t.is((await run('findmnt', mountpoint)).code, 1);
});

test.serial('a line of fstab is enough, and mount -a twice is no error', async (t) => {
  const fstab = join(directory, 'fstab');
  const place = mountpoint.replace(' ', '\\040');
  await writeFile(fstab, `app:1 ${place} fuse.orca ${options},ro,noexec,_netdev,nofail 0 0\n`);
  t.deepEqual(await run('mount', '-T', fstab, mountpoint), { code: 0, stdout: '', stderr: '' });
  t.regex((await run('findmnt', '-no', 'OPTIONS', mountpoint)).stdout, /^ro,nosuid,nodev,noexec,noatime/);
  t.is((await run('mount', '-a', '-T', fstab)).code, 0);
  t.is((await run('umount', mountpoint)).code, 0);
  const verbose = await run('mount', '-v', '-a', '-T', fstab);
  t.is(verbose.code, 0, verbose.stderr);
  t.regex(verbose.stdout, /mount\.fuse\.orca: app:1 at .*mnt dir, served by/);
  t.is((await run('findmnt', '-no', 'FSTYPE', mountpoint)).stdout, 'fuse.orca\n');
});

test.serial('remount changes what a mount can have', async (t) => {
  t.is((await run('mount', '-t', 'fuse.orca', 'app:1', mountpoint, '-o', options)).code, 0);
  t.notRegex((await run('findmnt', '-no', 'OPTIONS', mountpoint)).stdout, /noexec/);
  const remounted = await run('mount', '-o', 'remount,noexec', mountpoint);
  t.is(remounted.code, 0, remounted.stderr);
  t.regex((await run('findmnt', '-no', 'OPTIONS', mountpoint)).stdout, /noexec/);
});

test.serial('libfuse’s mount.fuse3 starts the helper, too', async (t) => {
  const { code, stderr } = await run(
    'mount',
    '-t',
    'fuse',
    'mount.fuse.orca#app:1',
    mountpoint,
    '-o',
    options,
  );
  t.is(code, 0, stderr);
  t.is((await run('findmnt', '-no', 'FSTYPE', mountpoint)).stdout, 'fuse.orca\n');
});

test.serial('mount fails with the exit codes of mount(8), and in one line', async (t) => {
  const mount = (image: string, place: string, given: string) =>
    run('mount', '-t', 'fuse.orca', image, place, '-o', given);
  for (const [image, place, given, code, message] of [
    ['app:1', mountpoint, `${options},stoer=x,nonsense`, 1, /unknown mount option stoer, nonsense/],
    ['app:1', mountpoint, 'store=smb://me:hush@127.0.0.1/share', 1, /credentials=FILE/],
    ['app:1', mountpoint, `${options},wait=soon`, 1, /write a time such as 90s/],
    ['other:1', mountpoint, options, 32, /other:1/],
    ['app:1', join(directory, 'nowhere'), options, 32, /nowhere/],
  ] as const) {
    const failed = await mount(image, place, given);
    t.is(failed.code, code, failed.stderr);
    t.regex(failed.stderr, message);
    t.notRegex(failed.stderr, /hush/);
    t.is((await run('findmnt', mountpoint)).code, 1);
  }
});

test.serial('--fake checks and mounts nothing', async (t) => {
  t.is((await run('mount', '-f', '-t', 'fuse.orca', 'app:1', mountpoint, '-o', options)).code, 0);
  t.is((await run('findmnt', mountpoint)).code, 1);
});
