/**
 * The merge against the kernel: overlayfs over the loop-mounted layer VHDs, and the kernel's EROFS mount of the
 * image index, show the same tree. As root.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { buildImageIndex, type LayerFile } from '../../src/image/image-index.js';
import { expandLayer } from '../../src/layer/expand.js';
import { openImageInput } from '../../src/oci/image-input.js';
import { Random } from '../image/random.js';
import { archive } from '../tar/archive.js';
import { run } from './command.js';
import { testImage } from './images.js';
import { KernelMounts } from './kernel-mounts.js';
import { randomLayer } from './random-layers.js';
import { differences, walkTree } from './tree-compare.js';

async function* once(bytes: Uint8Array) {
  yield bytes;
}

/** Expands the layers, mounts them both ways, and returns the number of names compared. */
async function compareWithKernel(
  t: ExecutionContext,
  blobs: readonly AsyncIterable<Uint8Array>[],
  label: string,
): Promise<number> {
  const mounts = new KernelMounts();
  try {
    const layers: LayerFile[] = [];
    for (const [i, blob] of blobs.entries()) {
      const path = join(mounts.dir, `${i}.vhd`);
      layers.push({ path, diffID: (await expandLayer(blob, { output: path })).diffID });
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
