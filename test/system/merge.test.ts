/**
 * The merge and the mount against the kernel: overlayfs over the loop-mounted layer VHDs, the kernel's EROFS mount of
 * the image index, and our FUSE mount of it show the same tree. As root.
 */
import { linkSync, mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { layerPath } from '../../src/image/catalog.js';
import { buildImageIndex, type LayerFile } from '../../src/image/image-index.js';
import { type ExpandedLayer, expandLayer } from '../../src/layer/expand.js';
import { mountImage } from '../../src/mount/mount.js';
import { openImageInput } from '../../src/oci/image-input.js';
import { FileSource } from '../../src/source/file-source.js';
import { Random } from '../image/random.js';
import { archive } from '../tar/archive.js';
import { run } from './command.js';
import { testImage } from './images.js';
import { KernelMounts } from './kernel-mounts.js';
import { randomLayer } from './random-layers.js';
import { differences, type Tree, walkTree } from './tree-compare.js';

async function* once(bytes: Uint8Array) {
  yield bytes;
}

type ExpandedFile = ExpandedLayer & { path: string };

/** What our own mount of an image index shows, its cache empty at first. */
async function walkOwnMount(dir: string, indexPath: string, devices: readonly ExpandedFile[]): Promise<Tree> {
  const store = join(dir, 'store');
  for (const { diffID, path } of devices) {
    mkdirSync(dirname(join(store, layerPath(diffID))), { recursive: true });
    linkSync(path, join(store, layerPath(diffID)));
  }
  const mountpoint = join(dir, 'own');
  mkdirSync(mountpoint);
  const source = new FileSource(store);
  const cache = await BlockCache.open(join(dir, 'cache'));
  const diffIDs = devices.map(({ diffID }) => diffID);
  const platform = { os: 'linux', architecture: 'amd64' };
  const mount = await mountImage({
    image: {
      manifestDigest: `sha256:${'0'.repeat(64)}`,
      name: 'merge',
      config: { platform, process: { env: [], volumes: [], exposedPorts: [], labels: {} }, diffIDs },
      indexPath,
      devices: devices.map(({ diffID, size, digests }) => ({ diffID, size, digests })),
    },
    sources: [source],
    cache,
    mountpoint,
  });
  try {
    return await walkTree(mountpoint);
  } finally {
    await mount.unmount();
    cache.close();
    await source.close();
    rmdirSync(mountpoint);
  }
}

/** Expands the layers, mounts them all three ways, and returns the number of names compared. */
async function compareWithKernel(
  t: ExecutionContext,
  blobs: readonly AsyncIterable<Uint8Array>[],
  label: string,
): Promise<number> {
  const mounts = new KernelMounts();
  try {
    const layers: LayerFile[] = [];
    const expanded = new Map<string, ExpandedFile>();
    for (const [i, blob] of blobs.entries()) {
      const path = join(mounts.dir, `${i}.vhd`);
      const layer = await expandLayer(blob, { output: path });
      layers.push({ path, diffID: layer.diffID });
      expanded.set(layer.diffID, { ...layer, path });
      await run('fsck.erofs', [path]);
    }
    const index = join(mounts.dir, 'index.erofs');
    const built = buildImageIndex(layers);
    writeFileSync(index, Buffer.concat(built.pieces));
    await run('fsck.erofs', [...layers.flatMap(({ path }) => ['--device', path]), index]).catch(
      () => undefined,
    );

    const directories: string[] = [];
    for (const { path } of layers) directories.push(await mounts.layer(path));
    const overlay = await walkTree(mounts.overlay(directories), { ignoreGhosts: true });
    const devices = built.devices.map(
      ({ diffID }) => layers.find((layer) => layer.diffID === diffID)?.path ?? '',
    );
    const erofs = await walkTree(mounts.imageIndex(index, devices));
    t.deepEqual(differences(overlay, erofs), [], label);
    const own = await walkOwnMount(
      mounts.dir,
      index,
      built.devices.map(({ diffID }) => expanded.get(diffID) as ExpandedFile),
    );
    t.deepEqual(differences(erofs, own), [], `${label}, our mount`);
    return erofs.size;
  } finally {
    mounts.close();
  }
}

for (let seed = 1; seed <= 12; seed++) {
  test.serial(`random layers of seed ${seed} are merged as overlayfs does it`, async (t) => {
    const random = new Random(seed);
    const tars = Array.from({ length: 2 + random.below(5) }, () => randomLayer(random));
    t.true((await compareWithKernel(t, tars.map(once), `seed ${seed}`)) > 1);
  });
}

test.serial('directories of 5,000 entries are merged as overlayfs does it', async (t) => {
  const random = new Random(5000);
  const tars = [
    randomLayer(random, { crowd: 5000 }),
    randomLayer(random),
    randomLayer(random, { crowd: 5000 }),
  ];
  t.true((await compareWithKernel(t, tars.map(once), 'seed 5000')) > 5000);
});

test.serial('34 layers are merged as overlayfs does it', async (t) => {
  const random = new Random(34);
  const tars = Array.from({ length: 34 }, () => randomLayer(random));
  t.true((await compareWithKernel(t, tars.map(once), 'seed 34')) > 1);
});

for (const name of ['python', 'nginx'] as const) {
  test.serial(`the layers of ${name} are merged as overlayfs does it`, async (t) => {
    const input = await openImageInput(`oci:${(await testImage(name)).directory}`);
    const blobs = input.layers.map((layer) => layer.open());
    t.true((await compareWithKernel(t, blobs, name)) > 1000);
  });
}

test.serial('an image of one layer is that layer', async (t) => {
  const tar = randomLayer(new Random(1));
  t.true((await compareWithKernel(t, [once(archive()), once(tar)], 'one layer')) > 1);
});
