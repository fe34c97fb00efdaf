/** The commands that talk to the host daemon, and containers whose image it serves. */
import { mkdir, mkdtemp, readdir, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { DaemonClient } from '../../src/daemon/client.js';
import { socketOf } from '../../src/daemon/start.js';
import { mountsBelow, orca, startOrca } from '../cli/orca.js';
import { expandBusybox } from './busybox-image.js';

let scratch: string;
let env: NodeJS.ProcessEnv;
const onHost = (...args: string[]) => orca(args, { env });

test.before(async () => {
  scratch = await realpath(await mkdtemp(join(tmpdir(), 'orca-daemon-cli-')));
  await mkdir(join(scratch, 'mnt'));
  await expandBusybox(scratch, join(scratch, 'store'));
  env = {
    ORCA_RUN_DIR: join(scratch, 'run'),
    ORCA_CACHE: join(scratch, 'cache'),
    ORCA_STORE: join(scratch, 'store'),
  };
});

test.after.always(async () => {
  await onHost('daemon', '--stop', '--force');
  await rm(scratch, { recursive: true, force: true });
});

test.serial('without a daemon, the commands that ask for it say what to do', async (t) => {
  const { code, stderr } = await onHost('ps');
  t.is(code, 1);
  t.regex(stderr, /no daemon listens at .*: start it with orca daemon/);
});

test.serial('a mount starts the daemon, is listed, described and unmounted', async (t) => {
  const place = join(scratch, 'mnt');
  const secrets = { ORCA_SMB_USER: 'somebody', ORCA_SMB_PASSWORD: 'their-secret', OWN_TOKEN: 'own-secret' };
  const mounted = await orca(['mount', 'busybox', place], {
    env: { ...env, ...secrets, ORCA_NO_DAEMON: undefined },
  });
  t.is(mounted.code, 0, mounted.stderr);
  t.regex(
    mounted.stdout,
    /^busybox at .*, served by .*store \(file, because as --store says|^busybox at .*served by/,
  );
  const daemon = await new DaemonClient(socketOf(join(scratch, 'run'))).ping();
  t.is(daemon?.mounts, 1);
  t.notRegex(await readFile(`/proc/${daemon?.pid}/environ`, 'utf8'), /somebody|-secret/);
  t.regex((await onHost('ps')).stdout, /^ID .*\n\S+ +busybox +\d+ s +1 +served by .*% +\/.*mnt\n$/);
  t.regex((await onHost('stat', place)).stdout, /mounted at .*mnt\n[^]*LAYER +BLOCKS/);
  t.regex((await onHost('stat')).stdout, /crash of the daemon +mounts go on\nmounts +1\n/);
  t.regex((await onHost('images')).stdout, /\nbusybox +sha256:\S+ +1 /);
  const busy = await onHost('images', 'rm', 'busybox');
  t.deepEqual([busy.code, /busybox is mounted/.test(busy.stderr)], [1, true]);
  const unmounted = await onHost('umount', place);
  t.is(unmounted.code, 0, unmounted.stderr);
  const pinned = await onHost('images', 'pin', 'busybox');
  t.regex(pinned.stdout, /^sha256:[0-9a-f]{64}\n$/, pinned.stderr);
  t.regex((await onHost('prune')).stdout, /^0 images removed, 0 B freed\n$/);
  t.regex(
    (await onHost('prune', '--all')).stdout,
    /^busybox sha256:\S+\n1 image removed, [\d.]+ [kM]B freed\n$/,
  );
  t.deepEqual(await mountsBelow(scratch), []);
});

test.serial('a command that asks starts the daemon', async (t) => {
  await onHost('daemon', '--stop');
  const { code, stdout, stderr } = await orca(['ps'], { env: { ...env, ORCA_NO_DAEMON: undefined } });
  t.deepEqual([code, stderr], [0, '']);
  t.regex(stdout, /^ID +IMAGE/);
});

test.serial('a command in another file tree, or with another cache, does without the daemon', async (t) => {
  const hello = ['run', 'busybox'];
  const options = { env: { ...env, ORCA_NO_DAEMON: undefined } };
  const apart = await orca(hello, { ...options, under: ['unshare', '--mount', '--propagation', 'private'] });
  t.deepEqual([apart.code, apart.stdout], [0, 'hello\n'], apart.stderr);
  t.regex(
    apart.stderr,
    /^orca: warning: the daemon at \S+ sees another file tree .*: going on without it\n$/,
  );
  const other = await orca(['run', '--cache', join(scratch, 'other'), 'busybox'], options);
  t.deepEqual([other.code, other.stdout], [0, 'hello\n'], other.stderr);
  t.regex(other.stderr, /has another cache or run directory .*: going on without it\n$/);
  const insisted = await orca(['run', '--daemon', '--cache', join(scratch, 'other'), 'busybox'], options);
  t.deepEqual([insisted.code, insisted.stdout], [125, '']);
});

test.serial('where no daemon can be started, a command serves by itself', async (t) => {
  const socket = join(scratch, 'x'.repeat(120));
  const options = { env: { ...env, ORCA_NO_DAEMON: undefined } };
  const { code, stdout, stderr } = await orca(['run', '--socket', socket, 'busybox'], options);
  t.deepEqual([code, stdout], [0, 'hello\n'], stderr);
  t.regex(stderr, /too long for a socket .*: going on without it\n$/);
});

test.serial('two commands that start the daemon at the same time get one', async (t) => {
  await onHost('daemon', '--stop');
  const ended = await Promise.all([onHost('daemon', '--detach'), onHost('daemon', '--detach')]);
  t.deepEqual(
    ended.map(({ code, stderr }) => [code, stderr]),
    [
      [0, ''],
      [0, ''],
    ],
  );
  t.regex((await onHost('stat')).stdout, /mounts +0\n/);
});

test.serial('a container runs from a mount of the daemon, and leaves nothing', async (t) => {
  const { code, stdout, stderr } = await onHost('run', '--daemon', 'busybox');
  t.deepEqual([code, stdout], [0, 'hello\n'], stderr);
  t.deepEqual(await readdir(join(scratch, 'run/containers')), []);
  // The image stays mounted for the next container, until somebody wants something else.
  const images = await readdir(join(scratch, 'run/images'));
  t.deepEqual(
    await mountsBelow(scratch),
    images.map((name) => join(scratch, 'run/images', name)),
  );
  t.regex((await onHost('images', 'rm', 'busybox')).stdout, /^sha256:/);
  t.deepEqual(await mountsBelow(scratch), []);
});

test.serial(
  'a container outlives the daemon and its replacement; one whose orca run was killed is removed',
  async (t) => {
    const client = new DaemonClient(socketOf(join(scratch, 'run')));
    const running = startOrca(
      ['run', '--daemon', 'busybox', 'sh', '-c', 'cat /bin/busybox >/dev/null && sleep 60'],
      {
        env,
      },
    );
    while ((await client.mounts()).length === 0) await sleep(20);
    const { pid } = (await client.ping())!;
    process.kill(pid, 'SIGKILL');
    const replaced = await onHost('daemon', '--replace');
    t.is(replaced.code, 0, replaced.stderr);
    t.regex(replaced.stdout, /^orca \S+ serves 1 mount, \d+ ms after its start\n$/);
    const [mount] = await client.mounts();
    t.deepEqual(await readFile(join(mount!.mountpoint, 'bin/busybox')), await readFile('/bin/busybox'));
    running.process.kill('SIGKILL');
    await running.ended;
    for (let tries = 0; tries < 500 && (await client.mounts()).length > 0; tries++) await sleep(20);
    t.deepEqual(await client.mounts(), []);
    for (let tries = 0; tries < 100 && (await readdir(join(scratch, 'run/containers'))).length > 0; tries++)
      await sleep(20);
    t.deepEqual(await readdir(join(scratch, 'run/containers')), []);
    await onHost('prune');
    t.deepEqual(await mountsBelow(scratch), []);
  },
);
