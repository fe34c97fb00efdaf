/** containerd with `orca snapshotter` and a registry that has expanded the image: nothing is pulled. Needs root. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { chainIDs } from '../../src/snapshotter/remote-labels.js';
import { orca } from '../cli/orca.js';
import { run } from './command.js';
import { ContainerdProcess } from './containerd-process.js';
import { testImage } from './images.js';
import { RegistryProcess } from './registry-process.js';

/** runc keeps the containers of every containerd of a host in one place. */
const container = (name: string) => `orca-${process.pid}-${name}`;

let scratch: string;
let host: ContainerdProcess;
let registry: RegistryProcess;

test.before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'orca-snapshotter-'));
  registry = await RegistryProcess.start();
  host = await ContainerdProcess.start(['--insecure-registry', registry.host]);
});
test.after.always(async () => {
  await host?.stop();
  await registry?.stop();
  await rm(scratch, { recursive: true, force: true });
});

const snapshots = (...args: string[]) => host.ctr('snapshots', '--snapshotter', 'orca', ...args);

async function push(
  name: 'python' | 'node',
): Promise<{ reference: string; layers: string[]; diffIDs: string[] }> {
  const { directory, tag } = await testImage(name);
  const reference = `${registry.host}/${name}:1`;
  const options = ['--preserve-digests', '--dest-tls-verify=false'];
  await run('skopeo', ['copy', ...options, `oci:${directory}:${tag}`, `docker://${reference}`]);
  const expanded = await orca(['registry', 'expand', `${name}:1`, '--registry', registry.url, '--wait']);
  if (expanded.code !== 0) throw new Error(expanded.stderr);
  const inspect = async (...args: string[]) =>
    JSON.parse(await run('skopeo', ['inspect', '--tls-verify=false', ...args, `docker://${reference}`]));
  const { Layers: layers } = (await inspect()) as { Layers: string[] };
  const { rootfs } = (await inspect('--config')) as { rootfs: { diff_ids: string[] } };
  return { reference, layers, diffIDs: rootfs.diff_ids };
}

async function pull(reference: string): Promise<void> {
  const options = ['images', 'rpull', '--plain-http', '--snapshotter', 'orca'];
  await run('ctr-remote', ['--address', host.socket, ...options, reference]);
}

async function runPython(reference: string, id: string): Promise<string> {
  const code = 'import numpy; print(numpy.arange(5).sum())';
  return (
    await host.ctr('run', '--rm', '--snapshotter', 'orca', reference, id, 'python3', '-c', code)
  ).trim();
}

test.serial('an image that its registry has expanded is mounted, not pulled', async (t) => {
  const { reference, layers, diffIDs } = await push('python');
  await pull(reference);
  const content = await host.ctr('content', 'list', '--quiet');
  t.deepEqual(
    layers.filter((digest) => content.includes(digest)),
    [],
    'layers that containerd has downloaded',
  );
  t.is(await runPython(reference, container('remote')), '10');
  const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n');
  t.is(mounts.filter((line) => line.includes(host.root) && line.includes('fuse')).length, 1);

  // A container that stands on the lowest layer alone.
  const at = join(scratch, 'prefix');
  await mkdir(at);
  await snapshots('prepare', 'partial', chainIDs(diffIDs)[0]!);
  await run('sh', ['-c', await snapshots('mounts', at, 'partial')]);
  try {
    t.true((await readdir(at)).includes('etc'));
    t.false(existsSync(join(at, 'app')));
  } finally {
    await run('umount', [at]);
  }
  await snapshots('remove', 'partial');
});

test.serial('a container runs on while containerd, the snapshotter and the daemon are killed', async (t) => {
  const reference = `${registry.host}/python:1`;
  const script = `
import sys, time
print("started", flush=True)
time.sleep(6)
import numpy
print(numpy.arange(6).sum())`;
  const running = host.ctr(
    'run',
    '--rm',
    '--snapshotter',
    'orca',
    reference,
    container('long'),
    'python3',
    '-c',
    script,
  );
  await sleep(2000);
  await host.stopSnapshotter('SIGKILL');
  const stat = await orca(['stat', '--json', ...host.hostOptions]);
  const { daemon } = JSON.parse(stat.stdout) as { daemon: { pid: number } };
  process.kill(daemon.pid, 'SIGKILL');
  t.is((await running).trim(), 'started\n15');
  await host.startSnapshotter();
  await host.stopContainerd();
  await host.startContainerd();
  t.is(await runPython(reference, container('again')), '10');
});

test.serial('a removed image leaves neither snapshot nor mount', async (t) => {
  await host.ctr('images', 'remove', '--sync', `${registry.host}/python:1`);
  t.deepEqual(await readdir(join(host.root, 'snapshots')), []);
  t.false((await readFile('/proc/self/mounts', 'utf8')).includes(`${host.root}/snapshots`));
});
