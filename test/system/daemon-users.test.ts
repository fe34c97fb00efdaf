/** The host daemon of users other than root, and of root in a user namespace. Needs root. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { socketOf } from '../../src/daemon/start.js';
import { type Ended, isOneLine, orca as orcaOfRoot } from '../cli/orca.js';
import { expandBusybox } from './busybox-image.js';
import { run } from './command.js';

const NOBODY = 65534;
const AS_NOBODY = ['setpriv', '--reuid', `${NOBODY}`, '--regid', `${NOBODY}`, '--clear-groups'];

let scratch: string;
let store: string;
/** A mount namespace with /dev/fuse as udev has it, open to all, and this project where others may read it. */
let place: ChildProcess;

test.before(async () => {
  scratch = await realpath(await mkdtemp(join(tmpdir(), 'orca-users-')));
  store = join(scratch, 'store');
  await chmod(scratch, 0o755);
  await expandBusybox(scratch, store);
  await run('chmod', ['-R', 'a+rX', store]);
  await mkdir(join(scratch, 'program'));
  const project = fileURLToPath(new URL('../../../', import.meta.url));
  const script = `mknod -m 666 ${scratch}/fuse c 10 229 && mount --bind ${scratch}/fuse /dev/fuse &&
    mount --bind ${project} ${scratch}/program && echo up && exec cat`;
  place = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', script], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(place.stdout!, 'data');
});
test.after.always(async () => {
  place?.kill('SIGKILL');
  await rm(scratch, { recursive: true, force: true });
});

/** A user's own directories, and their commands there; `under` is a program that starts them. */
class User {
  readonly home: string;
  readonly mountpoint: string;
  private readonly under: readonly string[];

  private constructor(name: string, under: readonly string[]) {
    this.home = join(scratch, name);
    this.mountpoint = join(this.home, 'mnt');
    this.under = ['nsenter', `--mount=/proc/${place.pid}/ns/mnt`, ...AS_NOBODY, ...under];
  }

  static async make(name: string, under: readonly string[] = []): Promise<User> {
    const user = new User(name, under);
    await mkdir(user.mountpoint, { recursive: true });
    for (const path of [user.home, user.mountpoint]) await chown(path, NOBODY, NOBODY);
    return user;
  }

  async sh(script: string, ...args: string[]): Promise<Ended> {
    const [file = '', ...rest] = [...this.under, 'sh', '-c', script, 'sh', ...args];
    const child = spawn(file, rest, {
      env: { PATH: process.env['PATH'], HOME: this.home },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (chunk) => (stdout += chunk));
    child.stderr.on('data', (chunk) => (stderr += chunk));
    const [code] = (await once(child, 'close')) as [number | null];
    return { code: code ?? undefined, stdout, stderr };
  }

  orca(...args: string[]): Promise<Ended> {
    return this.sh('exec "$@"', process.execPath, join(scratch, 'program/dist/src/cli/main.js'), ...args);
  }
}

test.serial('another user has a daemon of their own, and its mounts outlive it', async (t) => {
  const user = await User.make('own');
  const { mountpoint } = user;
  const mounted = await user.orca('mount', 'busybox', mountpoint, '--store', store);
  t.is(mounted.code, 0, mounted.stderr);
  const log = join(user.home, '.local/state/orca/run/daemon/daemon.log');
  try {
    t.regex((await user.orca('ps')).stdout, /busybox .* served by /);
    const { daemon } = JSON.parse((await user.orca('stat', '--json')).stdout) as { daemon: { pid: number } };
    process.kill(daemon.pid, 'SIGKILL');
    const copied = await user.sh('cmp "$1" /bin/busybox', join(mountpoint, 'bin/busybox'));
    t.is(copied.code, 0, copied.stderr);
    const used = await user.sh(
      'exec 3< "$1/bin/busybox"; "$2" "$3" umount "$1"; echo $?; "$2" "$3" umount --force "$1"; echo $?',
      mountpoint,
      process.execPath,
      join(scratch, 'program/dist/src/cli/main.js'),
    );
    t.is(used.stdout, '1\n0\n');
    t.regex(used.stderr, /^orca: \S+ is in use: end what uses it [^\n]*\n$/);
    t.deepEqual(await readdir(mountpoint), []);
    const container = await user.orca('run', '--store', store, 'busybox');
    t.is(container.code, 125);
    t.true(isOneLine(container), container.stderr);
    t.regex(container.stderr, /orca run needs root/);
  } finally {
    t.is((await user.orca('daemon', '--stop', '--force')).code, 0, await readFile(log, 'utf8'));
  }
});

test.serial('the daemon of root is for root', async (t) => {
  const user = await User.make('stranger');
  const runDirectory = join(scratch, 'run-of-root');
  const options = ['--run-dir', runDirectory, '--cache', join(scratch, 'cache-of-root')];
  t.is((await orcaOfRoot(['daemon', '--detach', ...options])).code, 0);
  try {
    for (const command of [['ps'], ['daemon', '--stop', '--force']]) {
      const refused = await user.orca(...command, '--socket', socketOf(runDirectory));
      t.is(refused.code, 1);
      t.true(isOneLine(refused), refused.stderr);
      t.regex(refused.stderr, /is another user's: only its owner may use it/);
    }
  } finally {
    t.is((await orcaOfRoot(['daemon', '--stop', ...options])).code, 0);
  }
});

test.serial('root of a user namespace names directories of its own, and mounts there', async (t) => {
  const user = await User.make('namespace', ['unshare', '--user', '--map-root-user', '--mount']);
  const refused = await user.orca('ps', '--run-dir', join(scratch, 'not-theirs'));
  t.is(refused.code, 1);
  t.true(isOneLine(refused), refused.stderr);
  t.regex(refused.stderr, /cannot be made \(\w+\): give --run-dir/);
  const script = `export ORCA_RUN_DIR=$HOME/run ORCA_CACHE=$HOME/cache
    orca() { "${process.execPath}" ${scratch}/program/dist/src/cli/main.js "$@"; }
    orca mount busybox $HOME/mnt --store ${store} >&2 && cmp $HOME/mnt/bin/busybox /bin/busybox && orca ps
    orca umount $HOME/mnt; orca daemon --stop`;
  const used = await user.sh(script);
  t.is(used.code, 0, used.stderr);
  t.regex(used.stdout, /busybox .* served by /);
});
