/** A host with an empty cache, and a registry that knows nothing of teleportation. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { BlockCache } from '../../src/cache/block-cache.js';
import { TOC_ANNOTATION } from '../../src/layer/estargz-toc.js';
import { digestOf } from '../../src/oci/digest.js';
import { encodeManifest, MEDIA_TYPE } from '../../src/oci/manifest.js';
import { RegistryClient } from '../../src/oci/registry-client.js';
import { estargz } from '../layer/estargz.js';
import { FakeRegistry } from '../oci/fake-registry.js';

export interface Host {
  registry: FakeRegistry;
  client: RegistryClient;
  directory: string;
  cache: BlockCache;
}

export async function startHost(): Promise<Host> {
  const directory = await mkdtemp(join(tmpdir(), 'orca-host-'));
  return {
    registry: await FakeRegistry.start(),
    client: new RegistryClient({ credentials: async () => undefined }),
    directory,
    cache: await BlockCache.open(join(directory, 'cache'), { limit: 256 << 20 }),
  };
}

export async function stopHost({ registry, client, cache, directory }: Host): Promise<void> {
  await client.close();
  await registry.stop();
  cache.close();
  await rm(directory, { recursive: true });
}

/** An eStargz image of one layer of these members; gives the digest of its manifest. */
export function addEstargzImage({ registry }: Host, members: readonly Uint8Array[]): string {
  const { blob, tocDigest } = estargz(members, { chunkSize: 300_000 });
  const rootfs = { type: 'layers', diff_ids: [digestOf(gunzipSync(blob))] };
  const config = Buffer.from(JSON.stringify({ os: 'linux', architecture: 'amd64', rootfs }));
  const layer = registry.addBlob(MEDIA_TYPE.layerGzip, blob);
  const bytes = encodeManifest({
    mediaType: MEDIA_TYPE.manifest,
    config: registry.addBlob(MEDIA_TYPE.config, config),
    layers: [{ ...layer, annotations: { [TOC_ANNOTATION]: tocDigest } }],
  });
  return registry.addManifest(MEDIA_TYPE.manifest, bytes).digest;
}
