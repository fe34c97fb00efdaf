/**
 * Starting from ordinary compressed blobs: what a start fetches where the registry has expanded the image but its share
 * is not used; and the first `orca run` of an image that nobody has expanded, beside pulling, unpacking and running it.
 */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { packageFile } from '../../src/installation.js';
import { parseReference } from '../../src/oci/reference.js';
import { RegistryClient } from '../../src/oci/registry-client.js';
import { expansionOf } from '../../test/registry/expansion/images.js';
import { TestRegistry } from '../../test/registry/server-fixture.js';
import { run } from '../../test/system/command.js';
import { ContainerdProcess } from '../../test/system/containerd-process.js';
import { CountingProxy } from '../../test/system/counting-proxy.js';
import { DockerRegistry } from '../../test/system/docker-registry.js';
import { freePort } from '../../test/system/free-port.js';
import { type TestImage, testImage } from '../../test/system/images.js';
import { ShareServer } from '../../test/system/share-server.js';
import { overlayOver, pythonProcess, timeContainer, writeBundle } from '../bundle.js';
import { LINKS, Link } from '../link/link.js';
import { dropCaches, interleaved, seconds } from '../measure.js';
import { mountedImage } from '../mounted-image.js';
import type { Figures, Workload, WorkloadContext } from '../workload.js';

/** Loopback, and one that hosts of a region have. */
const PLACES = { '': undefined, _region: LINKS.region };
/** No module but numpy and what it needs. */
const IMPORT = { ...pythonProcess, args: ['python3', '-c', 'import numpy; print("done")'] };

export const workload: Workload = {
  figures: {
    blob_bytes_vs_share: {
      meaning:
        'bytes of the start by ranges of the gzip blobs ÷ by the share; documents of the image included',
      aim: '≤ 1.5',
    },
    blob_bytes_vs_pull: { meaning: 'the same ÷ bytes of all blobs' },
    ...Object.fromEntries(
      Object.keys(PLACES).flatMap((place) => [
        [
          `unexpanded_start_time_vs_pull${place}`,
          { meaning: 'first orca run ÷ skopeo copy, umoci unpack, runc run', aim: '≤ 0.77' },
        ],
        [
          `unexpanded_start_time_vs_ctr_pull${place}`,
          { meaning: 'first orca run ÷ ctr images pull (overlayfs), ctr run' },
        ],
      ]),
    ),
  },
  async run(context) {
    await run(process.execPath, [packageFile('bundle.js')]);
    const image = await testImage('python');
    return { ...(await wireBytes(context, image)), ...(await startTimes(context, image)) };
  },
};

/** Of a registry that has expanded the image. */
async function wireBytes({ work, note, defer }: WorkloadContext, image: TestImage): Promise<Figures> {
  const port = await freePort();
  const registry = await TestRegistry.start({
    expansion: {},
    share: { url: `smb://127.0.0.1:${port}/orca-` },
  });
  defer(() => registry.stop());
  const shares = await ShareServer.start(registry.data, port);
  defer(() => shares.stop());
  const proxy = await CountingProxy.start(registry.url);
  defer(() => proxy.stop());
  const name = `${registry.host}/python:1`;
  await push(image, name);
  await expanded(registry, name);

  const start = async (transport: 'smb' | 'blob'): Promise<number> => {
    const at = join(work, transport);
    const before = proxy.bytes('/blobs/');
    const orca = await mountedImage({
      image: `${proxy.host}/python:1`,
      transports: [transport],
      cache: join(at, 'cache'),
      mountpoint: join(at, 'mnt'),
      profile: false,
    });
    let merged: string | undefined;
    try {
      merged = await overlayOver(orca.mountpoint, join(at, 'overlay'));
      await writeBundle(join(at, 'bundle'), merged, IMPORT);
      await dropCaches(3);
      await timeContainer(join(at, 'bundle'), 'done\n');
      const shared = transport === 'smb' ? Object.values((await orca.stats()).bytesBySource) : [];
      return proxy.bytes('/blobs/') - before + shared.reduce((sum, bytes) => sum + bytes, 0);
    } finally {
      if (merged !== undefined) await run('umount', [merged]);
      await orca.unmount();
    }
  };
  const [share, blob] = [await start('smb'), await start('blob')];
  const pull = await blobBytes(image);
  const MB = (bytes: number) => (bytes / 1e6).toFixed(1);
  note(`MB: share ${MB(share)}, ranges of blobs ${MB(blob)}, all blobs ${MB(pull)}`);
  return { blob_bytes_vs_share: blob / share, blob_bytes_vs_pull: blob / pull };
}

async function startTimes({ work, note, defer, repetitions }: WorkloadContext, image: TestImage) {
  const registry = await DockerRegistry.start();
  defer(() => registry.stop());
  await push(image, `${registry.host}/python:1`);
  const containerd = new ContainerdProcess(join(work, 'containerd'));
  await mkdir(containerd.directory);
  await containerd.start();
  defer(() => containerd.stop());
  const figures: Figures = {};
  for (const [place, speed] of Object.entries(PLACES)) {
    const link = speed && (await Link.open(work, registry.port, speed));
    const name = `127.0.0.1:${link?.port ?? registry.port}/python:1`;
    try {
      const { median, ratio } = await interleaved(
        {
          orca: () => firstRun(join(work, 'orca'), name, image),
          pull: () => pullAndRun(join(work, 'pull'), name, image),
          ctr: () => ctrRun(containerd, name, image),
        },
        Math.min(repetitions, 5),
      );
      const shown = Object.entries(median).map(([side, time]) => `${side} ${time.toFixed(2)}`);
      note(`s${place}: ${shown.join(', ')}`);
      figures[`unexpanded_start_time_vs_pull${place}`] = ratio('orca', 'pull');
      figures[`unexpanded_start_time_vs_ctr_pull${place}`] = ratio('orca', 'ctr');
    } finally {
      await link?.close();
    }
  }
  return figures;
}

/** With everything that it leaves behind in a directory of its own. */
async function firstRun(at: string, name: string, { check }: TestImage): Promise<number> {
  await rm(at, { recursive: true, force: true });
  await dropCaches(3);
  const env = {
    ...process.env,
    ORCA_CACHE: join(at, 'cache'),
    ORCA_RUN_DIR: join(at, 'run'),
    ORCA_CONFIG: '/dev/null',
  };
  return seconds(async () => {
    const args = [packageFile('dist/bin/orca.js'), 'run', '--no-daemon', '--rm', name];
    expect(await run(process.execPath, args, { env }), check.stdout);
  });
}

async function pullAndRun(at: string, name: string, { check }: TestImage): Promise<number> {
  await rm(at, { recursive: true, force: true });
  await mkdir(at, { recursive: true });
  await dropCaches(3);
  const [layout, unpacked, bundle] = ['oci', 'unpacked', 'bundle'].map((part) => join(at, part)) as [
    string,
    string,
    string,
  ];
  return seconds(async () => {
    await run('skopeo', ['copy', '--src-tls-verify=false', `docker://${name}`, `oci:${layout}:1`]);
    await run('umoci', ['unpack', '--image', `${layout}:1`, unpacked]);
    await writeBundle(bundle, join(unpacked, 'rootfs'), pythonProcess);
    await timeContainer(bundle, check.stdout as string);
  });
}

async function ctrRun(containerd: ContainerdProcess, name: string, { check }: TestImage): Promise<number> {
  await dropCaches(3);
  const time = await seconds(async () => {
    await containerd.ctr('images', 'pull', '--plain-http', '--snapshotter', 'overlayfs', name);
    const args = ['run', '--rm', '--snapshotter', 'overlayfs', name, `bench-${process.pid}-${Date.now()}`];
    expect(await containerd.ctr(...args), check.stdout);
  });
  // With --sync, layers and snapshots are gone when it returns.
  await containerd.ctr('images', 'rm', '--sync', name);
  return time;
}

function expect(stdout: string, expected: string | undefined): void {
  if (stdout !== expected) throw new Error(`the container printed ${JSON.stringify(stdout)}`);
}

function push({ directory, tag }: TestImage, name: string): Promise<string> {
  return run('skopeo', ['copy', '--dest-tls-verify=false', `oci:${directory}:${tag}`, `docker://${name}`]);
}

async function blobBytes({ directory, tag }: TestImage): Promise<number> {
  const raw = await run('skopeo', ['inspect', '--raw', `oci:${directory}:${tag}`]);
  const { layers } = JSON.parse(raw) as { layers: { size: number }[] };
  return layers.reduce((sum, { size }) => sum + size, 0);
}

async function expanded(registry: TestRegistry, name: string): Promise<void> {
  const client = new RegistryClient();
  try {
    const { digest } = await client.repository(parseReference(name)).resolve('1');
    for (;;) {
      const status = await expansionOf(registry.registry).status('python', digest);
      if (status?.state === 'failed') throw new Error(`expansion failed: ${status.reason}`);
      if (status?.state === 'expanded') return;
      await sleep(20);
    }
  } finally {
    await client.close();
  }
}
