/** A host with an empty cache, and a registry that knows nothing of teleportation. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { BlockCache } from '../../src/cache/block-cache.js';
import { RegistryClient } from '../../src/oci/registry-client.js';
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
