/**
 * `orca` as users start it: the launcher, which runs containers that the daemon prepares, without node. Its PATH has
 * no node here, so whatever it left to node would fail.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { DaemonClient } from '../../src/daemon/client.js';
import { socketOf } from '../../src/daemon/start.js';
import { packageFile, packageVersion } from '../../src/installation.js';
import { findRunc } from '../../src/runtime/runc.js';
import { type Ended, mountsBelow, orca } from '../cli/orca.js';
import { expandBusybox } from './busybox-image.js';

const launcher = packageFile('native/build/orca');
const APPLETS = ['sh', 'sleep', 'cat', 'stty', 'tty', 'env', 'ls'];
const MISSING_NODE = 'orca: node cannot be started: No such file or directory\n';
let scratch: string;
let env: Record<string, string>;
let client: DaemonClient;

test.before(async () => {
  scratch = await realpath(await mkdtemp(join(tmpdir(), 'orca-launch-')));
  const bin = join(scratch, 'bin');
  await mkdir(bin);
  await symlink(await findRunc(), join(bin, 'runc'));
  env = {
    PATH: bin,
    ORCA_RUN_DIR: join(scratch, 'run'),
    ORCA_CACHE: join(scratch, 'cache'),
    ORCA_STORE: join(scratch, 'store'),
  };
  client = new DaemonClient(socketOf(join(scratch, 'run')));
  await expandBusybox(scratch, env['ORCA_STORE'] ?? '', APPLETS);
  const host = { env: { ...env, PATH: process.env['PATH'] } };
  const { code, stderr } = await orca(['daemon', '--detach'], host);
  if (code !== 0) throw new Error(stderr);
});

test.after.always(async () => {
  await client.shutDown(true).catch(() => undefined);
  await rm(scratch, { recursive: true, force: true });
});

interface Launched {
  process: ChildProcess;
  ended: Promise<Ended>;
}

function start(
  args: readonly string[],
  options: { env?: object; cwd?: string; input?: string } = {},
): Launched {
  const child = spawn(launcher, args, {
    env: { ...env, ...options.env },
    cwd: options.cwd ?? scratch,
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  });
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name]?.on('data', (chunk) => {
      texts[name] += chunk;
    });
  child.stdin?.end(options.input);
  const ended = new Promise<Ended>((done) => {
    child.once('close', (code) => done({ code: code ?? undefined, ...texts }));
  });
  return { process: child, ended };
}

const launch = (args: readonly string[], options = {}) => start(['run', ...args], options).ended;

async function leavesNothing(t: { deepEqual: (a: unknown, b: unknown) => unknown }): Promise<void> {
  // The image stays mounted for the next container.
  const shared = `${join(scratch, 'run/images')}/`;
  t.deepEqual(
    (await mountsBelow(scratch)).filter((point) => !point.startsWith(shared)),
    [],
  );
  for (const folder of ['containers', 'launch', 'runc'])
    t.deepEqual(await readdir(join(scratch, 'run', folder)), []);
}

async function until(condition: () => Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 1500 && !(await condition()); tries++) await sleep(20);
}

/** Resolves when the container has written its first line. */
async function written(running: Launched): Promise<void> {
  await new Promise((resolve) => running.process.stdout?.once('data', resolve));
}

/** Of the first process of the only container; undefined before runc has told which that is. */
async function processName(): Promise<string | undefined> {
  const [id = ''] = await readdir(join(scratch, 'run/containers'));
  const pid = await readFile(join(scratch, 'run/containers', id, 'pid'), 'utf8').catch(() => undefined);
  return pid && (await readFile(`/proc/${pid.trim()}/comm`, 'utf8')).trim();
}

test.serial('a container runs without node, and leaves nothing', async (t) => {
  t.deepEqual(await launch(['busybox']), { code: 0, stdout: 'hello\n', stderr: '' });
  await leavesNothing(t);
});

test.serial('options, environment, working directory and stdin are those of orca run', async (t) => {
  const shown = 'echo $A $B; cat /data/name; cat';
  const options = ['-i', '-e', 'A=1', '-e', 'B', '-v', './etc:/data:ro', '--net', 'none', '--name', 'one'];
  await mkdir(join(scratch, 'etc'), { recursive: true });
  await copyFile('/etc/hostname', join(scratch, 'etc/name'));
  const { code, stdout, stderr } = await launch([...options, 'busybox', 'sh', '-c', shown], {
    env: { B: 'two words' },
    input: 'from stdin\n',
  });
  t.deepEqual([code, stderr], [0, '']);
  t.is(stdout, `1 two words\n${await readFile('/etc/hostname', 'utf8')}from stdin\n`);
  await leavesNothing(t);
});

test.serial('exit codes and messages are those of orca run', async (t) => {
  const cases = [
    ['busybox', 'sh', '-c', 'exit 7'],
    ['busybox', 'sh', '-c', 'kill -9 $$'],
    ['busybox', 'nonsense'],
    ['busybox', '/etc'],
    ['-w', 'relative', 'busybox'],
    ['-u', 'nobody-here', 'busybox'],
    ['-v', '/not/there:/x', 'busybox'],
    ['no-such-image'],
  ];
  for (const args of cases) {
    const own = await orca(['run', '--daemon', ...args], { env: { ...env, PATH: process.env['PATH'] } });
    t.deepEqual(await launch(args), own, args.join(' '));
  }
  await leavesNothing(t);
});

test.serial('what is not the plain case is left to node', async (t) => {
  const left = [
    ['run', '--no-such-option', 'busybox'],
    ['run', '--no-daemon', 'busybox'],
    ['run', '--cache', join(scratch, 'other'), 'busybox'],
    ['run', '--log-level', 'debug', 'busybox'],
    ['run', '--store', 'smb://user:password@host/share', 'busybox'],
    ['run', '--help'],
    ['ps'],
  ];
  for (const args of left) {
    const { code, stdout, stderr } = await start(args).ended;
    t.deepEqual([code, stdout, stderr], [127, '', MISSING_NODE], args.join(' '));
  }
  await leavesNothing(t);
  const whole = { env: { PATH: process.env['PATH'] } };
  t.is((await start(['--version'], whole).ended).stdout, `${packageVersion()}\n`);
  const { code, stdout } = await launch(['--no-daemon', 'busybox'], whole);
  t.deepEqual([code, stdout], [0, 'hello\n']);
});

test.serial('-i -t gives the container a terminal of its own, in the size of ours', async (t) => {
  const inside = "'tty; stty size; echo $TERM; exit 6'";
  const command = `stty rows 33 cols 77; exec ${launcher} run -i -t busybox sh -c ${inside}`;
  const script = spawn('script', ['-qec', command, '/dev/null'], {
    env: { ...env, PATH: `${process.env['PATH']}` },
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 60_000,
  });
  let output = '';
  script.stdout.on('data', (chunk) => {
    output += chunk;
  });
  const code = await new Promise((done) => script.once('close', done));
  t.is(code, 6, output);
  t.regex(output, /\/dev\/pts\/0\r\n33 77\r\nxterm\r\n/);
  const none = await launch(['-t', 'busybox']);
  t.deepEqual([none.code, none.stderr], [125, 'orca: the input device is not a TTY: leave out -t\n']);
});

test.serial('signals reach the container, and end one that does nothing with them', async (t) => {
  const handled = start([
    'run',
    'busybox',
    'sh',
    '-c',
    'trap "echo got; exit 5" TERM; echo up; while :; do sleep 1; done',
  ]);
  await written(handled);
  handled.process.kill('SIGTERM');
  t.deepEqual(await handled.ended, { code: 5, stdout: 'up\ngot\n', stderr: '' });
  const plain = start(['run', 'busybox', 'sh', '-c', 'echo up; exec sleep 1000']);
  await written(plain);
  // The shell catches it; what it passed to the process that takes its place would be ignored.
  await until(async () => (await processName()) === 'sleep');
  plain.process.kill('SIGINT');
  t.is((await plain.ended).code, 130);
  const stubborn = start(['run', 'busybox', 'sh', '-c', 'trap "" TERM; echo up; while :; do sleep 1; done']);
  await written(stubborn);
  for (let i = 0; i < 3; i++) {
    stubborn.process.kill('SIGTERM');
    await sleep(100);
  }
  t.is((await stubborn.ended).code, 143);
  await leavesNothing(t);
});

test.serial('a container outlives the daemon, and is removed by the next one', async (t) => {
  const waiting = start([
    'run',
    'busybox',
    'sh',
    '-c',
    'echo up; sleep 2; cat /bin/busybox >/dev/null; exit 4',
  ]);
  await written(waiting);
  const before = (await client.ping())!;
  process.kill(before.pid, 'SIGKILL');
  await until(async () => ((await client.ping())?.startedAt ?? before.startedAt) !== before.startedAt);
  t.is((await client.ping())?.mounts, 1);
  t.deepEqual(await waiting.ended, { code: 4, stdout: 'up\n', stderr: '' });
  await leavesNothing(t);
});

test.serial('what a killed launcher leaves is removed by the daemon', async (t) => {
  const running = start(['run', 'busybox', 'sh', '-c', 'echo up; exec sleep 1000']);
  await written(running);
  running.process.kill('SIGKILL');
  await until(async () => (await readdir(join(scratch, 'run/containers'))).length === 0);
  await running.ended;
  await leavesNothing(t);
});

test.serial('many start at once', async (t) => {
  const all = await Promise.all(
    Array.from({ length: 8 }, (_, i) => launch(['busybox', 'sh', '-c', `echo ${i}`])),
  );
  t.deepEqual(
    all.map(({ code, stdout, stderr }) => [code, stdout, stderr]),
    all.map((_, i) => [0, `${i}\n`, '']),
  );
  await leavesNothing(t);
});

test.serial('without a daemon, node starts one', async (t) => {
  await client.shutDown(true);
  await until(async () => (await client.ping()) === undefined);
  t.deepEqual(await mountsBelow(scratch), []);
  t.is((await launch(['busybox'])).stderr, MISSING_NODE);
  const { code, stdout, stderr } = await launch(['busybox'], { env: { PATH: process.env['PATH'] } });
  t.deepEqual([code, stdout, stderr], [0, 'hello\n', '']);
  t.is((await client.ping())?.mounts, 0);
  t.deepEqual(await launch(['busybox']), { code: 0, stdout: 'hello\n', stderr: '' });
});
