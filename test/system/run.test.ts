/** `orca run` with runc: Docker's rules, exit codes, signals, terminal, and that nothing is left behind. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { findRunc } from '../../src/runtime/runc.js';
import { type Ended, isOneLine, mountsBelow, orca, orcaScript, startOrca } from '../cli/orca.js';
import { run } from './command.js';
import { packLayer, writeLayout } from './layout-writer.js';

const APPLETS = [
  'cat',
  'env',
  'hostname',
  'id',
  'ls',
  'mkdir',
  'pwd',
  'sh',
  'sleep',
  'stat',
  'stty',
  'touch',
  'tty',
  'wc',
];
const WAIT_MS = 30_000;

let scratch: string;
let runDir: string;

test.before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'orca-run-'));
  runDir = join(scratch, 'run');
  await buildImage(join(scratch, 'image'));
  const { code, stderr } = await orca([
    'expand',
    `oci:${scratch}/image:busybox`,
    '--store',
    `${scratch}/store`,
  ]);
  if (code !== 0) throw new Error(stderr);
});

test.after.always(() => rm(scratch, { recursive: true, force: true }));

test.afterEach(async (t) => {
  t.deepEqual(await mountsBelow(scratch), []);
  t.deepEqual(await readdir(join(runDir, 'containers')).catch(() => []), []);
  t.deepEqual(await readdir(join(runDir, 'runc')).catch(() => []), []);
});

async function buildImage(layout: string): Promise<void> {
  const root = join(scratch, 'root');
  for (const folder of ['bin', 'etc', 'tmp', 'root', 'srv/app'])
    await mkdir(join(root, folder), { recursive: true });
  await chmod(join(root, 'tmp'), 0o1777);
  await copyFile('/bin/busybox', join(root, 'bin/busybox'));
  await copyFile('/bin/busybox', join(root, 'bin/busybox-capable'));
  await run('setcap', ['cap_net_raw+ep', join(root, 'bin/busybox-capable')]);
  for (const applet of APPLETS) await symlink('busybox', join(root, 'bin', applet));
  await writeFile(join(root, 'etc/passwd'), 'root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/srv/app:/bin/sh\n');
  await writeFile(join(root, 'etc/group'), 'root:x:0:\napp:x:1000:\nvideo:x:44:app\n');
  await writeFile(join(root, 'bin/data'), 'not a program\n');
  const blobs = join(layout, 'blobs/sha256');
  await mkdir(blobs, { recursive: true });
  const layer = await packLayer(root, blobs, 'gzip', 'busybox');
  await writeLayout(layout, 'busybox', { Env: ['GREETING=hello'], Cmd: ['sh', '-c', 'echo $GREETING'] }, [
    layer,
  ]);
}

/** `options` come before the image, `command` after it. */
function args(options: readonly string[], command: readonly string[]): string[] {
  const common = ['--store', `${scratch}/store`, '--cache', `${scratch}/cache`, '--run-dir', runDir];
  return ['run', ...common, ...options, 'busybox', ...command];
}

const container = (options: readonly string[], ...command: string[]) => orca(args(options, command));
const shell = (script: string, ...options: string[]) => container(options, 'sh', '-c', script);

/** Starts a container whose script says `ready`, and waits for that. */
async function started(
  script: string,
  ...options: string[]
): Promise<{ process: ChildProcess; ended: Promise<Ended> }> {
  const running = startOrca(args(options, ['sh', '-c', script]));
  await new Promise<void>((resolve, reject) => {
    running.process.stdout?.on('data', (chunk) => {
      if (String(chunk).includes('ready')) resolve();
    });
    void running.ended.then(({ stderr }) => reject(new Error(`ended before it was ready: ${stderr}`)));
  });
  return running;
}

test.serial('the image’s Cmd and Env are used, and stdout and stderr are apart', async (t) => {
  t.deepEqual(await container([]), { code: 0, stdout: 'hello\n', stderr: '' });
  t.deepEqual(await shell('echo out; echo err >&2'), { code: 0, stdout: 'out\n', stderr: 'err\n' });
});

test.serial('the exit code is the container’s', async (t) => {
  t.is((await shell('exit 7')).code, 7);
  t.is((await shell('exit 255')).code, 255);
});

test.serial('options of the container’s command are not taken for ours', async (t) => {
  const { code, stdout } = await container([], 'sh', '-c', 'echo "$@"', 'sh', '--rm', '-e', '--', '--store');
  t.is(code, 0);
  t.is(stdout, '--rm -e -- --store\n');
});

test.serial('-e, -w and -u do what docker does', async (t) => {
  const { stdout } = await shell(
    'echo $GREETING $B; pwd; id',
    '-e',
    'GREETING=hi',
    '-e',
    'B=2',
    '-w',
    '/new/dir',
    '-u',
    'app',
  );
  t.is(stdout, 'hi 2\n/new/dir\nuid=1000(app) gid=1000(app) groups=44(video),1000(app)\n');
  t.is((await shell('id -u; id -g; echo $HOME', '-u', '1234:44')).stdout, '1234\n44\n/\n');
  t.is((await shell('echo $HOME', '-u', 'app')).stdout, '/srv/app\n');
});

test.serial('the root file system is writable, and what was written is gone afterwards', async (t) => {
  t.is((await shell('echo x > /etc/new && rm /bin/ls && cat /etc/new')).stdout, 'x\n');
  t.is((await shell('cat /etc/new; ls /bin/ls')).stdout, '/bin/ls\n');
});

test.serial('with --read-only only the volumes and /dev/shm can be written', async (t) => {
  await mkdir(join(scratch, 'volume'), { recursive: true });
  const { code, stderr } = await shell('touch /tmp/x', '--read-only');
  t.is(code, 1);
  t.regex(stderr, /Read-only file system/);
  t.is((await shell('touch /data/y /dev/shm/z', '--read-only', '-v', `${scratch}/volume:/data`)).code, 0);
  t.deepEqual(await readdir(join(scratch, 'volume')), ['y']);
});

test.serial('-v …:ro cannot be written, and files can be mounted too', async (t) => {
  await writeFile(join(scratch, 'file'), 'from the host\n');
  const volume = ['-v', `${scratch}/file:/srv/app/file:ro`];
  t.is((await shell('cat /srv/app/file', ...volume)).stdout, 'from the host\n');
  t.is((await shell('echo no > /srv/app/file', ...volume)).code, 1);
  t.is(await readFile(join(scratch, 'file'), 'utf8'), 'from the host\n');
});

test.serial('stdin is empty without -i and ours with it', async (t) => {
  t.is((await orca(args([], ['wc', '-c']), { input: 'abc' })).stdout, '0\n');
  t.is((await orca(args(['-i'], ['wc', '-c']), { input: 'abc' })).stdout, '3\n');
});

test.serial('--net none has only a loopback interface, and host has the host’s', async (t) => {
  t.is((await shell('ls /sys/class/net; hostname', '--net', 'none')).stdout.split('\n')[0], 'lo');
  const names = (await readdir('/sys/class/net')).sort();
  t.deepEqual((await shell('ls /sys/class/net')).stdout.trim().split('\n'), names);
});

test.serial('capabilities and system calls are limited', async (t) => {
  const { stdout } = await shell('cat /proc/self/status');
  t.regex(stdout, /CapEff:\t00000000a80425fb/);
  t.regex(stdout, /Seccomp:\t2/);
  t.regex((await shell('cat /proc/self/status', '-u', 'app')).stdout, /CapEff:\t0000000000000000/);
  const { code } = await shell(
    'exec 2>/dev/null; /bin/busybox unshare -m true || /bin/busybox mount -t tmpfs x /tmp',
  );
  t.not(code, 0);
});

test.serial('file capabilities of the image are in force', async (t) => {
  const { stdout } = await shell('busybox-capable cat /proc/self/status', '-u', 'app');
  t.regex(stdout, /CapEff:\t0000000000002000/);
});

for (const [options, command, code, message] of [
  [[], ['nope'], 127, /cannot run "nope": no such command on the image's PATH/],
  [[], ['/no/such'], 127, /cannot run "\/no\/such": no such command in the image/],
  [[], ['/bin/data'], 126, /\/bin\/data is not executable/],
  [[], ['/etc'], 126, /\/etc is a directory/],
  [['-u', 'nobody'], ['id'], 125, /no user "nobody" in the image/],
  [['-u', 'app:wheel'], ['id'], 125, /no group "wheel" in the image/],
  [['-w', 'tmp'], ['id'], 125, /absolute path/],
  [['-t'], ['id'], 125, /not a TTY/],
  [['-v', '/no/such/dir:/x'], ['id'], 125, /no such file or directory on this host/],
  [['-v', 'data:/x'], ['id'], 125, /no named volumes/],
  [['--name', '-x-'], ['id'], 125, /--name/],
] as const) {
  test.serial(`${[...options, ...command].join(' ')} ends with ${code} and one line`, async (t) => {
    const ended = await container(options, ...command);
    t.is(ended.code, code);
    t.true(isOneLine(ended), ended.stderr);
    t.regex(ended.stderr, message);
  });
}

test.serial('without runc there is one line with the remedy', async (t) => {
  const ended = await orca(args([], ['id']), { env: { PATH: '/nowhere' } });
  t.is(ended.code, 125);
  t.true(isOneLine(ended), ended.stderr);
  t.regex(ended.stderr, /runc is not on PATH: install it/);
});

test.serial('signals reach the container, whose exit code is ours', async (t) => {
  for (const [name, status] of [
    ['SIGTERM', 3],
    ['SIGINT', 4],
    ['SIGHUP', 5],
    ['SIGUSR1', 6],
    ['SIGUSR2', 7],
  ] as const) {
    const trap = `trap 'exit ${status}' ${name.slice(3)}; echo ready; while :; do sleep 0.05; done`;
    const { process: child, ended } = await started(trap);
    child.kill(name);
    t.is((await ended).code, status, name);
  }
});

test.serial('SIGTERM and SIGINT end a container that does not care for them', async (t) => {
  for (const [name, status] of [
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const) {
    const { process: child, ended } = await started('echo ready; exec sleep 1000');
    // The shell catches SIGINT; sleep, a moment later, does not.
    await sleep(200);
    child.kill(name);
    t.is((await ended).code, status, name);
  }
});

test.serial('a signal that comes before runc has made the container reaches it', async (t) => {
  const [bin, began] = [join(scratch, 'slow'), join(scratch, 'slow-began')];
  await mkdir(bin);
  // Signals that this shell gets meanwhile come to nothing.
  const script = `trap : TERM; : > ${began}; sleep 1; exec ${await findRunc()} "$@"`;
  await writeFile(join(bin, 'runc'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const env = { PATH: `${bin}:${process.env['PATH']}` };
  const { process: child, ended } = startOrca(args([], ['sleep', '30']), { env });
  while (!existsSync(began)) await sleep(10);
  child.kill('SIGTERM');
  t.is((await ended).code, 143);
});

test.serial('the third SIGTERM ends a container that catches it', async (t) => {
  const { process: child, ended } = await started(
    "trap 'echo caught' TERM; echo ready; while :; do sleep 0.05; done",
  );
  for (let i = 0; i < 3; i++) {
    child.kill('SIGTERM');
    await sleep(300);
  }
  const { code, stdout } = await ended;
  t.is(code, 143);
  t.is(stdout, 'ready\ncaught\ncaught\n');
});

test.serial('a name is in use as long as its container runs', async (t) => {
  const first = await started('echo ready; exec sleep 1000', '--name', 'one');
  const second = await container(['--name', 'one'], 'id');
  t.is(second.code, 125);
  t.true(isOneLine(second), second.stderr);
  t.regex(second.stderr, /the name "one" is in use/);
  await sleep(200);
  first.process.kill('SIGTERM');
  t.is((await first.ended).code, 143);
  t.is((await container(['--name', 'one'], 'id')).code, 0);
});

test.serial('what a killed orca leaves is removed by the next run', async (t) => {
  const { process: child } = await started('echo ready; exec sleep 1000', '--name', 'victim');
  // Its streams stay open: runc has them too.
  const exited = once(child, 'exit');
  child.kill('SIGKILL');
  await exited;
  t.true((await mountsBelow(scratch)).length > 0);
  const next = await container(['--name', 'victim'], 'cat', '/etc/group');
  t.is(next.code, 0, next.stderr);
  t.deepEqual(await mountsBelow(scratch), []);
});

test.serial('-i -t gives the container a terminal of its own, in the size of ours', async (t) => {
  const command = [
    process.execPath,
    orcaScript,
    ...args(['-i', '-t'], ['sh', '-c', "'tty; stty size; echo $TERM; exit 6'"]),
  ];
  const script = spawn('script', ['-qec', `stty rows 33 cols 77; ${command.join(' ')}`, '/dev/null'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ORCA_NO_DAEMON: '1' },
    timeout: WAIT_MS,
  });
  let output = '';
  script.stdout.on('data', (chunk) => {
    output += chunk;
  });
  const code = await new Promise((resolve) => script.once('close', resolve));
  t.is(code, 6, output);
  t.regex(output, /\/dev\/pts\/0\r\n33 77\r\nxterm\r\n/);
});

test.serial('two containers run at once from one cache', async (t) => {
  const all = await Promise.all([1, 2, 3].map((i) => shell(`sleep 0.2; echo ${i}`)));
  t.deepEqual(
    all.map(({ stdout }) => stdout),
    ['1\n', '2\n', '3\n'],
  );
});

test.serial('the processes of the container do not have our secrets', async (t) => {
  const env = { ORCA_SMB_PASSWORD: 's3cret-word', SOMETHING: 'else' };
  const { stdout } = await orca(args([], ['env']), { env });
  t.notRegex(stdout, /s3cret-word|SOMETHING/);
});
