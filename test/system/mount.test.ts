/** `orca mount`, `orca umount`, `orca inspect`, and what bad input gets: real mounts, a real Samba. */
import { createHash } from 'node:crypto';
import { constants } from 'node:fs';
import {
  chmod,
  chown,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { type Ended, isOneLine, mountsBelow, orca, startOrca } from '../cli/orca.js';
import { run } from './command.js';
import { packLayer, writeLayout } from './layout-writer.js';
import { Samba } from './samba.js';

let scratch: string;
let digest: string;
let samba: Samba;

const CONTENT = Buffer.alloc(3_000_000, 'all that is in this file\n');

test.before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'orca-mount-'));
  const root = join(scratch, 'root');
  await mkdir(join(root, 'dir'), { recursive: true });
  await writeFile(join(root, 'dir/file'), CONTENT, { mode: 0o640 });
  await symlink('dir/file', join(root, 'link'));
  const blobs = join(scratch, 'image/blobs/sha256');
  await mkdir(blobs, { recursive: true });
  const lower = await packLayer(root, blobs, 'gzip', 'lower');
  const upper = join(scratch, 'upper');
  await mkdir(upper);
  await writeFile(join(upper, 'added'), 'added\n');
  await writeLayout(join(scratch, 'image'), 'test', { Cmd: ['/bin/true'] }, [
    lower,
    await packLayer(upper, blobs, 'zstd', 'upper'),
  ]);
  const { code, stdout, stderr } = await orca([
    'expand',
    `oci:${scratch}/image`,
    '--store',
    store(),
    '--name',
    'test:1',
  ]);
  if (code !== 0) throw new Error(stderr);
  digest = stdout.trim();
  samba = await Samba.start({ shares: { store: { path: store() } }, encryption: 'required' });
});

test.after.always(async () => {
  await samba?.stop();
  await rm(scratch, { recursive: true, force: true });
});

test.afterEach(async (t) => t.deepEqual(await mountsBelow(scratch), []));

const store = () => join(scratch, 'store');
const state = () => ['--cache', join(scratch, 'cache'), '--run-dir', join(scratch, 'run')];
const runDir = () => ['--run-dir', join(scratch, 'run')];

let points = 0;
async function mountPoint(): Promise<string> {
  const path = join(scratch, `mnt${points++}`);
  await mkdir(path);
  return path;
}

const mount = (point: string, ...more: string[]) =>
  orca(['mount', 'test:1', point, '--store', store(), ...state(), ...more]);

async function refused(t: import('ava').ExecutionContext, ended: Ended, message: RegExp): Promise<void> {
  t.not(ended.code, 0);
  t.true(isOneLine(ended), `${ended.stdout}${ended.stderr}`);
  t.regex(ended.stderr, message);
}

test.serial(
  'mount returns when the mount answers, says which source serves it, and umount ends the server',
  async (t) => {
    const point = await mountPoint();
    const { code, stdout, stderr } = await mount(point);
    t.is(code, 0, stderr);
    t.regex(stdout, new RegExp(`^test:1 at ${point}, served by ${store()} \\(file, .*\\)\n$`));
    t.true((await readFile(join(point, 'dir/file'))).equals(CONTENT));
    t.is(await readFile(join(point, 'added'), 'utf8'), 'added\n');
    const pid = (await serverPids())[0];
    t.not(pid, undefined);
    t.deepEqual(await orca(['umount', point, ...runDir()]), { code: 0, stdout: '', stderr: '' });
    // What is left of it may be a zombie that nobody has reaped yet.
    t.is(await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => ''), '', 'the server has ended');
    t.deepEqual(await readdir(join(scratch, 'run/mounts')), []);
  },
);

async function serverPids(): Promise<string[]> {
  const pids: string[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const line = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (line.includes('serve-mount') && line.includes(scratch)) pids.push(pid);
  }
  return pids;
}

test.serial('an image can be mounted by its digest', async (t) => {
  const point = await mountPoint();
  const ended = await orca(['mount', digest, point, '--store', `file:${store()}`, ...state()]);
  t.is(ended.code, 0, ended.stderr);
  t.is((await orca(['umount', point, ...runDir()])).code, 0);
});

test.serial('mount --foreground serves until it is interrupted', async (t) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const point = await mountPoint();
    const { process: child, ended } = startOrca([
      'mount',
      'test:1',
      point,
      '--foreground',
      '--store',
      store(),
      ...state(),
    ]);
    await new Promise((resolve) => child.stdout?.once('data', resolve));
    t.is(await readFile(join(point, 'added'), 'utf8'), 'added\n');
    child.kill(signal);
    t.is((await ended).code, 0, signal);
    t.deepEqual(await mountsBelow(point), []);
  }
});

test.serial(
  'a mount from a share reads with the password of the environment, of a file, or of the URL',
  async (t) => {
    const url = samba.url('store');
    const file = join(scratch, 'credentials');
    await writeFile(file, `username=${samba.username}\npassword=${samba.password}\n`, { mode: 0o600 });
    const withUser = url.replace('smb://', `smb://${samba.username}:${encodeURIComponent(samba.password)}@`);
    const environment = { ORCA_SMB_USER: samba.username, ORCA_SMB_PASSWORD: samba.password };
    for (const [args, env] of [
      [['--store', url], environment],
      [['--store', url, '--credentials', file], {}],
      [['--store', withUser], {}],
    ] as const) {
      const point = await mountPoint();
      const { code, stdout, stderr } = await orca(['mount', 'test:1', point, ...args, ...state()], { env });
      t.is(code, 0, stderr);
      t.true(stdout.includes(`served by ${url} (smb, `), stdout);
      t.true((await readFile(join(point, 'dir/file'))).equals(CONTENT));
      for (const pid of await serverPids()) {
        const line = await readFile(`/proc/${pid}/cmdline`, 'utf8');
        t.false(line.includes(encodeURIComponent(samba.password)) || line.includes(samba.password));
      }
      t.is((await orca(['umount', point, ...runDir()])).code, 0);
    }
    for (const name of await readdir(join(scratch, 'run/log'))) {
      const log = await readFile(join(scratch, 'run/log', name), 'utf8');
      t.false(log.includes(samba.password) || log.includes(encodeURIComponent(samba.password)));
    }
  },
);

test.serial(
  'a wrong password, an unknown share and a server that is not there are refused in one line',
  async (t) => {
    const environment = { ORCA_SMB_USER: samba.username, ORCA_SMB_PASSWORD: samba.password };
    const point = await mountPoint();
    const attempt = (url: string, env: NodeJS.ProcessEnv) =>
      orca(['mount', 'test:1', point, '--store', url, ...state()], { env });
    await refused(
      t,
      await attempt(samba.url('store'), { ...environment, ORCA_SMB_PASSWORD: 'wrong' }),
      /password|credentials/i,
    );
    await refused(t, await attempt(samba.url('nothing'), environment), /nothing/);
    await refused(t, await attempt('smb://127.0.0.1:1/store', environment), /127\.0\.0\.1:1/);
  },
);

test.serial('an image or a store that is not there is refused, with what there is', async (t) => {
  const point = await mountPoint();
  await refused(t, await orca(['mount', 'other', point, '--store', store(), ...state()]), /other.*test:1/);
  await refused(
    t,
    await orca(['mount', `sha256:${'0'.repeat(64)}`, point, '--store', store(), ...state()]),
    /sha256:0000/,
  );
  await refused(t, await orca(['mount', 'UPPER', point, '--store', store(), ...state()]), /lower case/);
  await refused(
    t,
    await orca(['mount', 'test:1', point, '--store', join(scratch, 'nowhere'), ...state()]),
    /nowhere/,
  );
  await refused(t, await orca(['mount', 'test:1', point, '--store', 'ftp://x/y', ...state()]), /ftp/);
});

test.serial('a mount point that is missing, busy or no directory is refused', async (t) => {
  const point = await mountPoint();
  await refused(t, await mount(join(scratch, 'missing')), /missing does not exist: make the directory/);
  await refused(t, await mount(join(scratch, 'root/dir/file')), /not a directory/);
  t.is((await mount(point)).code, 0);
  await refused(t, await mount(point), /already/);
  const holder = await open(join(point, 'added'));
  await refused(t, await orca(['umount', point, ...runDir()]), /in use by node \(pid \d+\): end that first/);
  await holder.close();
  t.is((await orca(['umount', point, ...runDir()])).code, 0);
  await refused(t, await orca(['umount', point, ...runDir()]), /not a mount of Orca/);
});

test.serial('umount --force ends a mount that is in use, and its server', async (t) => {
  const point = await mountPoint();
  t.is((await mount(point)).code, 0);
  const holder = await open(join(point, 'dir/file'), constants.O_RDONLY | constants.O_DIRECT);
  t.deepEqual(await orca(['umount', '--force', point, ...runDir()]), { code: 0, stdout: '', stderr: '' });
  await t.throwsAsync(holder.read(Buffer.alloc(4096), 0, 4096, 0));
  await holder.close();
  t.deepEqual(await readdir(join(scratch, 'run/mounts')), []);
});

test.serial('without /dev/fuse there is one line with the remedy', async (t) => {
  const point = await mountPoint();
  const under = [
    'unshare',
    '--mount',
    'sh',
    '-c',
    'mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && exec "$@"',
    'sh',
  ];
  const ended = await orca(['mount', 'test:1', point, '--store', store(), ...state(), '--foreground'], {
    under,
  });
  await refused(t, ended, /\/dev\/fuse is missing: load the fuse module/);
});

test.serial('users other than root mount and unmount with fusermount3', async (t) => {
  const point = await mountPoint();
  const home = join(scratch, 'home');
  await mkdir(home);
  await chmod(scratch, 0o755);
  await chown(point, 65534, 65534);
  await chown(home, 65534, 65534);
  // The device as Debian has it, open to all, and this project where others may read it.
  const project = fileURLToPath(new URL('../../../', import.meta.url));
  const script = `
    mknod -m 666 ${scratch}/fuse c 10 229 && mount --bind ${scratch}/fuse /dev/fuse || exit 99
    mkdir ${scratch}/program && mount --bind ${project} ${scratch}/program || exit 99
    as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=${home} ORCA_NO_DAEMON=1 "$@"; }
    orca() { as_nobody ${process.execPath} ${scratch}/program/dist/src/cli/main.js "$@"; }
    orca mount test:1 ${point} --store ${store()} && as_nobody cat ${point}/added && orca umount ${point}
  `;
  const stdout = await run('unshare', ['--mount', 'sh', '-c', script]);
  t.true(stdout.endsWith('added\n'), stdout);
});

test.serial('the mount of a killed server is removed by the next mount', async (t) => {
  const first = await mountPoint();
  const second = await mountPoint();
  t.is((await mount(first)).code, 0);
  for (const pid of await serverPids()) process.kill(Number(pid), 'SIGKILL');
  t.is((await mount(second)).code, 0);
  t.deepEqual(await mountsBelow(first), []);
  for (const pid of await serverPids()) process.kill(Number(pid), 'SIGKILL');
  t.is((await mount(second)).code, 0, 'the same mount point can be used again');
  t.is((await orca(['umount', second, ...runDir()])).code, 0);
});

test.serial(
  'a layer VHD or an image index that is cut short or altered gives errors, never wrong bytes',
  async (t) => {
    const copy = join(scratch, 'damaged');
    const damaged = async (change: (path: string) => Promise<void>, pattern: RegExp) => {
      await rm(copy, { recursive: true, force: true });
      await rm(join(scratch, 'cache'), { recursive: true, force: true });
      await run('cp', ['-a', store(), copy]);
      for (const name of await readdir(copy, { recursive: true })) {
        if (pattern.test(name)) await change(join(copy, name));
      }
    };
    const point = await mountPoint();
    const attempt = () => orca(['mount', 'test:1', point, '--store', copy, ...state()]);

    await damaged((path) => truncate(path, 5000), /\.vhd$/);
    const cut = await attempt();
    if (cut.code === 0) {
      await t.throwsAsync(readFile(join(point, 'dir/file')), { code: 'EIO' });
      t.is((await orca(['umount', point, ...runDir()])).code, 0);
    } else {
      await refused(t, cut, /vhd|layer/);
    }

    await damaged(async (path) => {
      const file = await open(path, 'r+');
      const { size } = await file.stat();
      await file.write(Buffer.from('XX'), 0, 2, Math.min(500_000, size - 4));
      await file.close();
    }, /\.vhd$/);
    t.is((await attempt()).code, 0);
    await t.throwsAsync(readFile(join(point, 'dir/file')), { code: 'EIO' });
    const logs = await readdir(join(scratch, 'run/log'));
    const text = await Promise.all(logs.map((name) => readFile(join(scratch, 'run/log', name), 'utf8')));
    t.regex(text.join(''), /digest|verif/i);
    t.is((await orca(['umount', point, ...runDir()])).code, 0);

    // The image index and the manifests are blobs, named by their digests.
    await damaged((path) => truncate(path, 100), /blobs\/sha256\/[0-9a-f]{64}$/);
    await refused(t, await attempt(), /sha256:[0-9a-f]{64}/);
    await damaged((path) => writeFile(path, '{"schemaVersion": 2, "manifests": [{}'), /index\.json$/);
    await refused(t, await attempt(), /index\.json/);
  },
);

test.serial('inspect shows layers and extents, as a table or as JSON', async (t) => {
  const inspect = (...more: string[]) =>
    orca(['inspect', 'test:1', '--store', store(), '--cache', join(scratch, 'cache'), ...more]);
  const table = await inspect();
  t.is(table.code, 0, table.stderr);
  t.regex(table.stdout, new RegExp(`^digest +${digest}$`, 'm'));
  t.regex(table.stdout, /^layer \(diffID\) +blob +VHD +visible +files$/m);
  const image = JSON.parse((await inspect('--json')).stdout);
  t.is(image.manifestDigest, digest);
  t.is(image.layers.length, 2);
  t.is(image.layers[0].visibleBytes, CONTENT.length);
  t.is(image.layers[1].files, 1);
  const file = JSON.parse((await inspect('--json', '--path', '/dir/file')).stdout);
  t.is(file.mode, '0640');
  t.is(file.size, CONTENT.length);
  t.is(file.extents.length, 1);
  const vhd = await readFile(join(store(), `layers/sha256/${image.layers[0].diffID.slice(7)}.vhd`));
  const { offset } = file.extents[0].layer;
  const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
  t.is(
    hash(vhd.subarray(offset, offset + CONTENT.length)),
    hash(CONTENT),
    'the extent is where inspect says',
  );
  t.regex((await inspect('--path', '/link')).stdout, /target +dir\/file/);
  await refused(t, await inspect('--path', '/dir/nothing'), /nothing/);
});
