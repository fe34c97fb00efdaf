/**
 * What install.sh and the Debian package install, used in a root directory that has it: this machine's, below the
 * installed files. Its own tools look at the units and pass the socket; systemd.test.ts boots systemd.
 */
import { execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import { DaemonClient } from '../../src/daemon/client.js';
import { mountsBelow } from '../cli/orca.js';
import { addImage } from '../source/store-fixture.js';

const run = promisify(execFile);
const repository = fileURLToPath(new URL('../../../', import.meta.url));
const { version } = JSON.parse(await readFile(join(repository, 'package.json'), 'utf8')) as {
  version: string;
};
let directory: string;
/** On a tmpfs, since overlayfs takes no lower directory that lies in another one. */
let disk: string;

test.before(async () => {
  directory = await realpath(await mkdtemp(join(tmpdir(), 'orca-install-')));
  disk = join(directory, 'disk');
  for (const name of ['disk', 'merged']) await mkdir(join(directory, name));
  await run('mount', ['-t', 'tmpfs', 'none', disk]);
  await addImage(join(disk, 'store'), 'app:1', [{ hello: Buffer.from('hello') }], 4096);
  for (const script of ['bundle.js', 'deploy/man.js'])
    await run(process.execPath, [script], { cwd: repository });
});

test.after.always(async () => {
  for (const point of (await mountsBelow(directory)).reverse()) await run('umount', ['--lazy', point]);
  await rm(directory, { recursive: true });
});

const install = (...args: string[]) => run('sh', [join(repository, 'deploy/install.sh'), ...args]);

async function filesOf(root: string): Promise<string[]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(root.length))
    .sort();
}

/** A shell script in a root directory that is `root` over this machine's, in a mount namespace of its own. */
async function inside(root: string, script: string): Promise<string> {
  const merged = join(directory, 'merged');
  const enter = `mount -t overlay none -o lowerdir='${root}':/ '${merged}' &&
    mount --rbind /dev '${merged}/dev' && mount --rbind /proc '${merged}/proc' && mount --rbind /sys '${merged}/sys' &&
    mount -t tmpfs none '${merged}/tmp' && mkdir '${merged}/tmp/store' '${merged}/tmp/mnt' &&
    mount --bind '${disk}/store' '${merged}/tmp/store' && exec chroot '${merged}' sh -ec "$1"`;
  const { stdout } = await run('unshare', [
    '--mount',
    '--propagation',
    'private',
    'sh',
    '-ec',
    enter,
    'sh',
    script,
  ]);
  return stdout;
}

const USE = `
  orca --version
  mount -t fuse.orca app:1 /tmp/mnt -o store=/tmp/store,cache=/tmp/cache,run-dir=/tmp/run
  cat /tmp/mnt/hello; echo
  umount /tmp/mnt
  orca doctor --store /tmp/store --cache /tmp/cache --run-dir /tmp/run | grep -c '^ok.*store'
`;
const USED = `${version}\nhello\n1\n`;

test.serial('install.sh installs, again over itself, and uninstalls', async (t) => {
  const root = join(disk, 'installed');
  await install('--root', root, '--node', process.execPath);
  const files = await filesOf(root);
  await writeFile(join(root, 'etc/orca/config.toml'), '# mine\n');
  await install('--root', root, '--node', process.execPath);
  t.deepEqual(await filesOf(root), files);
  t.is(await readFile(join(root, 'etc/orca/config.toml'), 'utf8'), '# mine\n');
  for (const path of [
    'sbin/mount.fuse.orca',
    'usr/local/bin/orca',
    'usr/local/lib/systemd/system/orca.service',
  ])
    t.true(files.includes(`/${path}`), path);
  t.is(files.filter((file) => /node_modules\/(?:ava|typescript|@biomejs)\//.test(file)).length, 0);
  await rm(join(root, 'sbin'), { recursive: true });
  // This machine's /sbin is a link into /usr, which the overlay must not hide.
  await mkdir(join(root, 'usr/sbin'), { recursive: true });
  await symlink('/usr/local/sbin/mount.fuse.orca', join(root, 'usr/sbin/mount.fuse.orca'));
  t.is(await inside(root, USE), USED);
  await rm(join(root, 'usr/sbin'), { recursive: true });
  await install('--root', root, '--uninstall');
  t.deepEqual(await filesOf(root), ['/etc/orca/config.toml']);
});

test.serial('the Debian package installs with dpkg, works, and is removed', async (t) => {
  const environment = { ...process.env, DPKG_DEB_COMPRESSOR_LEVEL: '0' };
  await run('sh', [join(repository, 'deploy/deb.sh')], { env: environment });
  const { stdout: architecture } = await run('dpkg', ['--print-architecture']);
  const file = join(repository, `dist/orca_${version}_${architecture.trim()}.deb`);
  const root = join(disk, 'packaged');
  const database = join(root, 'var/lib/dpkg');
  for (const folder of ['info', 'updates', 'triggers', 'parts'])
    await mkdir(join(database, folder), { recursive: true });
  for (const name of ['status', 'available']) await writeFile(join(database, name), '');
  // Its dependencies are this machine's, which this database does not know.
  const dpkg = (...args: string[]) =>
    run('dpkg', [`--root=${root}`, '--force-depends', '--force-script-chrootless', ...args]);
  await dpkg('--install', file);
  t.regex((await run('dpkg-query', [`--admindir=${database}`, '-W', 'orca'])).stdout, /^orca\t/);
  // The package's node is that of Debian's path, wherever this one comes from.
  const node = join(root, 'usr/bin/node');
  if (!existsSync('/usr/bin/node')) await symlink(process.execPath, node);
  t.is(await inside(root, USE), USED);
  await rm(node, { force: true });
  await dpkg('--remove', 'orca');
  const kept = (await filesOf(root)).filter((path) => !path.startsWith('/var/'));
  t.deepEqual(kept, ['/etc/orca/config.toml']);
});

test.serial('systemd finds nothing wrong with the units, but what its version does not know', async (t) => {
  const root = join(disk, 'units');
  await install('--root', root, '--node', process.execPath, '--prefix', '/usr');
  for (const unit of ['orca.socket', 'orca.service', 'orca-snapshotter.service']) {
    const { stderr } = await run('systemd-analyze', ['verify', '--man=no', `--root=${root}`, unit]).catch(
      (error: { stderr: string }) => error,
    );
    const complaints = stderr
      .split('\n')
      .filter((line) => line.includes('orca') && !/FileDescriptorStorePreserve|Unit .* not found/.test(line));
    t.deepEqual(complaints, [], unit);
  }
});

test.serial('the daemon takes its socket from systemd, and tells it when it is ready', async (t) => {
  const socket = join(disk, 'orca.sock');
  const state = ['--run-dir', join(disk, 'run'), '--cache', join(disk, 'cache'), '--socket', socket];
  const main = join(repository, 'dist/src/cli/main.js');
  const activated = spawn(
    'systemd-socket-activate',
    [
      '--listen',
      socket,
      '--fdname=control',
      process.execPath,
      main,
      'daemon',
      '--config',
      '/dev/null',
      ...state,
    ],
    { stdio: 'ignore' },
  );
  const ended = new Promise((resolve) => activated.once('exit', resolve));
  try {
    const client = new DaemonClient(socket);
    while (!existsSync(socket)) await new Promise((resolve) => setTimeout(resolve, 20));
    const answer = await client.ping();
    // systemd-socket-activate becomes the command, and the command the daemon: no supervisor stands between.
    t.is(answer?.pid, activated.pid);
    await client.shutDown();
    t.is(await ended, 0);
  } finally {
    activated.kill('SIGKILL');
  }
});
