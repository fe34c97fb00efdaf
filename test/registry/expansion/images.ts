/** Images of real layers, pushed into a test registry, and waiting for what becomes of them. */
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { digestOf } from '../../../src/oci/digest.js';
import { MEDIA_TYPE } from '../../../src/oci/manifest.js';
import type { Expansion, ImageExpansion } from '../../../src/registry/expansion/expansion.js';
import type { Registry } from '../../../src/registry/registry.js';
import { tarOf } from '../../oci/tar-file.js';
import type { TestRegistry } from '../server-fixture.js';

const WAIT_MS = 120_000;

/** Where a blob or a manifest is pushed to. */
export type Pusher = Pick<TestRegistry, 'pushBlob' | 'pushManifest'>;

export interface TestLayer {
  blob: Uint8Array;
  diffID: string;
}

/** A gzip layer with one file of this name and content. */
export function layerOf(name: string, content: string | Uint8Array = name): TestLayer {
  const tar = tarOf([{ name, content }]);
  return { blob: gzipSync(tar), diffID: digestOf(tar) };
}

export interface PushOptions {
  /** More fields of the manifest. */
  fields?: Record<string, unknown>;
  layerType?: string;
  /** A layer that is not pushed. */
  withheld?: TestLayer;
  /** Default linux/amd64. */
  platform?: { os?: string; architecture?: string };
}

/** Gives the digest of the manifest. */
export async function pushImage(
  registry: Pusher,
  repository: string,
  reference: string,
  layers: readonly TestLayer[],
  { fields = {}, layerType = MEDIA_TYPE.layerGzip, withheld, platform }: PushOptions = {},
): Promise<string> {
  const config = Buffer.from(
    JSON.stringify({
      os: 'linux',
      architecture: 'amd64',
      ...platform,
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffID }) => diffID) },
    }),
  );
  for (const layer of layers) if (layer !== withheld) await registry.pushBlob(repository, layer.blob);
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.manifest,
      config: {
        mediaType: MEDIA_TYPE.config,
        digest: await registry.pushBlob(repository, config),
        size: config.length,
      },
      layers: layers.map(({ blob }) => ({ mediaType: layerType, digest: digestOf(blob), size: blob.length })),
      ...fields,
    }),
  );
  const digest = digestOf(manifest);
  const answer = await registry.pushManifest(repository, reference === '' ? digest : reference, manifest);
  if (answer.status !== 201) throw new Error(`push of a manifest: ${answer.status} ${answer.body}`);
  return digest;
}

export function expansionOf({ context }: Registry): Expansion {
  if (context.expansion === undefined) throw new Error('the registry expands nothing');
  return context.expansion;
}

/** Waits until the image is expanded or has failed. */
export async function settled(
  expansion: Pick<Expansion, 'status'>,
  repository: string,
  digest: string,
): Promise<ImageExpansion> {
  const end = Date.now() + WAIT_MS;
  for (;;) {
    const status = await expansion.status(repository, digest);
    if (status?.state === 'expanded' || status?.state === 'failed') return status;
    if (Date.now() > end) throw new Error(`${repository}@${digest}: ${JSON.stringify(status)}`);
    await sleep(20);
  }
}

export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + WAIT_MS;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error('it does not come about');
    await sleep(20);
  }
}
