/** The expansion in a registry that is killed, on a disk that is full, and by command. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { blockDigestsPath, layerPath } from '../../src/image/catalog.js';
import { Store } from '../../src/image/store.js';
import { BlockDigests } from '../../src/layer/block-digests.js';
import { digestOf } from '../../src/oci/digest.js';
import type { ImageExpansion } from '../../src/registry/expansion/expansion.js';
import { createRegistry } from '../../src/registry/registry.js';
import { openSource } from '../../src/source/open-source.js';
import { loadImage } from '../../src/source/remote-image.js';
import { orca } from '../cli/orca.js';
import { Random } from '../image/random.js';
import {
  expansionOf,
  layerOf,
  type Pusher,
  pushImage,
  settled,
  until,
} from '../registry/expansion/images.js';
import { RegistryProcess } from './registry-process.js';

const IMAGES = 8;
const KILLS = 5;

/** Pushes as clients do that try again. */
function pusherOf(url: () => string): Pusher {
  const send = async (method: string, path: string, body: Uint8Array | string, type: string) => {
    const answer = await fetch(new URL(path, url()), { method, body, headers: { 'content-type': type } });
    return { status: answer.status, headers: {}, body: Buffer.from(await answer.arrayBuffer()) };
  };
  return {
    pushBlob: async (repository, bytes) => {
      const digest = digestOf(bytes);
      const path = `/v2/${repository}/blobs/uploads/?digest=${digest}`;
      const { status } = await send('POST', path, bytes, 'application/octet-stream');
      if (status !== 201) throw new Error(`push of a blob: ${status}`);
      return digest;
    },
    pushManifest: (repository, reference, bytes, type = 'application/vnd.oci.image.manifest.v1+json') =>
      send('PUT', `/v2/${repository}/manifests/${reference}`, bytes, type),
  };
}

function statusBy(url: () => string) {
  return {
    status: async (repository: string, digest: string) => {
      const answer = await fetch(new URL(`/orca/v1/${repository}/_expansion/${digest}`, url()));
      return answer.status === 200 ? ((await answer.json()) as ImageExpansion) : undefined;
    },
  };
}

/** Every block of every layer of a store. */
function verifyLayers(store: string): number {
  let verified = 0;
  for (const name of readdirSync(join(store, 'layers/sha256')).filter((file) => file.endsWith('.vhd'))) {
    const diffID = `sha256:${name.slice(0, 64)}`;
    const digests = BlockDigests.decode(readFileSync(join(store, blockDigestsPath(diffID))));
    const vhd = readFileSync(join(store, layerPath(diffID)));
    for (let i = 0; i < digests.count; i++) {
      const start = i * digests.blockSize;
      if (!digests.verify(i, vhd.subarray(start, start + digests.length(i))))
        throw new Error(`${diffID}: block ${i} is not what its digest says`);
    }
    verified++;
  }
  return verified;
}

test('a registry that is killed again and again has expanded everything in the end, once', async (t) => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 2 ** 32);
  t.log(`seed ${seed}`);
  const random = new Random(seed);
  const registry = await RegistryProcess.start(['--workers', '2']);
  const url = () => `http://${registry.host}`;
  try {
    const shared = layerOf('shared', random.bytes(2_000_000));
    const images = Array.from({ length: IMAGES }, (_, i) => ({
      repository: `team/app${i % 3}`,
      tag: `v${i}`,
      layers: [shared, layerOf(`own-${i}`, random.bytes(500_000))],
    }));
    const pushing = Promise.all(
      images.map(async ({ repository, tag, layers }) => {
        for (;;) {
          try {
            return await pushImage(pusherOf(url), repository, tag, layers);
          } catch {
            await sleep(50);
          }
        }
      }),
    );
    for (let i = 0; i < KILLS; i++) {
      await sleep(300 + random.below(1200));
      await registry.kill();
      await registry.launch();
    }
    const digests = await pushing;
    for (const [i, { repository }] of images.entries())
      t.is((await settled(statusBy(url), repository, digests[i] ?? '')).state, 'expanded');
    await until(() =>
      readdirSync(join(registry.data, 'queue/pending')).every(
        (name) => readdirSync(join(registry.data, 'queue/pending', name)).length === 0,
      ),
    );
    t.is(verifyLayers(join(registry.data, 'store')), IMAGES + 1);
    t.is(statSync(join(registry.data, 'store', layerPath(shared.diffID))).nlink, 1 + 3);
    for (const [i, { repository, tag, layers }] of images.entries()) {
      const share = join(registry.data, 'shares', repository.replace('/', '+'));
      const source = await openSource(share);
      const image = await loadImage(source, `${repository}:${tag}`, join(registry.directory, `cache-${i}`));
      t.is(image.manifestDigest, digests[i] ?? '');
      t.deepEqual(
        image.devices.map(({ diffID }) => diffID),
        layers.map(({ diffID }) => diffID),
      );
      await source.close();
    }
    // Nothing half-made is left, but what the next cleaning would take.
    await registry.end('SIGTERM');
    const store = await Store.open(join(registry.data, 'store'));
    await store.removeLitter();
    t.deepEqual(readdirSync(store.path('tmp')), []);
  } finally {
    await registry.stop();
  }
});

test('images that were pushed before are expanded by command', async (t) => {
  const registry = await RegistryProcess.start(['--teleport-default', 'off']);
  const url = () => `http://${registry.host}`;
  try {
    const good = await pushImage(pusherOf(url), 'team/app', 'good', [layerOf('good')]);
    const junk = Buffer.from('junk'.repeat(500));
    const bad = await pushImage(pusherOf(url), 'team/app', 'bad', [{ blob: junk, diffID: digestOf(junk) }]);
    const expand = (...args: string[]) => orca(['registry', 'expand', '--registry', url(), ...args]);
    const one = await expand('team/app:good', '--wait');
    t.deepEqual([one.code, one.stdout], [0, `${good} good\n`], one.stderr);
    const all = await expand('team/app', '--wait');
    t.is(all.code, 1);
    t.regex(all.stderr, new RegExp(`${bad}: .*(tar|header)`));
    t.deepEqual(all.stdout.trim().split('\n').sort(), [`${bad} bad`, `${good} good`].sort());
    for (const target of ['team/app:none', 'team/none', 'Team/App', 'team/app@sha256:1'])
      t.is((await expand(target)).code, 1, target);
  } finally {
    await registry.stop();
  }
});

test('on a full disk an expansion waits until there is room', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'orca-full-'));
  const data = join(directory, 'data');
  execFileSync('mkdir', [data]);
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', data]);
  try {
    const registry = await createRegistry({ data, expansion: { workers: 1 } });
    try {
      const url = await registry.listen();
      const pusher = pusherOf(() => url);
      const large = layerOf('large', Buffer.alloc(20_000_000, 'x'));
      const digest = await pushImage(pusher, 'app', 'large', [large]);
      const expansion = expansionOf(registry);
      await until(async () => {
        const status = await expansion.status('app', digest);
        return status?.layers.some(({ reason }) => reason?.includes('disk is full')) ?? false;
      });
      t.is((await expansion.status('app', digest))?.state === 'failed', false);
      // Pushes go on, and small layers are expanded.
      const small = await pushImage(pusher, 'app', 'small', [layerOf('small')]);
      t.is((await settled(expansion, 'app', small)).state, 'expanded');
      execFileSync('mount', ['-o', 'remount,size=64m', data]);
      await expansion.enqueueRepository('app', 'large');
      t.is((await settled(expansion, 'app', digest)).state, 'expanded');
    } finally {
      await registry.close(0);
    }
  } finally {
    execFileSync('umount', [data]);
    rmSync(directory, { recursive: true });
  }
});
