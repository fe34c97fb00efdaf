/** Images whose blobs can only be read from their beginning, mounted: docker-registry, a bad network, a share that comes back. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { Store } from '../../src/image/store.js';
import { type Mount, mountImage } from '../../src/mount/mount.js';
import { openImageInput } from '../../src/oci/image-input.js';
import { parseReference } from '../../src/oci/reference.js';
import { RegistryClient } from '../../src/oci/registry-client.js';
import { BlobSource } from '../../src/source/blob-source.js';
import { openSource } from '../../src/source/open-source.js';
import { loadImage } from '../../src/source/remote-image.js';
import type { Source } from '../../src/source/source.js';
import { run } from './command.js';
import { DockerRegistry } from './docker-registry.js';
import { FaultProxy } from './fault-proxy.js';
import { type TestImageName, testImage } from './images.js';
import { Samba } from './samba.js';

/** The image in a registry behind a proxy and in a store, of which no checkpoints are used. */
async function published(t: ExecutionContext, name: TestImageName) {
  const work = mkdtempSync(join(tmpdir(), 'orca-blob-stream-'));
  t.teardown(() => rmSync(work, { recursive: true }));
  const { directory, tag } = await testImage(name);
  const registry = await DockerRegistry.start();
  t.teardown(() => registry.stop());
  const pushed = `docker://127.0.0.1:${registry.port}/${name}:1`;
  const copy = ['copy', '-q', '--preserve-digests', '--dest-tls-verify=false'];
  await run('skopeo', [...copy, `oci:${directory}:${tag}`, pushed]);
  const store = join(work, 'store');
  const input = await openImageInput(`oci:${directory}:${tag}`);
  await (await Store.open(store, { create: true })).expand(input, { name });
  await input.close();
  const proxy = await FaultProxy.start(registry.port, 1);
  t.teardown(() => proxy.stop());
  const client = new RegistryClient({ credentials: async () => undefined });
  t.teardown(() => client.close());
  const file = await openSource(store);
  const cache = await BlockCache.open(join(work, 'cache'), { limit: 2 ** 30 });
  t.teardown(() => cache.close());
  const image = await loadImage(file, name, cache.directory);
  const layers = (image.blobs ?? []).map((layer) => ({ ...layer, checkpoints: undefined }));
  // Recipes are read from the store, as from the artifact in a registry.
  for (const { recipe } of layers)
    if (recipe) await cache.blobs.write(recipe.digest, await recipeOf(file, recipe));
  const repository = client.repository(parseReference(`127.0.0.1:${proxy.port}/${name}:1`));
  const blobs = new BlobSource({ repository, layers, cacheDir: cache.directory });
  t.teardown(() => blobs.close());
  const size = layers.reduce((sum, { blob }) => sum + blob.size, 0);
  return { work, store, file, proxy, cache, image, blobs, size };
}

const recipeOf = (store: Source, { digest, size }: { digest: string; size: number }) =>
  store.readFile(`images/blobs/sha256/${digest.slice('sha256:'.length)}`, size);

type Published = Awaited<ReturnType<typeof published>>;

async function mounted(
  t: ExecutionContext,
  { work, image }: Published,
  sources: Source[],
  cache: BlockCache,
): Promise<Mount> {
  const mountpoint = mkdtempSync(join(work, 'mnt-'));
  const mount = await mountImage({ image, sources, cache, mountpoint });
  t.teardown(() => mount.unmount());
  return mount;
}

/** Of all regular files, by name. */
const sums = (root: string) =>
  run('sh', ['-c', 'cd "$1" && find . -xdev -type f -print0 | sort -z | xargs -0 sha256sum', 'sh', root]);

/** What a mount of the store itself shows. */
async function expected(t: ExecutionContext, at: Published): Promise<string> {
  mkdirSync(join(at.work, 'cache-of-store'));
  const cache = await BlockCache.open(join(at.work, 'cache-of-store'), { limit: 2 ** 30 });
  return sums((await mounted(t, at, [at.file], cache)).mountpoint);
}

for (const name of ['node', 'python'] as const) {
  test(`${name}: layers without checkpoints come as streams, through connections that are cut`, async (t) => {
    const at = await published(t, name);
    const { mountpoint } = await mounted(t, at, [at.blobs], at.cache);
    let cuts = 0;
    const cutting = (async () => {
      for (const share of [0.2, 0.5, 0.8]) {
        while (at.proxy.bytes < share * at.size) await sleep(5);
        at.proxy.sever();
        cuts += 1;
      }
    })();
    const found = await sums(mountpoint);
    await cutting;
    t.is(cuts, 3);
    t.is(found, await expected(t, at));
    t.is(at.cache.scheduler.stats.blocksFailed, 0);
    t.is(at.cache.scheduler.stats.blocksCorrupt, 0);
    t.is(at.cache.scheduler.stats.bytesFetched, at.cache.scheduler.meter.of('blob').bytes);
    // Where a connection is cut the stream goes on; what was on its way is all that comes twice.
    t.true(at.proxy.bytes < 1.3 * at.size, `${at.proxy.bytes} of ${at.size}`);
  });
}

test('a cache that a stream has half filled is filled by the share when it is back', async (t) => {
  const at = await published(t, 'python');
  const samba = await Samba.start({ shares: { store: { path: at.store } } });
  t.teardown(() => samba.stop());
  const link = await FaultProxy.start(samba.port, 2);
  t.teardown(() => link.stop());
  link.refuse();
  const env = { ORCA_SMB_USER: samba.username, ORCA_SMB_PASSWORD: samba.password };
  const share = await openSource(samba.url('store').replace(`:${samba.port}/`, `:${link.port}/`), { env });
  t.teardown(() => share.close());
  const { mountpoint } = await mounted(t, at, [share, at.blobs], at.cache);
  const reading = sums(mountpoint);
  const { meter } = at.cache.scheduler;
  while (meter.of('blob').bytes < 4 << 20) await sleep(5);
  link.accept();
  t.is(await reading, await expected(t, at));
  t.true(meter.of('smb').bytes > 0);
  t.is(at.cache.scheduler.stats.blocksFailed, 0);
  t.true(at.proxy.bytes < at.size, `${at.proxy.bytes} of ${at.size}`);
});
