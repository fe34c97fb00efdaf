/** The store with images that other tools made, with several processes, with killed ones, and with a full disk. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import anyTest, { type TestFn } from 'ava';
import { parseTeleportArtifact } from '../../src/image/artifact.js';
import { blobPath, INDEX_PATH, layerPath, resolveName, teleportOf } from '../../src/image/catalog.js';
import { type LayerProgress, Store } from '../../src/image/store.js';
import { BlockDigests } from '../../src/layer/block-digests.js';
import { addon } from '../../src/native/addon.js';
import { openImageInput } from '../../src/oci/image-input.js';
import { Random } from '../image/random.js';
import { layoutOf } from '../oci/layout-of.js';
import { archive, member } from '../tar/archive.js';
import { run } from './command.js';
import { testImage } from './images.js';
import { KernelMounts } from './kernel-mounts.js';
import { randomLayer } from './random-layers.js';
import { differences, type TreeEntry, walkTree } from './tree-compare.js';

const test = anyTest as TestFn<{ dir: string; store: string }>;
test.beforeEach((t) => {
  const dir = mkdtempSync(join(tmpdir(), 'orca-store-'));
  t.context = { dir, store: join(dir, 'store') };
});
test.afterEach.always((t) => rmSync(t.context.dir, { recursive: true }));

async function expand(dir: string, spec: string, name?: string) {
  const store = await Store.open(dir, { create: true });
  const input = await openImageInput(spec);
  const states = new Map<string, LayerProgress['state']>();
  try {
    const onProgress = ({ layer, state }: LayerProgress) => states.set(layer, state);
    const image = await store.expand(input, { onProgress, ...(name === undefined ? {} : { name }) });
    return { ...image, states: [...states.values()] };
  } finally {
    await input.close();
  }
}

/** Path and content of every file of a store. */
function contents(store: string): Map<string, string> {
  const entries = readdirSync(store, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return new Map(
    paths.sort().map((path) => [path.slice(store.length), readFileSync(path).toString('base64')]),
  );
}

/** Mounts the image index of an image with the kernel's EROFS. */
function mountIndex(mounts: KernelMounts, store: string, name: string): string {
  const read = (path: string) => readFileSync(join(store, path));
  const manifest = resolveName(read(INDEX_PATH), name);
  const artifact = parseTeleportArtifact(
    read(blobPath(teleportOf(read(INDEX_PATH), manifest.digest).digest)),
  );
  return mounts.imageIndex(
    join(store, blobPath(artifact.imageIndex.digest)),
    artifact.digests.map(({ diffID }) => join(store, layerPath(diffID))),
  );
}

test.serial(
  'one image is the same from a layout, an OCI archive and both kinds of Docker archive',
  async (t) => {
    const { dir, store } = t.context;
    const { directory, tag } = await testImage('nginx');
    const layout = await expand(store, `oci:${directory}:${tag}`, 'layout');
    await run('skopeo', ['copy', '--quiet', `oci:${directory}:${tag}`, `oci-archive:${dir}/oci.tar:app:2`]);
    await run('skopeo', [
      'copy',
      '--quiet',
      `oci:${directory}:${tag}`,
      `docker-archive:${dir}/docker.tar:app:3`,
    ]);

    const oci = await expand(store, `oci-archive:${dir}/oci.tar`, 'oci');
    t.is(oci.manifestDigest, layout.manifestDigest);
    t.deepEqual(oci.states, ['reused', 'reused', 'reused']);
    const docker = await expand(store, `docker-archive:${dir}/docker.tar`);
    t.is(docker.name, 'app:3');
    t.deepEqual(docker.states, ['reused', 'reused', 'reused']);
    const again = await expand(
      join(dir, 'other'),
      `docker-archive:${dir}/docker.tar:docker.io/library/app:3`,
    );
    t.is(again.manifestDigest, docker.manifestDigest);
    t.deepEqual(again.states, ['expanded', 'expanded', 'expanded']);
  },
);

test.serial('an image that umoci made looks as umoci unpacks it', async (t) => {
  const { dir, store } = t.context;
  const layout = join(dir, 'layout');
  const bundle = join(dir, 'bundle');
  const rootfs = join(bundle, 'rootfs');
  const umoci = (...args: string[]) => run('umoci', args);
  await umoci('init', '--layout', layout);
  await umoci('new', '--image', `${layout}:v1`);
  await umoci('unpack', '--image', `${layout}:v1`, bundle);
  mkdirSync(join(rootfs, 'etc/conf.d'), { recursive: true });
  for (const name of ['a', 'b', 'c']) writeFileSync(join(rootfs, 'etc/conf.d', name), name.repeat(10_000));
  writeFileSync(join(rootfs, 'etc/passwd'), 'root:x:0:0::/:/bin/sh\n');
  symlinkSync('passwd', join(rootfs, 'etc/link'));
  await run('ln', [join(rootfs, 'etc/passwd'), join(rootfs, 'etc/hard')]);
  await run('mknod', [join(rootfs, 'null'), 'c', '1', '3']);
  await run('setfattr', ['-n', 'user.x', '-v', 'y', join(rootfs, 'etc/passwd')]);
  await umoci('repack', '--refresh-bundle', '--image', `${layout}:v1`, bundle);
  rmSync(join(rootfs, 'etc/conf.d/b'));
  rmSync(join(rootfs, 'null'));
  chmodSync(join(rootfs, 'etc/conf.d'), 0o700);
  rmSync(join(rootfs, 'etc/link'));
  mkdirSync(join(rootfs, 'etc/link'));
  writeFileSync(join(rootfs, 'etc/link/deep'), 'x');
  await umoci('repack', '--image', `${layout}:v1`, bundle);
  await umoci('unpack', '--image', `${layout}:v1`, join(dir, 'fresh'));

  t.is((await expand(store, `oci:${layout}`)).name, 'v1:latest');
  const mounts = new KernelMounts();
  try {
    const ours = await walkTree(mountIndex(mounts, store, 'v1'));
    const unpacked = await walkTree(join(dir, 'fresh/rootfs'));
    // No layer of umoci's has the root; its mtime is that of the unpacking.
    for (const tree of [ours, unpacked]) tree.set('', { ...(tree.get('') as TreeEntry), mtimeNs: '0' });
    t.deepEqual(differences(unpacked, ours), []);
  } finally {
    mounts.close();
  }
});

test.serial('a directory that a layer does not describe is as umoci leaves it', async (t) => {
  const { dir, store } = t.context;
  const described = [
    member({ name: './', type: '5', mode: 0o555, mtime: 5 }),
    member({ name: 'tmp/', type: '5', mode: 0o1777, uid: 7, mtime: 6 }),
  ];
  const layers = [
    archive(...described),
    archive(member({ name: 'tmp/d/f', mode: 0o600, mtime: 7 }, 'content')),
  ];
  await layoutOf(join(dir, 'layout'), layers, 'v1');
  await run('umoci', ['unpack', '--image', `${join(dir, 'layout')}:v1`, join(dir, 'bundle')]);
  await expand(store, `oci:${join(dir, 'layout')}`);
  const mounts = new KernelMounts();
  try {
    const [unpacked, ours] = [
      await walkTree(join(dir, 'bundle/rootfs')),
      await walkTree(mountIndex(mounts, store, 'v1')),
    ];
    t.like(ours.get('tmp'), { mode: '1777', uid: 7 });
    // Directories that get a new name while they are unpacked get the time of it.
    for (const tree of [unpacked, ours]) {
      for (const path of ['tmp', 'tmp/d']) tree.set(path, { ...(tree.get(path) as TreeEntry), mtimeNs: '0' });
    }
    t.deepEqual(differences(unpacked, ours), []);
  } finally {
    mounts.close();
  }
});

test.serial('layers of mkfs.erofs, raw and in a dynamic VHD of qemu-img, are imported', async (t) => {
  const { dir, store } = t.context;
  const tree = join(dir, 'tree');
  mkdirSync(join(tree, 'd'), { recursive: true });
  writeFileSync(join(tree, 'd', 'large'), new Random(1).bytes(300_001));
  writeFileSync(join(tree, 'small'), 'small');
  await run('ln', [join(tree, 'small'), join(tree, 'hard')]);
  await run('setfattr', ['-n', 'user.x', '-v', 'y', join(tree, 'small')]);
  await run('truncate', ['-s', '5M', join(tree, 'hole')]);
  await run('mkfs.erofs', ['--quiet', '-E', 'force-inode-extended', `${dir}/low.erofs`, tree]);
  mkdirSync(join(dir, 'high', 'd'), { recursive: true });
  await run('mknod', [join(dir, 'high', 'small'), 'c', '0', '0']);
  await run('mkfs.erofs', ['--quiet', `${dir}/high.erofs`, join(dir, 'high')]);
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'vpc', `${dir}/high.erofs`, `${dir}/high.vhd`]);
  t.regex(await run('qemu-img', ['info', `${dir}/high.vhd`]), /vpc/);

  await (await Store.open(store, { create: true })).importVhds([`${dir}/low.erofs`, `${dir}/high.vhd`], {
    name: 'made',
  });
  const mounts = new KernelMounts();
  try {
    const low = await mounts.layer(`${dir}/low.erofs`);
    const high = await mounts.layer(`${dir}/high.erofs`);
    const overlay = await walkTree(mounts.overlay([low, high]));
    t.false(overlay.has('small'));
    t.deepEqual(differences(overlay, await walkTree(mountIndex(mounts, store, 'made'))), []);
  } finally {
    mounts.close();
  }
});

const program = fileURLToPath(new URL('./expand-process.js', import.meta.url));

function expandProcess(spec: string, store: string): ChildProcess & { output: string } {
  const child = Object.assign(
    spawn(process.execPath, [program, spec, store], { stdio: ['ignore', 'pipe', 'inherit'] }),
    { output: '' },
  );
  child.stdout.on('data', (chunk) => {
    child.output += chunk;
  });
  return child;
}

/** An image of some MB in five layers. */
async function randomImage(dir: string, seed: number): Promise<string> {
  const random = new Random(seed);
  const tars = Array.from({ length: 5 }, () => randomLayer(random, { crowd: 300 }));
  return `oci:${await layoutOf(dir, tars)}`;
}

test.serial('processes that expand one image at once share the work', async (t) => {
  const { dir, store } = t.context;
  const spec = await randomImage(join(dir, 'image'), 7);
  const children = [1, 2, 3].map(() => expandProcess(spec, store));
  const codes = await Promise.all(children.map(async (child) => (await once(child, 'close'))[0]));
  t.deepEqual(codes, [0, 0, 0]);
  const lines = children.flatMap((child) => child.output.trim().split('\n'));
  t.is(lines.filter((line) => line.startsWith('expanded ')).length, 5);
  t.is(lines.filter((line) => line.startsWith('reused ')).length, 10);
  t.is(new Set(lines.filter((line) => line.startsWith('image '))).size, 1);
});

/** Whatever a reader could find in the store must be whole. */
function assertWhole(t: { true(value: boolean, message: string): void }, store: string): void {
  const layers = join(store, 'layers/sha256');
  // Killed before it had made the directory.
  if (!existsSync(layers)) return;
  for (const name of readdirSync(layers).filter((file) => file.endsWith('.vhd'))) {
    const vhd = readFileSync(join(layers, name));
    const digests = BlockDigests.decode(readFileSync(join(layers, name.replace('.vhd', '.digests'))));
    t.true(digests.size === vhd.length, `${name} has the length of its digests`);
    for (let i = 0; i < digests.count; i++) {
      const block = vhd.subarray(i * digests.blockSize, (i + 1) * digests.blockSize);
      t.true(digests.verify(i, block), `block ${i} of ${name}`);
    }
  }
}

test.serial('processes killed at random moments leave a store that the next one completes', async (t) => {
  const { dir, store } = t.context;
  const spec = await randomImage(join(dir, 'image'), 8);
  const began = performance.now();
  await once(expandProcess(spec, join(dir, 'clean')), 'close');
  const whole = performance.now() - began;
  const seed = Date.now() % 1_000_000;
  t.log(`seed ${seed}`);
  const random = new Random(seed);
  let killed = 0;
  for (let i = 0; i < 8; i++) {
    const children = [expandProcess(spec, store), expandProcess(spec, store)];
    const ended = Promise.all(children.map((child) => once(child, 'close')));
    for (const child of children) {
      await sleep((whole * random.below(1000)) / 1000 / 2);
      if (child.kill('SIGKILL')) killed++;
    }
    await ended;
    assertWhole(t, store);
    if (i % 4 === 3) rmSync(store, { recursive: true });
  }
  t.log(`${killed} of 16 processes were killed`);
  t.true(killed > 0);
  const last = expandProcess(spec, store);
  t.is((await once(last, 'close'))[0], 0);
  t.deepEqual(contents(store), contents(join(dir, 'clean')), `seed ${seed}`);
});

test.serial('a full disk is told in one line and leaves nothing behind', async (t) => {
  const { dir } = t.context;
  const spec = await randomImage(join(dir, 'image'), 9);
  const small = join(dir, 'small');
  mkdirSync(small);
  addon.mount('tmpfs', small, 'tmpfs', 0, 'size=3m');
  try {
    const store = join(small, 'store');
    const error = await t.throwsAsync(expand(store, spec), { name: 'ImageError', code: 'NO_SPACE' });
    t.regex(
      error?.message ?? '',
      /^layer sha256:\w{64}: the disk is full; free some space and run it again$/,
    );
    t.deepEqual(readdirSync(join(store, 'tmp')), []);
    assertWhole(t, store);
  } finally {
    addon.umount(small, 0);
  }
});
