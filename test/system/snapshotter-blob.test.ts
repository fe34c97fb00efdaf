/**
 * containerd with `orca snapshotter`, and images that nobody has expanded, from registries that know nothing of
 * teleportation: they are read from their blobs, or else unpacked as containerd unpacks them. Needs root.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { DaemonClient } from '../../src/daemon/client.js';
import { socketOf } from '../../src/daemon/start.js';
import { mountsBelow } from '../cli/orca.js';
import { pauseImage } from './busybox-image.js';
import { run } from './command.js';
import { CountingProxy } from './counting-proxy.js';
import { CriClient } from './cri-client.js';
import { DockerRegistry } from './docker-registry.js';
import { type TestImageName, testImage } from './images.js';
import { SnapshotterHost } from './snapshotter-host.js';

const SUM = ['python3', '-c', 'import numpy; print(numpy.arange(4).sum())'];
/** The least that a cache may have; the layers of python have more. */
const SMALL_CACHE = '64M';

let scratch: string;
let registry: DockerRegistry;
let proxy: CountingProxy;
let host: SnapshotterHost;

test.before(async (t) => {
  t.timeout(20 * 60_000);
  scratch = await mkdtemp(join(tmpdir(), 'orca-snapshotter-blob-'));
  registry = await DockerRegistry.start();
  proxy = await CountingProxy.start(`http://${registry.host}`);
  for (const name of ['python', 'node', 'nginx'] as const) {
    const { directory, tag } = await testImage(name);
    await push(name, `${directory}:${tag}`);
  }
  await push('pause', await pauseImage(scratch));
  host = await SnapshotterHost.start([], { sandboxImage: `${registry.host}/pause:1` });
});
test.after.always(async () => {
  await host?.stop();
  await proxy?.stop();
  await registry?.stop();
  await rm(scratch, { recursive: true, force: true });
});

async function push(name: TestImageName | 'pause', layout: string): Promise<void> {
  const target = `docker://${registry.host}/${name}:1`;
  await run('skopeo', ['copy', '--preserve-digests', '--dest-tls-verify=false', `oci:${layout}`, target]);
}

async function runOnce(on: SnapshotterHost, reference: string, command: readonly string[]): Promise<string> {
  // runc keeps the containers of every containerd of a host in one place.
  const id = `orca-${process.pid}-${containers++}`;
  return on.ctr('run', '--rm', '--snapshotter', 'orca', reference, id, ...command);
}
let containers = 0;

/** The layers of an image that containerd has downloaded. */
async function downloaded(on: SnapshotterHost, reference: string, namespace = 'default'): Promise<string[]> {
  const text = await run('skopeo', ['inspect', '--tls-verify=false', `docker://${reference}`]);
  const content = await on.ctr('--namespace', namespace, 'content', 'list', '--quiet');
  const { Layers: layers } = JSON.parse(text) as { Layers: string[] };
  return layers.filter((digest) => content.includes(digest));
}

async function mountsOf(t: ExecutionContext, on: SnapshotterHost, image: string): Promise<void> {
  const mounts = await new DaemonClient(socketOf(join(on.directory, 'run'))).mounts();
  const [mount] = mounts.filter((one) => one.image.includes(`/${image}`));
  t.deepEqual(
    mount?.sources.map(({ kind }) => kind),
    ['blob'],
  );
}

for (const [name, compression] of [
  ['python', 'gzip'],
  ['node', 'zstd'],
] as const) {
  test.serial(
    `an image with layers in ${compression} is read from its blobs, and containerd unpacks nothing`,
    async (t) => {
      t.timeout(5 * 60_000);
      const reference = `${registry.host}/${name}:1`;
      await host.pull(reference);
      t.deepEqual(await downloaded(host, reference), []);
      const command = name === 'python' ? SUM : ['node', '-p', '1 + 5'];
      t.is(await runOnce(host, reference, command), '6\n');
      await mountsOf(t, host, name);
    },
  );
}

test.serial('an eStargz image is not downloaded, neither when it is pulled nor when it runs', async (t) => {
  t.timeout(10 * 60_000);
  const plain = `${registry.host}/nginx:1`;
  const optimized = `${registry.host}/nginx:esgz`;
  await host.containerd.pushEstargz(plain, optimized, '--no-optimize');
  for (const image of [plain, optimized]) await host.ctr('images', 'remove', '--sync', image);
  await host.ctr('content', 'prune', 'references');
  const lazy = `${proxy.host}/nginx:esgz`;
  await host.pull(lazy);
  t.deepEqual(await downloaded(host, lazy), []);
  t.regex(await runOnce(host, lazy, ['cat', '/etc/os-release']), /Debian/);
  await mountsOf(t, host, 'nginx');
  const answer = await fetch(`http://${registry.host}/v2/nginx/manifests/esgz`, {
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
  });
  const { layers } = (await answer.json()) as { layers: { size: number }[] };
  const size = layers.reduce((sum, layer) => sum + layer.size, 0);
  const fetched = proxy.bytes('/blobs/');
  t.true(fetched < size / 4, `${fetched} of ${size} bytes of blobs`);
});

test.serial('a pod of the CRI plugin runs from blobs', async (t) => {
  t.timeout(5 * 60_000);
  const cri = new CriClient(host.containerd.socket);
  const reference = `${registry.host}/python:1`;
  let pod: Awaited<ReturnType<CriClient['runPod']>> | undefined;
  try {
    for (const image of [reference, `${registry.host}/pause:1`]) await cri.pull(image);
    t.deepEqual(await downloaded(host, reference, 'k8s.io'), []);
    pod = await cri.runPod('orca-blob', scratch);
    const wait = ['python3', '-c', 'import time; time.sleep(100000)'];
    const container = await cri.startContainer(pod, 'python', reference, wait);
    t.is(await cri.exec(container, SUM), '6\n');
  } finally {
    if (pod !== undefined) await cri.removePod(pod);
    cri.close();
  }
});

test.serial('a container goes on while the daemon and the snapshotter are killed', async (t) => {
  t.timeout(5 * 60_000);
  const code = 'import time; time.sleep(5); import sqlite3, numpy; print(numpy.arange(4).sum())';
  const running = runOnce(host, `${registry.host}/python:1`, ['python3', '-c', code]);
  await sleep(2000);
  const daemon = new DaemonClient(socketOf(join(host.directory, 'run')));
  await host.stopSnapshotter('SIGKILL');
  process.kill((await daemon.ping())!.pid, 'SIGKILL');
  t.is(await running, '6\n');
  await host.startSnapshotter();
  // It dials anew only after a while.
  await host.containerd.stop();
  await host.containerd.start();
  t.is(await runOnce(host, `${registry.host}/python:1`, SUM), '6\n');
});

test.serial('what cannot be read from blobs is unpacked, and runs', async (t) => {
  t.timeout(10 * 60_000);
  const reference = `${registry.host}/python:1`;
  const unwanted = ['--transports', 'smb,https'];
  const tooSmall = ['--cache-size', SMALL_CACHE];
  for (const options of [unwanted, tooSmall]) {
    const other = await SnapshotterHost.start(options);
    try {
      await other.pull(reference);
      t.not((await downloaded(other, reference)).length, 0);
      t.is(await runOnce(other, reference, SUM), '6\n');
      t.deepEqual(await mountsBelow(other.root), []);
    } finally {
      await other.stop();
    }
  }
});

test.serial('an image that was pulled starts while its registry is away', async (t) => {
  t.timeout(5 * 60_000);
  const other = await SnapshotterHost.start();
  try {
    const reference = `${registry.host}/python:1`;
    await other.pull(reference);
    await registry.stop();
    t.is(await runOnce(other, reference, SUM), '6\n');
    await mountsOf(t, other, 'python');
  } finally {
    await other.stop();
  }
});
