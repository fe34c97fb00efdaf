/** The FUSE session under the real kernel. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, openSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { addon } from '../../src/native/addon.js';
import { run } from './command.js';
import {
  heldMount,
  IMAGE_KINDS,
  makeImage,
  Server,
  serveImage,
  sourceTree,
  workDirectory,
} from './served-image.js';
import { differences, walkTree } from './tree-compare.js';

const NOBODY = 65534;
const MNT_FORCE = 1;
const MNT_DETACH = 2;

for (const [kind, options] of Object.entries(IMAGE_KINDS))
  test(`a mount shows what mkfs.erofs was given: ${kind}`, async (t) => {
    const work = workDirectory(t);
    const source = join(work, 'source');
    await sourceTree(source, true);
    const image = await makeImage(work, source, options);
    const { server, mountpoint } = await serveImage(t, work, image);
    t.deepEqual(differences(await walkTree(source), await walkTree(mountpoint)), []);
    t.deepEqual((await server.stats()).errors, {});
    t.is(await server.stop(), 0);
  });

test('files of a mount can be executed, mapped, and read past the page cache', async (t) => {
  const work = workDirectory(t);
  const source = join(work, 'source');
  await sourceTree(source, false);
  const image = await makeImage(work, source, IMAGE_KINDS['chunks on a device of its own']);
  const { mountpoint } = await serveImage(t, work, image);
  const big = join(mountpoint, 'deep/er/big');
  await run('sh', ['-c', '"$1/cat" "$2" | cmp - "$3"', 'sh', mountpoint, big, join(source, 'deep/er/big')]);
  await run('sh', [
    '-c',
    'dd if="$1" iflag=direct bs=1M status=none | cmp - "$2"',
    'sh',
    big,
    join(source, 'deep/er/big'),
  ]);
  await run('sh', [
    '-c',
    'dd if="$1" iflag=direct bs=4096 skip=3 count=5 status=none | cmp -n 20480 - "$2" 0 12288',
    'sh',
    big,
    join(source, 'deep/er/big'),
  ]);
  const mounts =
    readFileSync('/proc/mounts', 'utf8')
      .split('\n')
      .find((line) => line.includes(mountpoint)) ?? '';
  t.regex(mounts, /^orca:a,b\\134c .* fuse\.orca ro,nosuid,nodev,/);
  t.throws(() => writeFileSync(join(mountpoint, 'new'), ''), { code: 'EROFS' });
});

test('a second walk asks nothing of the session', async (t) => {
  const work = workDirectory(t);
  const source = join(work, 'source');
  await sourceTree(source, false);
  const image = await makeImage(work, source, IMAGE_KINDS['chunks on a device of its own']);
  const { server, mountpoint } = await serveImage(t, work, image);
  const walk = async (): Promise<Record<string, number>> => {
    await run('sh', [
      '-c',
      'ls -lR "$1" >/dev/null; find "$1" -type f -exec cat {} + >/dev/null; getfattr -R "$1" 2>/dev/null || true',
      'sh',
      mountpoint,
    ]);
    // What the kernel reads ahead may be under way when the walk has ended.
    await sleep(500);
    return (await server.stats()).requests;
  };
  let first = await walk();
  let second = await walk();
  // Another test may have emptied the kernel's caches between the two.
  for (let tries = 0; tries < 5 && second['READ'] !== first['READ']; tries++) {
    first = second;
    second = await walk();
  }
  t.true(first['READ']! > 0 && first['LOOKUP']! + first['READDIRPLUS']! > 0);
  for (const name of [
    'LOOKUP',
    'OPEN',
    'OPENDIR',
    'READ',
    'GETATTR',
    'READDIR',
    'READDIRPLUS',
    'READLINK',
    'GETXATTR',
    'LISTXATTR',
  ])
    t.is(second[name] ?? 0, first[name] ?? 0, name);
});

test('without privilege the mount goes through fusermount3', async (t) => {
  // fusermount3 opens it as its caller; udev makes it so where there is udev.
  const { mode } = statSync('/dev/fuse');
  chmodSync('/dev/fuse', 0o666);
  t.teardown(() => chmodSync('/dev/fuse', mode));
  const work = workDirectory(t);
  const source = join(work, 'source');
  mkdirSync(source);
  writeFileSync(join(source, 'file'), 'content');
  const image = await makeImage(work, source, []);
  const { server, mountpoint } = await serveImage(t, work, image, { uid: NOBODY });
  const read = (uid: number): Promise<unknown> =>
    new Promise((resolve) => {
      const child = spawn('cat', [join(mountpoint, 'file')], {
        uid,
        gid: uid,
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      let out = '';
      child.stdout.on('data', (chunk) => {
        out += chunk;
      });
      child.on('close', (code) => resolve(code === 0 ? out : code));
    });
  t.is(await read(NOBODY), 'content');
  t.is(await read(0), 1, 'others, even root, are kept out');
  t.is(await server.stop(), 0);
  t.false(readFileSync('/proc/mounts', 'utf8').includes(mountpoint));
});

test('a killed server is replaced by another without an error for its readers', async (t) => {
  const work = workDirectory(t);
  const source = join(work, 'source');
  mkdirSync(source);
  for (let i = 0; i < 60; i++) writeFileSync(join(source, `file-${i}`), Buffer.alloc(700_000 + i, `${i} `));
  const image = await makeImage(work, source, IMAGE_KINDS['chunks on a device of its own']);
  const mountpoint = join(work, 'mnt');
  const cacheDir = join(work, 'cache');
  mkdirSync(mountpoint);
  mkdirSync(cacheDir);
  const fd = heldMount(t, mountpoint, 'orca:adopt');

  let server = new Server(t, { ...image, cacheDir }, fd);
  await server.line('ready');
  const reader = spawn(
    'sh',
    [
      '-c',
      'for i in 1 2 3; do for f in "$1"/*; do cat "$f" || echo ERROR; done; echo 3 >/proc/sys/vm/drop_caches; done | sha256sum',
      'sh',
      mountpoint,
    ],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  let output = '';
  reader.stdout.on('data', (chunk) => {
    output += chunk;
  });
  const ended = once(reader, 'close');
  let kills = 0;
  for (; reader.exitCode === null && kills < 6; kills++) {
    await new Promise((resolve) => setTimeout(resolve, 60));
    await server.kill();
    server = new Server(t, { ...image, cacheDir, adopt: true }, fd);
    await server.line('ready');
  }
  await ended;
  t.true(kills >= 2);
  const expected = await run('sh', ['-c', 'for i in 1 2 3; do cat "$1"/*; done | sha256sum', 'sh', source]);
  t.is(output, expected);
  await server.kill();
});

test('a reader that waits for a block can be killed', async (t) => {
  const work = workDirectory(t);
  const source = join(work, 'source');
  await sourceTree(source, false);
  const image = await makeImage(work, source, IMAGE_KINDS['chunks on a device of its own']);
  const { server, mountpoint } = await serveImage(t, work, image, { stuck: true });
  const reader = spawn('cat', [join(mountpoint, 'deep/er/big')], { stdio: 'ignore' });
  await server.line('miss');
  const far = [`if=${join(mountpoint, 'deep/er/big')}`, 'iflag=direct', 'bs=4k', 'skip=1000', 'count=1'];
  const direct = spawn('dd', far, { stdio: 'ignore' });
  await server.line('miss');
  for (const child of [reader, direct]) {
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    t.deepEqual(await ended, [null, 'SIGKILL']);
  }
});

test('a mount that is forced off ends the session and fails its readers', async (t) => {
  const work = workDirectory(t);
  const source = join(work, 'source');
  await sourceTree(source, false);
  const image = await makeImage(work, source, IMAGE_KINDS['chunks on a device of its own']);
  const { server, mountpoint } = await serveImage(t, work, image, { stuck: true });
  const reader = spawn('cat', [join(mountpoint, 'deep/er/big')], { stdio: 'ignore' });
  await server.line('miss');
  const ended = once(reader, 'exit');
  addon.umount(mountpoint, MNT_FORCE | MNT_DETACH);
  t.deepEqual(await ended, [1, null]);
  t.regex(await server.line('end'), /^end (unmounted|failed)/);
  await server.kill();
});

test('a process that just exits leaves a dead mount and nothing worse', async (t) => {
  const work = workDirectory(t);
  const source = join(work, 'source');
  mkdirSync(source);
  const image = await makeImage(work, source, []);
  const { server, mountpoint } = await serveImage(t, work, image, { abandon: true });
  t.is(await server.stop(), 0);
  t.throws(() => openSync(mountpoint, 'r'), { code: 'ENOTCONN' });
});

test('a missing or busy mount point, and fusermount3’s refusal, are told with their errno', async (t) => {
  const work = workDirectory(t);
  t.throws(() => addon.mountFuse(join(work, 'missing'), { source: 'x' }), {
    code: 'ENOENT',
    message: /missing/,
  });
  writeFileSync(join(work, 'file'), '');
  t.throws(() => addon.mountFuse(join(work, 'file'), { source: 'x' }), { code: 'ENOTDIR' });
  t.throws(() => addon.umount(work, 0), { code: 'EINVAL' });
  const script = `
    import { addon } from ${JSON.stringify(new URL('../../src/native/addon.js', import.meta.url).href)};
    process.setgroups([]); process.setgid(${NOBODY}); process.setuid(${NOBODY});
    try { addon.mountFuse('/usr', { source: 'x' }); } catch (error) { console.log(error.message); }`;
  t.regex(await run(process.execPath, ['--input-type=module', '-e', script]), /EPERM.*fusermount3: /);
});
