/** Images with tables of contents, made by the tools of stargz-snapshotter, from a registry that knows nothing of them. */
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { mountImage } from '../../src/mount/mount.js';
import { openImage } from '../../src/mount/open-image.js';
import { type Manifest, MEDIA_TYPE } from '../../src/oci/manifest.js';
import type { Logger } from '../../src/telemetry/logger.js';
import { run } from './command.js';
import { ContainerdProcess } from './containerd-process.js';
import { CountingProxy } from './counting-proxy.js';
import { DockerRegistry } from './docker-registry.js';
import { testImage } from './images.js';
import { differences, walkTree } from './tree-compare.js';

interface Context {
  work: string;
  registry: DockerRegistry;
  proxy: CountingProxy;
  manifest: Manifest;
}

const test = anyTest as TestFn<Context>;

/** `nginx:esgz` in a registry: optimized for a run of the image's own command. */
test.before(async (t) => {
  const work = mkdtempSync(join(tmpdir(), 'orca-estargz-'));
  const registry = await DockerRegistry.start();
  const proxy = await CountingProxy.start(`http://${registry.host}`);
  Object.assign(t.context, { work, registry, proxy });
  const { directory, tag } = await testImage('nginx');
  const plain = `${registry.host}/nginx:plain`;
  const optimized = `${registry.host}/nginx:esgz`;
  await run('skopeo', ['copy', '--dest-tls-verify=false', `oci:${directory}:${tag}`, `docker://${plain}`]);
  const containerd = new ContainerdProcess(work);
  await containerd.start();
  try {
    await containerd.pushEstargz(plain, optimized, '--period', '2');
  } finally {
    await containerd.stop();
  }
  t.context.manifest = await manifestOf(registry, 'esgz');
});

test.after.always(async (t) => {
  const { work, registry, proxy } = t.context;
  await proxy?.stop();
  await registry?.stop();
  rmSync(work, { recursive: true, force: true });
});

async function manifestOf(registry: DockerRegistry, tag: string): Promise<Manifest> {
  const headers = { accept: MEDIA_TYPE.manifest };
  const answer = await fetch(`http://${registry.host}/v2/nginx/manifests/${tag}`, { headers });
  return (await answer.json()) as Manifest;
}

/** Puts another manifest of the same layers. */
async function putManifest(registry: DockerRegistry, tag: string, manifest: object): Promise<void> {
  const url = `http://${registry.host}/v2/nginx/manifests/${tag}`;
  const headers = { 'content-type': MEDIA_TYPE.manifest };
  const { status } = await fetch(url, { method: 'PUT', headers, body: JSON.stringify(manifest) });
  if (status !== 201) throw new Error(`the registry answers ${status}`);
}

interface Mounted {
  mountpoint: string;
  served: string;
  warnings: string[];
}

async function mounted<T>(
  t: ExecutionContext<Context>,
  image: string,
  use: (mounted: Mounted) => Promise<T>,
  cacheName = 'cache',
): Promise<T> {
  const { work } = t.context;
  const mountpoint = join(work, `mnt-${createHash('sha256').update(image).digest('hex').slice(0, 8)}`);
  mkdirSync(mountpoint, { recursive: true });
  const warnings: string[] = [];
  const warn = (message: string) => void warnings.push(message);
  const logger = { debug: warn, info: warn, warn, error: warn } as unknown as Logger;
  const cache = await BlockCache.open(join(work, cacheName), { limit: 2 ** 30, logger });
  const opened = await openImage({ image }, cache, undefined, { logger });
  const mount = await mountImage({ ...opened, cache, mountpoint, profiles: 'off' });
  try {
    return await use({ mountpoint, served: opened.served, warnings });
  } finally {
    await mount.unmount();
    await opened.close();
    cache.close();
  }
}

test.serial(
  'an optimized image mounts without its layers, and a read fetches the chunks of that file',
  async (t) => {
    const { proxy, manifest } = t.context;
    const size = manifest.layers.reduce((sum, layer) => sum + layer.size, 0);
    const image = `${proxy.host}/nginx:esgz`;
    await mounted(t, image, async ({ mountpoint, served, warnings }) => {
      t.regex(served, /3 of 3 layers by their tables of contents/);
      t.deepEqual(
        warnings.filter((message) => message.includes('as a whole')),
        [],
      );
      const forMount = proxy.bytes('/blobs/');
      t.true(forMount < size / 50, `${forMount} of ${size} bytes for the mount`);
      const expected = (await run('cat', [join(mountpoint, 'etc/os-release')])).length;
      t.true(expected > 0);
      const perl = await run('sha256sum', [join(mountpoint, 'usr/bin/perl')]);
      const forReads = proxy.bytes('/blobs/') - forMount;
      t.true(forReads < size / 8, `${forReads} of ${size} bytes for the reads`);
      t.log(`blobs ${size}, mount ${forMount}, reads ${forReads} bytes`);
      const { directory, tag } = await testImage('nginx');
      const unpacked = join(t.context.work, 'unpacked');
      await run('umoci', ['unpack', '--image', `${directory}:${tag}`, unpacked]);
      t.is(
        perl.split(' ')[0],
        (await run('sha256sum', [join(unpacked, 'rootfs/usr/bin/perl')])).split(' ')[0],
      );
    });
    // The second time nothing is fetched but manifest and config.
    const before = proxy.bytes('/blobs/');
    await mounted(t, image, async ({ mountpoint }) => {
      await run('sha256sum', [join(mountpoint, 'usr/bin/perl')]);
    });
    t.true(proxy.bytes('/blobs/') - before <= manifest.config.size);
  },
);

test.serial('it has the tree that expanding the same blobs gives', async (t) => {
  const { registry, manifest } = t.context;
  const layers = manifest.layers.map(({ annotations: _, ...layer }) => layer);
  await putManifest(registry, 'unannotated', { ...manifest, layers });
  const lazy = await mounted(t, `${registry.host}/nginx:esgz`, ({ mountpoint }) => walkTree(mountpoint));
  const whole = await mounted(t, `${registry.host}/nginx:unannotated`, ({ mountpoint, served }) => {
    t.notRegex(served, /tables of contents/);
    return walkTree(mountpoint);
  });
  // The table of contents is a file of the tar, and not of the table.
  t.true(whole.delete('stargz.index.json'));
  // And the table has whole seconds.
  for (const entry of whole.values()) {
    entry.mtimeNs = String(((BigInt(entry.mtimeNs) + 500_000_000n) / 1_000_000_000n) * 1_000_000_000n);
  }
  t.deepEqual(differences(lazy, whole), []);
  t.true(lazy.size > 5000);
});

test.serial(
  'a layer whose table of contents is not that of the manifest is expanded, and a warning says so',
  async (t) => {
    const { registry, manifest } = t.context;
    const layers = manifest.layers.map((layer, index) =>
      index === 2
        ? {
            ...layer,
            annotations: { 'containerd.io/snapshot/stargz/toc.digest': `sha256:${'0'.repeat(64)}` },
          }
        : layer,
    );
    await putManifest(registry, 'mismatched', { ...manifest, layers });
    await mounted(
      t,
      `${registry.host}/nginx:mismatched`,
      async ({ mountpoint, served, warnings }) => {
        t.regex(served, /2 of 3 layers by their tables of contents/);
        const told = warnings.filter((message) => message.includes('is downloaded as a whole'));
        t.is(told.length, 1);
        t.regex(told[0] ?? '', /the table of contents has the digest/);
        t.regex(await run('cat', [join(mountpoint, 'entrypoint.sh')]), /nginx/);
      },
      'other-cache',
    );
  },
);
