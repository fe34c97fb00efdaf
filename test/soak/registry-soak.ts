/**
 * Many clients that push and pull images at random while the server is killed, and then the question whether all that
 * it said it has is there. What the clients do follows from the seed; when the kills come, from the machine.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { BlockDigests } from '../../src/layer/block-digests.js';
import { digestOf } from '../../src/oci/digest.js';
import { encodeManifest, MEDIA_TYPE } from '../../src/oci/manifest.js';
import { Random } from '../image/random.js';
import type { RegistryProcess } from '../system/registry-process.js';
import { archive, member } from '../tar/archive.js';
import { SoakClient } from './soak-client.js';

export interface SoakOptions {
  seed: number;
  clients: number;
  images: number;
  /** Layers in all; images share them. */
  layers: number;
  /** Bytes of one layer's files, at most. */
  layerBytes: number;
  /** Milliseconds between two kills: at least, and so many more at random. */
  killEvery: readonly [number, number];
  /** So many; when all has been pushed before the last of them, the clients go on pulling. */
  kills: number;
  /** Go on killing until all images are pushed. */
  killToTheEnd?: boolean;
  log?: (line: string) => void;
}

export interface SoakImage {
  repository: string;
  tag: string;
  digest: string;
  manifest: Uint8Array;
  /** Config first. */
  blobs: { digest: string; bytes: Uint8Array }[];
  diffIDs: string[];
}

export interface SoakReport {
  kills: number;
  pushes: number;
  pulls: number;
  /** Uploads that went on where a kill had left them. */
  resumed: number;
  /** Requests that a kill broke. */
  broken: number;
  seconds: number;
  bytesPushed: number;
  bytesPulled: number;
  /** What is wrong; empty is what is wanted. */
  faults: string[];
}

const REPOSITORIES = 12;

/** Layers are small tars of random files, so that they can be expanded. */
export function soakImages({ seed, images, layers, layerBytes }: SoakOptions): SoakImage[] {
  const random = new Random(seed);
  const pool = Array.from({ length: layers }, (_, i) => {
    const files = Array.from({ length: 1 + random.below(4) }, (_, n) =>
      member({ name: `layer${i}/file${n}` }, random.bytes(1 + random.below(layerBytes >> 2))),
    );
    const tar = archive(member({ name: `layer${i}/`, type: '5', mode: 0o755 }), ...files);
    const bytes = random.oneIn(4) ? tar : gzipSync(tar, { level: 1 });
    const mediaType = bytes === tar ? MEDIA_TYPE.layerTar : MEDIA_TYPE.layerGzip;
    return { bytes, digest: digestOf(bytes), diffID: digestOf(tar), mediaType };
  });
  return Array.from({ length: images }, (_, i) => {
    const chosen = [...new Set(Array.from({ length: 1 + random.below(5) }, () => random.pick(pool)))];
    const config = Buffer.from(
      JSON.stringify({
        os: 'linux',
        architecture: 'amd64',
        config: { Env: [`IMAGE=${i}`] },
        rootfs: { type: 'layers', diff_ids: chosen.map(({ diffID }) => diffID) },
      }),
    );
    const manifest = encodeManifest({
      mediaType: MEDIA_TYPE.manifest,
      config: { mediaType: MEDIA_TYPE.config, digest: digestOf(config), size: config.length },
      layers: chosen.map(({ mediaType, digest, bytes }) => ({ mediaType, digest, size: bytes.length })),
    });
    return {
      repository: `soak/app${random.below(REPOSITORIES)}`,
      tag: `v${i}`,
      digest: digestOf(manifest),
      manifest,
      blobs: [{ digest: digestOf(config), bytes: config }, ...chosen],
      diffIDs: chosen.map(({ diffID }) => diffID),
    };
  });
}

/** Runs the clients against the registry, which is killed meanwhile, and then looks at all that they were promised. */
export async function soak(registry: RegistryProcess, options: SoakOptions): Promise<SoakReport> {
  const { seed, clients, killEvery, log = () => {} } = options;
  const images = soakImages(options);
  const waiting = [...images];
  const pushed: SoakImage[] = [];
  const faults: string[] = [];
  const began = performance.now();
  let stopped = false;
  let kills = 0;
  const workers = Array.from({ length: clients }, (_, i) => {
    const client = new SoakClient(
      () => registry.url,
      new Random(seed + 1 + i),
      () => stopped,
    );
    const work = async () => {
      for (;;) {
        const isPush = waiting.length > 0 && (pushed.length === 0 || !client.random.oneIn(3));
        if (stopped || (waiting.length === 0 && kills >= options.kills)) return;
        if (isPush) {
          const image = waiting.splice(client.random.below(waiting.length), 1)[0]!;
          await client.push(image);
          pushed.push(image);
        } else if (pushed.length > 0) {
          await client.pull(client.random.pick(pushed));
        } else {
          await sleep(10);
        }
      }
    };
    return { client, done: work().catch((error: Error) => void faults.push(error.message)) };
  });
  let finished = false;
  const all = Promise.all(workers.map(({ done }) => done)).then(() => {
    finished = true;
  });
  const random = new Random(seed);
  try {
    const goesOn = () =>
      kills < options.kills || (options.killToTheEnd === true && pushed.length < images.length);
    while (goesOn() && faults.length === 0) {
      await Promise.race([all, sleep(killEvery[0] + random.below(killEvery[1]))]);
      if (finished) break;
      await registry.kill();
      kills++;
      await registry.launch();
      log(`kill ${kills}: ${pushed.length} of ${images.length} images are pushed`);
    }
    stopped = faults.length > 0;
    await all;
  } finally {
    stopped = true;
  }
  const sum = (of: (client: SoakClient) => number) => workers.reduce((n, { client }) => n + of(client), 0);
  faults.push(...workers.flatMap(({ client }) => client.faults));
  const report: SoakReport = {
    kills,
    pushes: pushed.length,
    pulls: sum((client) => client.pulls),
    resumed: sum((client) => client.resumed),
    broken: sum((client) => client.broken),
    seconds: (performance.now() - began) / 1000,
    bytesPushed: sum((client) => client.bytesPushed),
    bytesPulled: sum((client) => client.bytesPulled),
    faults,
  };
  if (pushed.length < images.length)
    faults.push(`only ${pushed.length} of ${images.length} images are pushed`);
  await registry.kill();
  await registry.launch();
  const reader = new SoakClient(
    () => registry.url,
    new Random(seed),
    () => false,
  );
  for (const image of pushed) await reader.pull(image);
  faults.push(...reader.faults, ...(await damagedBlobs(registry.data)));
  return report;
}

/** Files that have the name of a blob and are not that blob. */
export async function damagedBlobs(data: string): Promise<string[]> {
  const root = join(data, 'blobs', 'sha256');
  const damaged: string[] = [];
  for (const prefix of await readdir(root).catch(() => [])) {
    for (const hex of await readdir(join(root, prefix))) {
      if (digestOf(await readFile(join(root, prefix, hex))) !== `sha256:${hex}`)
        damaged.push(`blob ${hex} is damaged`);
    }
  }
  return damaged;
}

/** What is wrong with the layers of a store: those that are missing, and blocks that are not what their digests say. */
export async function damagedLayers(store: string, diffIDs: Iterable<string>): Promise<string[]> {
  const damaged: string[] = [];
  for (const diffID of new Set(diffIDs)) {
    const path = join(store, 'layers', 'sha256', diffID.slice('sha256:'.length));
    try {
      const digests = BlockDigests.decode(await readFile(`${path}.digests`));
      const vhd = await readFile(`${path}.vhd`);
      if (vhd.length !== digests.size || digests.diffID !== diffID)
        damaged.push(`layer ${diffID}: wrong size or id`);
      for (let i = 0; i < digests.count; i++) {
        const block = vhd.subarray(i * digests.blockSize, (i + 1) * digests.blockSize);
        if (!digests.verify(i, block)) damaged.push(`layer ${diffID}: block ${i} is damaged`);
      }
    } catch (error) {
      damaged.push(`layer ${diffID}: ${(error as Error).message}`);
    }
  }
  return damaged;
}
