/** containerd with `orca snapshotter`, and a registry that has expanded the images to its share. Needs root. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { chainIDs } from '../../src/snapshotter/remote-labels.js';
import { TestRegistry } from '../registry/server-fixture.js';
import { run } from './command.js';
import { freePort } from './free-port.js';
import { imageNames, type TestImageName, testImage } from './images.js';
import { orca } from './orca-command.js';
import { ShareServer } from './share-server.js';
import { SnapshotterHost } from './snapshotter-host.js';

/** runc keeps the containers of every containerd of a host in one place. */
const container = (name: string) => `orca-${process.pid}-${name}`;

let scratch: string;
let host: SnapshotterHost;
let registry: TestRegistry;
let shares: ShareServer;

test.before(async (t) => {
  t.timeout(20 * 60_000);
  scratch = await mkdtemp(join(tmpdir(), 'orca-snapshotter-'));
  const port = await freePort();
  const share = { url: `smb://127.0.0.1:${port}/orca-` };
  registry = await TestRegistry.start({ expansion: { workers: 2 }, share });
  shares = await ShareServer.start(registry.data, port);
  host = await SnapshotterHost.start(['--insecure-registry', registry.host, '--transports', 'smb']);
});
test.after.always(async () => {
  await host?.stop();
  await shares?.stop();
  await registry?.stop();
  await rm(scratch, { recursive: true, force: true });
});

const snapshots = (...args: string[]) => host.ctr('snapshots', '--snapshotter', 'orca', ...args);
const referenceOf = (name: TestImageName) => `${registry.host}/${name}:1`;

/** Pushes an image, and resolves when it is expanded. */
async function push(name: TestImageName): Promise<void> {
  const { directory, tag } = await testImage(name);
  const options = ['--preserve-digests', '--dest-tls-verify=false'];
  await run('skopeo', ['copy', ...options, `oci:${directory}:${tag}`, `docker://${referenceOf(name)}`]);
  const expanded = await orca(['registry', 'expand', `${name}:1`, '--registry', registry.url, '--wait']);
  if (expanded.code !== 0) throw new Error(expanded.stderr);
}

async function inspect<T>(name: TestImageName, ...args: string[]): Promise<T> {
  const options = ['inspect', '--tls-verify=false', ...args];
  return JSON.parse(await run('skopeo', [...options, `docker://${referenceOf(name)}`])) as T;
}

const pull = (name: TestImageName) => host.pull(referenceOf(name));

async function runPython(id: string, code: string): Promise<string> {
  const options = ['--rm', '--snapshotter', 'orca'];
  return (await host.ctr('run', ...options, referenceOf('python'), id, 'python3', '-c', code)).trim();
}

test.serial('images that their registry has expanded are mounted, not pulled', async (t) => {
  t.timeout(20 * 60_000);
  for (const name of imageNames) await push(name);
  // At once: they share their lowest layer.
  await Promise.all(imageNames.map(pull));
  const content = await host.ctr('content', 'list', '--quiet');
  for (const name of imageNames) {
    const { Layers: layers } = await inspect<{ Layers: string[] }>(name);
    t.deepEqual(
      layers.filter((digest) => content.includes(digest)),
      [],
      'layers that containerd has downloaded',
    );
  }
});

for (const name of ['python', 'node', 'nginx', 'postgres'] as const) {
  test.serial(`${name} runs from the share`, async (t) => {
    t.timeout(5 * 60_000);
    const { check } = await testImage(name);
    const id = container(name);
    const port = await freePort();
    const options = ['--rm', '--snapshotter', 'orca', '--net-host', '--env', `PORT=${port}`];
    // containerd hides /run of an image, where PostgreSQL has its socket.
    const sockets = 'type=tmpfs,src=tmpfs,dst=/run/postgresql,options=mode=1777';
    if (name === 'postgres') options.push('--mount', sockets);
    // What ctr is given takes the place of the entrypoint as well.
    const { config } = await inspect<{ config: { Entrypoint?: string[] } }>(name, '--config');
    const command = check.command.length === 0 ? [] : [...(config.Entrypoint ?? []), ...check.command];
    const ended = host.ctr('run', ...options, referenceOf(name), id, ...command);
    if (check.http === undefined) {
      t.is(await ended, check.stdout ?? '');
      return;
    }
    let running = true;
    void ended
      .catch(() => undefined)
      .finally(() => {
        running = false;
      });
    let answer: string | undefined;
    while (running && answer === undefined) {
      answer = await fetch(`http://127.0.0.1:${port}/`).then(
        (response) => response.text(),
        () => undefined,
      );
      if (answer === undefined) await sleep(50);
    }
    if (running) await host.ctr('tasks', 'kill', '--signal', check.http.stopSignal, id);
    await ended;
    t.is(answer, check.http.body);
  });
}

test.serial('there is one mount for each image', async (t) => {
  const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n');
  const own = mounts.filter((line) => line.includes(host.root) && line.includes('fuse'));
  t.is(own.length, imageNames.length);
});

test.serial('a namespace that has unpacked the lowest layer of an image pulls the image', async (t) => {
  t.timeout(5 * 60_000);
  const other = (...args: string[]) => host.ctr('--namespace', 'other', ...args);
  const options = ['--plain-http', '--snapshotter', 'orca'];
  await other('images', 'pull', ...options, referenceOf('python'));
  await host.pull(referenceOf('nginx'), 'other');
  const name = container('other');
  const command = ['run', '--rm', '--snapshotter', 'orca', referenceOf('nginx'), name, 'echo', 'hello'];
  t.is((await other(...command)).trim(), 'hello');
  for (const image of ['python', 'nginx'] as const)
    await other('images', 'remove', '--sync', referenceOf(image));
});

test.serial('a snapshotter that mounts images itself ends while a container uses one', async (t) => {
  t.timeout(5 * 60_000);
  const options = ['--insecure-registry', registry.host, '--transports', 'smb', '--no-daemon'];
  const own = await SnapshotterHost.start(options);
  try {
    await own.pull(referenceOf('python'));
    const at = join(scratch, 'own');
    await mkdir(at);
    const of = (...args: string[]) => own.ctr('snapshots', '--snapshotter', 'orca', ...args);
    const { rootfs } = await inspect<{ rootfs: { diff_ids: string[] } }>('python', '--config');
    await of('prepare', 'used', chainIDs(rootfs.diff_ids).at(-1)!);
    await run('sh', ['-c', await of('mounts', at, 'used')]);
    try {
      t.true((await readdir(at)).includes('app'));
      // Nobody may wait for what still uses the image: neither other requests nor the end of the process.
      await of('remove', 'used');
      await own.ctr('images', 'remove', '--sync', referenceOf('python'));
      t.false((await of('list')).includes('Committed'));
      await own.pull(referenceOf('python'));
      await own.stopSnapshotter();
      await t.throwsAsync(readFile(join(at, 'usr/lib/os-release')));
    } finally {
      await run('umount', [at]);
    }
  } finally {
    await own.stop();
  }
});

test.serial('a container stands on the lowest layer of an image alone', async (t) => {
  const config = await inspect<{ rootfs: { diff_ids: string[] } }>('python', '--config');
  const at = join(scratch, 'prefix');
  await mkdir(at);
  await snapshots('prepare', 'partial', chainIDs(config.rootfs.diff_ids)[0]!);
  await run('sh', ['-c', await snapshots('mounts', at, 'partial')]);
  try {
    t.true((await readdir(at)).includes('etc'));
    t.false(existsSync(join(at, 'app')));
  } finally {
    await run('umount', [at]);
  }
  await snapshots('remove', 'partial');
});

test.serial('a container runs on while the snapshotter and the daemon are killed', async (t) => {
  const running = runPython(
    container('long'),
    `
print("started", flush=True)
import time
time.sleep(6)
import numpy
print(numpy.arange(6).sum())`,
  );
  await sleep(2000);
  await host.stopSnapshotter('SIGKILL');
  const stat = await orca(['stat', '--json', ...host.hostOptions]);
  const { daemon } = JSON.parse(stat.stdout) as { daemon: { pid: number } };
  process.kill(daemon.pid, 'SIGKILL');
  t.is(await running, 'started\n15');
  await host.startSnapshotter();
  await host.containerd.stop();
  await host.containerd.start();
  t.is(await runPython(container('again'), 'print(1)'), '1');
});

test.serial('an image is removed while its container runs, and then nothing is left', async (t) => {
  const code = 'import time; time.sleep(4); import numpy; print("done")';
  const running = runPython(container('removed'), code);
  await sleep(1500);
  for (const name of imageNames) await host.ctr('images', 'remove', '--sync', referenceOf(name));
  t.is(await running, 'done');
  // What the container stood on goes with the next collection.
  await host.ctr('content', 'prune', 'references').catch(() => undefined);
  for (let tries = 0; tries < 100 && (await readdir(join(host.root, 'snapshots'))).length > 0; tries++) {
    await sleep(100);
    await host.ctr('images', 'list');
  }
  t.deepEqual(await readdir(join(host.root, 'snapshots')), []);
  t.false((await readFile('/proc/self/mounts', 'utf8')).includes(`${host.root}/snapshots`));
});
