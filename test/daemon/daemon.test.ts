import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { daemonCommand, supervisorCommand } from '../../src/daemon/start.js';
import { addImage, content } from '../source/store-fixture.js';
import { DaemonFixture } from './daemon-fixture.js';

const FILES = { 'bin/tool': content('tool', 300_000), 'etc/conf': content('conf', 77) };

test('a mount is made, listed, described and removed; the same request again is no error', async (t) => {
  const fixture = await DaemonFixture.open(t);
  const { manifestDigest } = await addImage(fixture.store, 'app:1', [FILES]);
  await fixture.start();
  const info = await fixture.mount('app:1', 'one');
  t.like(info, { id: 'one', image: 'app:1', manifestDigest, layers: 1, sources: [{ kind: 'file' }] });
  t.deepEqual(await readFile(join(info.mountpoint, 'bin/tool')), FILES['bin/tool']);
  t.is((await fixture.mount('app:1', 'one')).createdAt, info.createdAt);
  t.is((await fixture.client.mounts()).length, 1);
  const { perLayer, hitRatio } = await fixture.client.mount('one');
  t.true(perLayer[0]!.blocksPresent > 0 && hitRatio < 1);
  const [image] = await fixture.client.images();
  t.like(image, { image: 'app:1', manifestDigest, mounts: 1 });
  t.true(image!.bytesCached > 300_000);
  await fixture.client.removeMount('one');
  await fixture.client.removeMount('one');
  t.deepEqual(await fixture.mounted(), []);
  t.deepEqual(await fixture.client.mounts(), []);
});

test('images are pinned, pruned and removed, but never under a mount, not even an adopted one', async (t) => {
  const fixture = await DaemonFixture.open(t);
  for (const name of ['up:1', 'pinned:1', 'idle:1', 'gone:1'])
    await addImage(fixture.store, name, [{ file: content(name, 200_000) }]);
  await fixture.start();
  const { client } = fixture;
  const names = async () => (await client.images()).map(({ image }) => image).sort();
  const { mountpoint } = await fixture.mount('up:1', 'up');
  for (const name of ['pinned', 'idle', 'gone']) {
    const mounted = await fixture.mount(`${name}:1`, name);
    await readFile(join(mounted.mountpoint, 'file'));
    await client.removeMount(name, { force: true });
  }
  t.true((await client.setPinned('pinned:1', true)).pinned);
  const { manifestDigest } = await client.removeImage('gone:1');
  await t.throwsAsync(client.removeImage(manifestDigest.slice(0, 20)), { code: 'NOT_FOUND' });
  await fixture.killDaemon();
  await t.throwsAsync(client.removeImage('up:1'), { code: 'BUSY', message: /unmount it first/ });
  const { images, bytesFreed } = await client.prune();
  t.deepEqual(
    images.map(({ image }) => image),
    ['idle:1'],
  );
  t.true(bytesFreed >= 200_000);
  t.deepEqual(await names(), ['pinned:1', 'up:1']);
  await client.setPinned('pinned:1', false);
  await client.setPinned('up:1', true);
  t.deepEqual(
    (await client.prune(true)).images.map(({ image }) => image),
    ['pinned:1'],
  );
  t.deepEqual(await names(), ['up:1']);
  await fixture.killDaemon();
  t.deepEqual(await readFile(join(mountpoint, 'file')), content('up:1', 200_000));
});

test('a daemon whose supervisor was killed gets another one, and its mounts go on', async (t) => {
  const fixture = await DaemonFixture.open(t);
  await addImage(fixture.store, 'app:1', [FILES]);
  const before = await fixture.start();
  const { mountpoint } = await fixture.mount('app:1', 'one');
  fixture.supervisor.kill('SIGKILL');
  await once(fixture.supervisor, 'exit');
  t.deepEqual(await readFile(join(mountpoint, 'bin/tool')), FILES['bin/tool']);
  while ((await fixture.answer()).startedAt === before.startedAt) await sleep(20);
  const after = await fixture.answer();
  t.deepEqual([after.supervised, after.mounts], [true, 1]);
  t.regex(fixture.log, /the supervisor has gone: starting another one/);
  await fixture.killDaemon();
  t.deepEqual(await readFile(join(mountpoint, 'etc/conf')), FILES['etc/conf']);
  t.is((await fixture.answer()).mounts, 1);
  await fixture.client.removeMount('one', { force: true });
  await fixture.client.shutDown();
  while ((await fixture.client.ping()) !== undefined) await sleep(5);
  t.true((await fixture.start()).supervised);
});

test('a mount that another mount namespace has a copy of is removed at once all the same', async (t) => {
  const fixture = await DaemonFixture.open(t);
  await addImage(fixture.store, 'app:1', [FILES]);
  await fixture.start();
  const mounts = [await fixture.mount('app:1', 'kept'), await fixture.mount('app:1', 'forced')];
  const apart = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', 'echo up; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.teardown(() => apart.kill('SIGKILL'));
  await once(apart.stdout, 'data');
  await fixture.client.removeMount('kept');
  await fixture.client.removeMount('forced', { force: true });
  t.deepEqual(await fixture.mounted(), []);
  t.deepEqual(await fixture.client.mounts(), []);
  const inside = (path: string) => `/proc/${apart.pid}/root${path}`;
  const readings = mounts.map(({ mountpoint }) => readFile(join(inside(mountpoint), 'bin/tool')));
  const [kept, forced] = await Promise.allSettled(readings);
  t.deepEqual(kept, { status: 'fulfilled', value: FILES['bin/tool'] });
  t.is(forced?.status, 'rejected');
});

test('what cannot be mounted is told with its code and leaves nothing', async (t) => {
  const fixture = await DaemonFixture.open(t);
  await addImage(fixture.store, 'app:1', [FILES]);
  await fixture.start();
  await t.throwsAsync(fixture.mount('other:1'), { code: 'NOT_FOUND', message: /other:1/ });
  await t.throwsAsync(fixture.client.createMount('x', { image: 'a', mountpoint: 'relative' }), {
    code: 'INVALID_REQUEST',
  });
  await t.throwsAsync(fixture.client.mount('x'), { code: 'NOT_FOUND' });
  const { mountpoint } = await fixture.mount('app:1', 'one');
  await t.throwsAsync(
    fixture.client.createMount('two', { image: 'app:1', store: fixture.store, mountpoint }),
    { code: 'BUSY' },
  );
  t.is((await fixture.client.mounts()).length, 1);
});

test('a client that leaves while its mount is being made, at any moment, leaves none that cannot be removed', async (t) => {
  const fixture = await DaemonFixture.open(t);
  await addImage(fixture.store, 'app:1', [FILES]);
  await fixture.start();
  const { client, store } = fixture;
  const { id, mountpoint } = await fixture.mount('app:1', 'one');
  await client.removeMount(id);
  let left = 0;
  for (let milliseconds = 0; milliseconds < 60; milliseconds += 3) {
    const leaving = new AbortController();
    const order = { image: 'app:1', store, mountpoint };
    const made = client.createMount(id, order, { signal: leaving.signal });
    setTimeout(() => leaving.abort(), milliseconds);
    const isMade = await made.then(
      () => true,
      () => false,
    );
    if (!isMade) left++;
    // A client may have left when its answer was under way.
    await client.removeMount(id, { force: true });
    for (let tries = 0; tries < 500 && (await client.ping())?.mounts !== 0; tries++) await sleep(10);
    t.is((await client.ping())?.mounts, 0, `after ${milliseconds} ms`);
    t.deepEqual(await fixture.mounted(), []);
  }
  t.true(left > 0);
});

test('the socket and the state are for their owner only, and a password is not in the state', async (t) => {
  const fixture = await DaemonFixture.open(t);
  await addImage(fixture.store, 'app:1', [FILES]);
  await fixture.start();
  await fixture.mount('app:1', 'one');
  const state = join(fixture.directory, 'run/daemon/state.json');
  t.is((await stat(fixture.client.socket)).mode & 0o777, 0o600);
  t.is((await stat(state)).mode & 0o777, 0o600);
  t.is((JSON.parse(await readFile(state, 'utf8')) as { version: number }).version, 1);
});

test('a daemon that is killed is replaced, and its mounts go on without their store', async (t) => {
  const fixture = await DaemonFixture.open(t);
  await addImage(fixture.store, 'app:1', [FILES]);
  await addImage(fixture.store, 'app:2', [FILES, { 'lib/more': content('more', 500_000) }]);
  await fixture.start();
  const one = await fixture.mount('app:1');
  const two = await fixture.mount('app:2');
  await readFile(join(one.mountpoint, 'bin/tool'));
  await fixture.killDaemon();
  t.deepEqual(await readFile(join(one.mountpoint, 'bin/tool')), FILES['bin/tool']);
  const { mounts, adoption } = await fixture.answer();
  t.is(mounts, 2);
  t.log(`adopted after ${adoption.milliseconds} ms`);
  // Not read before: the source is found again.
  t.deepEqual(await readFile(join(two.mountpoint, 'lib/more')), content('more', 500_000));
  t.is((await fixture.client.mounts()).length, 2);
  for (const { id } of [one, two]) await fixture.client.removeMount(id);
  t.deepEqual(await fixture.mounted(), []);
});

test('a daemon is replaced in place by another program, and its mounts go on', async (t) => {
  const fixture = await DaemonFixture.open(t);
  await addImage(fixture.store, 'app:1', [FILES]);
  const before = await fixture.start();
  const { mountpoint } = await fixture.mount('app:1');
  await t.throwsAsync(fixture.client.replace([process.execPath, '/does/not/exist']), {
    code: 'INVALID_REQUEST',
  });
  await fixture.client.replace(
    daemonCommand({
      socket: fixture.client.socket,
      runDirectory: join(fixture.directory, 'run'),
      cache: join(fixture.directory, 'cache'),
      logLevel: 'debug',
    }),
  );
  let after = await fixture.answer();
  for (; after.startedAt === before.startedAt; after = await fixture.answer()) await sleep(10);
  t.is(after.pid, before.pid);
  t.is(after.mounts, 1);
  t.deepEqual(await readFile(join(mountpoint, 'bin/tool')), FILES['bin/tool']);
  t.regex(fixture.log, /serving the mounts of an earlier daemon/, 'stderr has outlived it');
  await fixture.killDaemon();
  t.is((await fixture.answer()).mounts, 1);
  t.deepEqual(await readFile(join(mountpoint, 'etc/conf')), FILES['etc/conf']);
});

test('mounts whose supervisor was killed too are cleared away at the next start', async (t) => {
  const fixture = await DaemonFixture.open(t);
  await addImage(fixture.store, 'app:1', [FILES]);
  const { pid } = await fixture.start();
  await fixture.mount('app:1');
  const ended = once(fixture.supervisor, 'exit');
  // It would start another supervisor.
  process.kill(pid, 'SIGSTOP');
  fixture.supervisor.kill('SIGKILL');
  await ended;
  process.kill(pid, 'SIGKILL');
  const error = await t.throwsAsync(readFile(join(fixture.directory, 'mnt/mount-0/bin/tool')));
  t.regex(error.message, /ENOTCONN|ECONNABORTED/);
  await fixture.start();
  t.deepEqual(await fixture.mounted(), []);
  t.deepEqual(await fixture.client.mounts(), []);
});

test('supervisor and daemon end together when they are told to and nothing is mounted', async (t) => {
  const fixture = await DaemonFixture.open(t);
  await addImage(fixture.store, 'app:1', [FILES]);
  await fixture.start();
  await fixture.mount('app:1', 'one');
  await t.throwsAsync(fixture.client.shutDown(), { code: 'BUSY' });
  await fixture.client.removeMount('one', { force: true });
  const ended = once(fixture.supervisor, 'exit');
  await fixture.client.shutDown();
  t.deepEqual(await ended, [0, null]);
  t.is(await fixture.client.ping(), undefined);
});

test('a second supervisor for the same socket ends at once', async (t) => {
  const fixture = await DaemonFixture.open(t);
  await fixture.start();
  const other = await DaemonFixture.open(t);
  const [program = '', ...args] = supervisorCommand({
    socket: fixture.client.socket,
    runDirectory: join(other.directory, 'run'),
    cache: join(other.directory, 'cache'),
  });
  t.is(spawnSync(program, args).status, 3);
  t.is((await fixture.answer()).mounts, 0);
});
