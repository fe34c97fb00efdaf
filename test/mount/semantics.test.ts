/** What docs/SEMANTICS.md promises of a mounted tree, one test each. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import {
  access,
  constants,
  lstat,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readlink,
  realpath,
  rm,
  statfs,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { type Mount, mountImage } from '../../src/mount/mount.js';
import { FileSource } from '../../src/source/file-source.js';
import { loadImage } from '../../src/source/remote-image.js';
import { addImage, content, type Files, type TestFile } from '../source/store-fixture.js';

const run = promisify(execFile);

const NONE = { uid: 0, gid: 0, mtime: 0n, xattrs: new Map<string, Uint8Array>() };
const linked: TestFile = { content: content('linked', 5000), mode: 0o600, uid: 70_000, gid: 3_000_000_000 };
/** Bytes that are no UTF-8. */
const LATIN1_NAME = 'caf\xe9';
const LONG_NAME = 'n'.repeat(255);

const LOWER: Files = {
  'bin/sh-like': { content: content('tool', 40_000), mode: 0o4755, mtime: 1_600_000_000_123_456_789n },
  'bin/true': { content: readFileSync('/bin/true'), mode: 0o755 },
  'links/one': linked,
  'links/two': linked,
  'links/symbolic': { kind: 'symlink', mode: 0o777, ...NONE, target: '../bin/sh-like' },
  'links/dangling': { kind: 'symlink', mode: 0o777, ...NONE, target: '/no/such/\xff' },
  'dev/null': { kind: 'chardev', mode: 0o666, ...NONE, major: 1, minor: 3 },
  'dev/disk': { kind: 'blockdev', mode: 0o660, ...NONE, major: 259, minor: 70_000 },
  'dev/pipe': { kind: 'fifo', mode: 0o600, ...NONE, major: 0, minor: 0 },
  'dev/socket': { kind: 'socket', mode: 0o600, ...NONE, major: 0, minor: 0 },
  old: { content: content('old', 100), mtime: -1_000_000_001n },
  sparse: { content: content('end', 5000), hole: 1 << 20 },
  [LATIN1_NAME]: content('latin', 10),
  [LONG_NAME]: content('long', 10),
  private: { content: content('private', 100), mode: 0o600 },
};
const UPPER: Files = Object.fromEntries(
  Array.from({ length: 5000 }, (_, i) => [`many/${i}`, { content: Buffer.alloc(0) }]),
);

let directory: string;
let mount: Mount;
let second: Mount;
const at = (path: string) => join(mount.mountpoint, path);

test.before(async () => {
  directory = await realpath(await mkdtemp(join(tmpdir(), 'orca-semantics-')));
  const store = join(directory, 'store');
  await addImage(store, 'app:1', [LOWER, UPPER]);
  const cache = await BlockCache.open(join(directory, 'cache'));
  const source = new FileSource(store);
  const image = await loadImage(source, 'app:1', cache.directory);
  const mountOnce = async (name: string) => {
    const mountpoint = join(directory, name);
    await mkdir(mountpoint);
    return mountImage({ image, sources: [source], cache, mountpoint });
  };
  mount = await mountOnce('one');
  second = await mountOnce('two');
});

test.after.always(async () => {
  for (const each of [mount, second]) {
    await each.unmount({ lazy: true });
    await each.close();
  }
  await rm(directory, { recursive: true });
});

test('type, mode, owner, size and modification time to the nanosecond are those of the image', async (t) => {
  const tool = await lstat(at('bin/sh-like'), { bigint: true });
  t.is(tool.mode, 0o104755n);
  t.is(tool.size, 40_000n);
  t.is(tool.mtimeNs, 1_600_000_000_123_456_789n);
  t.is((await lstat(at('old'), { bigint: true })).mtimeNs, -1_000_000_001n);
  const { uid, gid, mode } = await lstat(at('links/one'));
  t.deepEqual([uid, gid, mode], [70_000, 3_000_000_000, 0o100600]);
});

test('access and change time are the modification time', async (t) => {
  const { atimeNs, mtimeNs, ctimeNs } = await lstat(at('bin/sh-like'), { bigint: true });
  t.is(atimeNs, mtimeNs);
  t.is(ctimeNs, mtimeNs);
});

test('names of one inode have one inode number and count each other', async (t) => {
  const [one, two] = await Promise.all([lstat(at('links/one')), lstat(at('links/two'))]);
  t.is(one.ino, two.ino);
  t.is(one.nlink, 2);
});

test('inode numbers and the order of a directory are the same in every mount of the image', async (t) => {
  for (const path of ['', 'bin', 'links/one', 'many/4711']) {
    t.is((await lstat(at(path))).ino, (await lstat(join(second.mountpoint, path))).ino);
  }
  t.deepEqual(await readdir(at('many')), await readdir(join(second.mountpoint, 'many')));
});

test('a directory of 5000 names lists each once', async (t) => {
  const names = await readdir(at('many'));
  t.is(names.length, 5000);
  t.is(new Set(names).size, 5000);
});

test('names are bytes, of up to 255', async (t) => {
  const names = (await readdir(Buffer.from(mount.mountpoint), 'buffer')).map((name) =>
    name.toString('latin1'),
  );
  t.true(names.includes(LATIN1_NAME));
  t.true(names.includes(LONG_NAME));
  const path = Buffer.concat([Buffer.from(`${mount.mountpoint}/`), Buffer.from(LATIN1_NAME, 'latin1')]);
  t.is((await lstat(path)).size, 10);
  await t.throwsAsync(lstat(at(`${LONG_NAME}x`)), { code: 'ENAMETOOLONG' });
});

test('symbolic links have their targets, byte for byte, and lead where they say', async (t) => {
  t.is(await readlink(at('links/symbolic')), '../bin/sh-like');
  t.is((await readlink(at('links/dangling'), 'buffer')).toString('latin1'), '/no/such/\xff');
  t.is(await realpath(at('links/symbolic')), at('bin/sh-like'));
});

test('devices, pipes and sockets have their types and numbers', async (t) => {
  const kinds = await Promise.all(
    ['dev/null', 'dev/disk', 'dev/pipe', 'dev/socket'].map((path) => lstat(at(path))),
  );
  t.deepEqual(
    kinds.map((kind) => [kind.isCharacterDevice(), kind.isBlockDevice(), kind.isFIFO(), kind.isSocket()]),
    [
      [true, false, false, false],
      [false, true, false, false],
      [false, false, true, false],
      [false, false, false, true],
    ],
  );
  const { stdout } = await run('stat', ['-c', '%t:%T', at('dev/null'), at('dev/disk')]);
  t.is(stdout, '1:3\n103:11170\n');
});

test('device nodes of an image cannot be opened on the host', async (t) => {
  await t.throwsAsync(open(at('dev/null')), { code: 'EACCES' });
});

test('every attempt to change something is EROFS', async (t) => {
  for (const [command, ...args] of [
    ['touch', at('new')],
    ['touch', at('private')],
    ['mkdir', at('bin/new')],
    ['rm', at('private')],
    ['chmod', '700', at('private')],
    ['chown', '1', at('private')],
    ['mv', at('private'), at('moved')],
    ['ln', at('private'), at('linked')],
    ['truncate', '-s', '0', at('private')],
  ] as [string, ...string[]][]) {
    await t.throwsAsync(run(command, args), { message: /Read-only file system/ }, `${command} ${args}`);
  }
});

test('permissions are checked by the kernel, for every user', async (t) => {
  const options = { uid: 65_534, gid: 65_534 };
  // /tmp/orca-… belongs to root alone; the working directory leads into the mount.
  const cat = (path: string) => run('cat', [path], { ...options, cwd: mount.mountpoint });
  await run('cat', ['sparse'], { ...options, cwd: mount.mountpoint, encoding: 'buffer', maxBuffer: 1 << 22 });
  await t.throwsAsync(cat('private'), { message: /Permission denied/ });
  await access(at('bin/sh-like'), constants.X_OK);
  await t.throwsAsync(access(at('private'), constants.X_OK), { code: 'EACCES' });
});

test('a hole reads as zeros', async (t) => {
  const { stdout } = await run('head', ['-c', `${1 << 20}`, at('sparse')], {
    encoding: 'buffer',
    maxBuffer: 1 << 22,
  });
  t.true(stdout.equals(Buffer.alloc(1 << 20)));
  const all = await run('cat', [at('sparse')], { encoding: 'buffer', maxBuffer: 1 << 22 });
  t.true(all.stdout.subarray(1 << 20).equals((LOWER['sparse'] as TestFile).content));
});

test('programs run from the mount, which maps them, and files can be locked', async (t) => {
  // Not run(at('bin/true')): to spawn waits for the exec, whose reads would wait for this event loop.
  const { stdout } = await run('sh', ['-c', `${at('bin/true')} --version`]);
  t.regex(stdout, /true/);
  await run('flock', ['-n', at('private'), 'true']);
});

test('the file system says how large it is, and that nothing is free', async (t) => {
  const { bfree, bavail, blocks, bsize } = await statfs(mount.mountpoint);
  t.is(bfree + bavail, 0);
  t.true(blocks * bsize > 0);
});

test('a path through a file is ENOTDIR, an unknown one ENOENT, also when asked twice', async (t) => {
  for (let i = 0; i < 2; i++) {
    await t.throwsAsync(lstat(at('nothing')), { code: 'ENOENT' });
    await t.throwsAsync(lstat(at('private/below')), { code: 'ENOTDIR' });
  }
});
