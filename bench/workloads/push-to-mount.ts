/**
 * From `skopeo copy` into a registry to the first successful mount on a host with an empty cache, and what of that is
 * the push, the queue, the expansion and the mount itself. The image is that of PostgreSQL, about 300 MB expanded.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseReference } from '../../src/oci/reference.js';
import { RegistryClient } from '../../src/oci/registry-client.js';
import { expansionOf } from '../../test/registry/expansion/images.js';
import { TestRegistry } from '../../test/registry/server-fixture.js';
import { run } from '../../test/system/command.js';
import { freePort } from '../../test/system/free-port.js';
import { testImage } from '../../test/system/images.js';
import { orca } from '../../test/system/orca-command.js';
import { ShareServer } from '../../test/system/share-server.js';
import { median } from '../measure.js';
import type { Workload } from '../workload.js';

interface Times {
  push: number;
  queue: number;
  expansion: number;
  /** From the first byte of the push on. */
  total: number;
  /** Of a mount with everything expanded. */
  mount: number;
  bytes: number;
}

export const workload: Workload = {
  figures: {
    push_to_mount_s: { meaning: 'from the begin of the push until the image is mounted' },
    push_to_mount_push_s: { meaning: 'the push alone' },
    push_to_mount_queue_s: { meaning: 'from the end of the push until the expansion has begun' },
    push_to_mount_expansion_s: { meaning: 'from the begin of the expansion until it is done' },
    push_to_mount_mount_s: { meaning: 'a mount, with orca mount, of what is expanded' },
  },
  async run({ work, repetitions, note }) {
    const rounds: Times[] = [];
    for (let i = 0; i < Math.min(repetitions, 3); i++) rounds.push(await round(join(work, String(i))));
    const middle = (name: keyof Times) => median(rounds.map((times) => times[name]));
    note(`${(middle('bytes') / 1e6).toFixed(0)} MB expanded`);
    return {
      push_to_mount_s: middle('total'),
      push_to_mount_push_s: middle('push'),
      push_to_mount_queue_s: middle('queue'),
      push_to_mount_expansion_s: middle('expansion'),
      push_to_mount_mount_s: middle('mount'),
    };
  },
};

async function round(work: string): Promise<Times> {
  const { directory, tag } = await testImage('postgres');
  const port = await freePort();
  const registry = await TestRegistry.start({
    expansion: {},
    share: { url: `smb://127.0.0.1:${port}/orca-` },
  });
  const shares = await ShareServer.start(registry.data, port);
  const client = new RegistryClient();
  try {
    const name = `${registry.host}/postgres:1`;
    const target = `docker://${name}`;
    const began = performance.now();
    await run('skopeo', ['copy', '--dest-tls-verify=false', `oci:${directory}:${tag}`, target]);
    const pushed = performance.now();
    const watched = watch(registry, (await client.repository(parseReference(name)).resolve('1')).digest);
    const mounted = mount(work, 'waiting', name);
    const { begun, done, bytes } = await watched;
    const total = (await mounted) - began;
    const before = performance.now();
    const again = (await mount(work, 'expanded', name)) - before;
    return {
      push: (pushed - began) / 1000,
      queue: Math.max(0, begun - pushed) / 1000,
      expansion: (done - begun) / 1000,
      total: total / 1000,
      mount: again / 1000,
      bytes,
    };
  } finally {
    await client.close();
    await shares.stop();
    await registry.stop();
  }
}

/** When the expansion has begun and was done, as `performance.now()` tells. */
async function watch(registry: TestRegistry, digest: string) {
  let begun: number | undefined;
  for (;;) {
    const status = await expansionOf(registry.registry).status('postgres', digest);
    const now = performance.now();
    if (status?.layers.some((layer) => layer.status !== 'queued')) begun ??= now;
    if (status?.state === 'failed') throw new Error(`expansion failed: ${status.reason}`);
    if (status?.state === 'expanded') {
      const bytes = status.layers.reduce((sum, layer) => sum + (layer.bytes ?? 0), 0);
      return { begun: begun ?? now, done: now, bytes };
    }
    await sleep(5);
  }
}

/** Mounts with a cache of its own, and unmounts; returns when the mount answered, as `performance.now()` tells. */
async function mount(work: string, host: string, name: string): Promise<number> {
  const at = join(work, host);
  const point = join(at, 'mnt');
  await mkdir(point, { recursive: true });
  const env = { ORCA_CACHE: join(at, 'cache'), ORCA_RUN_DIR: join(at, 'run'), ORCA_CONFIG: '/dev/null' };
  const { code, stderr } = await orca(['mount', '--transports', 'smb,https', name, point], env);
  if (code !== 0) throw new Error(`orca mount failed: ${stderr}`);
  const answered = performance.now();
  await orca(['umount', point], env);
  return answered;
}
