/**
 * The CRI plugin of Debian's containerd with `orca snapshotter`, as a kubelet uses it: pods in the host's network, whose
 * images their registry has expanded. Needs root.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { DaemonClient } from '../../src/daemon/client.js';
import { socketOf } from '../../src/daemon/start.js';
import { mountsBelow } from '../cli/orca.js';
import { TestRegistry } from '../registry/server-fixture.js';
import { pauseImage } from './busybox-image.js';
import { run } from './command.js';
import { CriClient, type Pod } from './cri-client.js';
import { freePort } from './free-port.js';
import { type TestImageName, testImage } from './images.js';
import { orca } from './orca-command.js';
import { ShareServer } from './share-server.js';
import { SnapshotterHost } from './snapshotter-host.js';

const NAMES = ['python', 'nginx'] as const;
const SUM = ['python3', '-c', 'import numpy; print(numpy.arange(4).sum())'];

let scratch: string;
let host: SnapshotterHost;
let registry: TestRegistry;
let shares: ShareServer;
let cri: CriClient;
let pod: Pod | undefined;
let container: string;

const referenceOf = (name: TestImageName | 'pause') => `${registry.host}/${name}:1`;

async function push(name: TestImageName | 'pause', layout: string): Promise<void> {
  const options = ['--preserve-digests', '--dest-tls-verify=false'];
  await run('skopeo', ['copy', ...options, `oci:${layout}`, `docker://${referenceOf(name)}`]);
  const expanded = await orca(['registry', 'expand', `${name}:1`, '--registry', registry.url, '--wait']);
  if (expanded.code !== 0) throw new Error(expanded.stderr);
}

test.before(async (t) => {
  t.timeout(20 * 60_000);
  scratch = await mkdtemp(join(tmpdir(), 'orca-cri-'));
  const port = await freePort();
  const share = { url: `smb://127.0.0.1:${port}/orca-` };
  registry = await TestRegistry.start({ expansion: { workers: 2 }, share });
  shares = await ShareServer.start(registry.data, port);
  await push('pause', await pauseImage(scratch));
  for (const name of NAMES) {
    const { directory, tag } = await testImage(name);
    await push(name, `${directory}:${tag}`);
  }
  host = await SnapshotterHost.start(['--insecure-registry', registry.host, '--transports', 'smb'], {
    sandboxImage: referenceOf('pause'),
  });
  cri = new CriClient(host.containerd.socket);
});
test.after.always(async () => {
  if (pod !== undefined) await cri.removePod(pod).catch(() => undefined);
  cri?.close();
  await host?.stop();
  await shares?.stop();
  await registry?.stop();
  await rm(scratch, { recursive: true, force: true });
});

async function pullAll(t: ExecutionContext): Promise<void> {
  await Promise.all([...NAMES, 'pause' as const].map((name) => cri.pull(referenceOf(name))));
  const content = await host.ctr('--namespace', 'k8s.io', 'content', 'list', '--quiet');
  for (const name of NAMES) {
    const image = JSON.parse(
      await run('skopeo', ['inspect', '--tls-verify=false', `docker://${referenceOf(name)}`]),
    ) as { Layers: string[] };
    t.true(image.Layers.length > 1);
    t.deepEqual(
      image.Layers.filter((digest) => content.includes(digest)),
      [],
    );
  }
}

test.serial('images are pulled at once, and none of their layers is downloaded', async (t) => {
  t.timeout(10 * 60_000);
  await pullAll(t);
});

test.serial('a container of a pod runs from the share', async (t) => {
  t.timeout(5 * 60_000);
  pod = await cri.runPod('orca-test', scratch);
  const wait = ['python3', '-c', 'import time; time.sleep(100000)'];
  container = await cri.startContainer(pod, 'python', referenceOf('python'), wait);
  t.is(await cri.exec(container, SUM), '6\n');
});

test.serial(
  'it runs on while containerd, the snapshotter, the daemon and all of them are restarted',
  async (t) => {
    t.timeout(10 * 60_000);
    const daemon = new DaemonClient(socketOf(join(host.directory, 'run')));
    const restart = {
      async containerd() {
        await host.containerd.stop();
        await host.containerd.start();
      },
      async snapshotter() {
        await host.stopSnapshotter('SIGKILL');
        await host.startSnapshotter();
      },
      async daemon() {
        process.kill((await daemon.ping())?.pid ?? 0, 'SIGKILL');
      },
    };
    const modules = ['json', 'decimal', 'email.message', 'xml.dom.minidom'];
    const still = async (index: number) => {
      // Files that nobody has read yet.
      const code = `import ${modules[index]}; print("read")`;
      t.is(await cri.exec(container, ['python3', '-c', code]), 'read\n');
    };
    for (const [index, action] of Object.values(restart).entries()) {
      await action();
      await still(index);
    }
    await Promise.all([restart.daemon(), restart.snapshotter(), restart.containerd()]);
    await still(3);
    t.is(await cri.exec(container, SUM), '6\n');
  },
);

test.serial('its image is removed while it runs, and with the pod all mounts go', async (t) => {
  t.timeout(5 * 60_000);
  // The CRI plugin of containerd 1.6 forgets, when it starts, images whose layers were never downloaded.
  await pullAll(t);
  await cri.removeImage(referenceOf('python'));
  t.is(await cri.exec(container, ['python3', '-c', 'import sqlite3; print("read")']), 'read\n');
  await cri.removePod(pod as Pod);
  pod = undefined;
  for (const name of ['nginx', 'pause'] as const) await cri.removeImage(referenceOf(name));
  // containerd's garbage collection has its own time.
  await host.ctr('--namespace', 'k8s.io', 'content', 'prune', 'references');
  for (let tries = 0; tries < 300 && (await mountsBelow(host.root)).length > 0; tries++)
    await new Promise((resolve) => setTimeout(resolve, 100));
  t.deepEqual(await mountsBelow(host.root), []);
});
