/**
 * A process that mounts one image from the blobs of a registry alone, and tells of its memory: what `blob-mount.ts`
 * forks. Index, digests and recipes come from a store, as they would from the teleport artifact, or are made here.
 */
import { readFile } from 'node:fs/promises';
import { BlockCache } from '../src/cache/block-cache.js';
import { blobPath } from '../src/image/catalog.js';
import { mountImage } from '../src/mount/mount.js';
import { openUnexpandedImage } from '../src/mount/unexpanded-image.js';
import type { Descriptor } from '../src/oci/manifest.js';
import { parseReference } from '../src/oci/reference.js';
import { RegistryClient } from '../src/oci/registry-client.js';
import { type BlobLayer, BlobSource } from '../src/source/blob-source.js';
import { openSource } from '../src/source/open-source.js';
import { loadImage } from '../src/source/remote-image.js';
import type { BlobMountRequest, BlobMountStats } from './blob-mount.js';

const request = JSON.parse(process.argv[2]!) as BlobMountRequest;
const cache = await BlockCache.open(request.cache);
const client = new RegistryClient({ credentials: async () => undefined });
const repository = client.repository(parseReference(request.reference));
const { image, source } = await (request.store === undefined ? expanded() : fromStore(request.store));
const mount = await mountImage({ image, sources: [source], cache, mountpoint: request.mountpoint });
process.on('message', async (command: 'stats' | 'unmount') => {
  if (command === 'stats') process.send!(await stats());
  else mount.unmount().catch((error: Error) => process.send!({ error: error.message }));
});
void mount.ended.then(async () => {
  await source.close();
  await client.close();
  cache.close();
  process.disconnect();
});
process.send!('mounted');

async function stats(): Promise<BlobMountStats> {
  const status = await readFile('/proc/self/status', 'utf8');
  const peak = Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) / 1024;
  const { user, system } = process.cpuUsage();
  return { bytes: source.bytesFetched, peak, cpu: (user + system) / 1e6, mount: mount.stats() };
}

async function expanded() {
  const manifestDigest = (await repository.resolve(parseReference(request.reference).tag!)).digest;
  const opened = await openUnexpandedImage({ repository, manifestDigest, cache });
  const { image, sources } = opened;
  if (request.how === 'expand') return { image, source: sources[0] as BlobSource };
  return { image, source: sourceOf(image.blobs ?? []) };
}

function sourceOf(blobs: readonly BlobLayer[]): BlobSource {
  const layers = blobs.map((layer) =>
    request.how === 'stream' ? { ...layer, checkpoints: undefined } : layer,
  );
  return new BlobSource({ repository, layers, cacheDir: cache.directory });
}

async function fromStore(url: string) {
  const store = await openSource(url);
  const image = await loadImage(store, request.image, cache.directory);
  const layers = image.blobs ?? [];
  const documents = layers.flatMap(({ recipe, checkpoints }) => [recipe ?? [], checkpoints ?? []].flat());
  for (const document of documents as Descriptor[]) {
    const bytes = await store.readFile(blobPath(document.digest), document.size);
    await cache.blobs.write(document.digest, bytes);
  }
  await store.close();
  return { image, source: sourceOf(layers) };
}
