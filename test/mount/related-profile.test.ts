/** A first start of an image with the startup profile of an earlier version of it, or of one on the same layers. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, realpath, rm, utimes } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { BlockCache } from '../../src/cache/block-cache.js';
import { StartupProfile } from '../../src/cache/startup-profile.js';
import { type Mount, mountImage } from '../../src/mount/mount.js';
import { findRelatedProfile } from '../../src/mount/related-profile.js';
import type { Access } from '../../src/native/addon.js';
import { parseDigest } from '../../src/oci/digest.js';
import { canonicalName } from '../../src/oci/reference.js';
import { FileSource } from '../../src/source/file-source.js';
import { loadImage } from '../../src/source/remote-image.js';
import { FaultSource } from '../cache/layer-fixture.js';
import { addImage, content, type Files, type TestImage } from '../source/store-fixture.js';
import { preloaded, step } from './preload-steps.js';

const run = promisify(execFile);

const BLOCK = 16384;

async function place(t: ExecutionContext): Promise<string> {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'orca-earlier-')));
  t.teardown(() => rm(directory, { recursive: true }));
  await mkdir(join(directory, 'mnt'));
  return directory;
}

const profileOf = (image: TestImage | undefined, ...steps: Access[]): StartupProfile =>
  StartupProfile.record(
    [{ device: 0, block: 0, time: 0 }],
    image?.layers.map(({ digests }) => digests.diffID) ?? [],
    steps,
  );

/** A mount of the image on a cache that is asked for nothing. */
async function mounted(
  directory: string,
  cache: BlockCache,
  name: string,
  image: TestImage,
): Promise<{ mount: Mount; source: FaultSource }> {
  const source = new FaultSource('share', image.layers);
  const mount = await mountImage({
    image: await loadImage(new FileSource(join(directory, 'store')), name, cache.directory),
    sources: [source],
    cache,
    mountpoint: join(directory, 'mnt'),
  });
  return { mount, source };
}

test.serial('what still applies is fetched from where it lies now, and walked ahead', async (t) => {
  const directory = await place(t);
  const store = join(directory, 'store');
  const one = content('one', 5 * BLOCK);
  const common: Files = { 'lib/two': content('two', 4 * BLOCK), 'lib/three': content('three', 3 * BLOCK) };
  const before = await addImage(store, 'app:1', [
    { 'lib/one': one, was: content('was', 2 * BLOCK), kept: content('kept', BLOCK) },
    { ...common, 'lib/gone': content('gone', BLOCK) },
  ]);
  // In other layers, behind other files; one is shorter, one has become a directory.
  const after = await addImage(store, 'app:2', [
    { 'a/first': content('a', 7 * BLOCK), ...common },
    {
      'lib/a': content('b', 2 * BLOCK),
      'lib/one': one.subarray(0, 2 * BLOCK),
      'was/now': content('now', BLOCK),
      kept: content('changed', BLOCK),
      arrived: content('arrived', BLOCK),
    },
  ]);
  const diffIDs = after.layers.map(({ digests }) => digests.diffID);
  t.false(before.layers.some(({ digests }) => diffIDs.includes(digests.diffID)));

  const cache = await BlockCache.open(join(directory, 'cache'));
  const first = await mounted(directory, cache, 'app:1', before);
  await first.mount.unmount();
  const steps = [
    step('listing', 'lib'),
    step('pages', 'lib/two', 4, 8),
    step('pages', 'lib/one', 0, 20),
    step('pages', 'lib/gone'),
    step('pages', 'was', 0, 8),
    step('name', 'was'),
    step('absent', 'arrived'),
    step('absent', 'lib/nobody'),
    step('pages', 'kept', 0, 4),
  ];
  await cache.profiles.write(before.manifestDigest, profileOf(before, ...steps).encode());
  const { mount, source } = await mounted(directory, cache, 'app:2', after);
  await preloaded(mount, 6);
  const { taken, pages } = mount.stats().session.preload!;
  t.deepEqual({ taken, pages }, { taken: 6, pages: 8 + 8 + 4 });
  // Blocks 1 and 2 of `two`, all of the shorter `one`, `kept`; and what they share with their neighbours.
  t.true(source.reads.length > 0);
  const present = mount.stats().layers.map(({ blocksPresent }) => blocksPresent);
  t.true(present[0]! >= 2 && present[0]! <= 3 && present[1]! >= 3 && present[1]! <= 5, String(present));
  t.is(mount.stats().session.readMisses, 0);
  const { stdout } = await run('cat', [join(directory, 'mnt', 'lib/one')], { encoding: 'buffer' });
  t.true(stdout.equals(one.subarray(0, 2 * BLOCK)));
  await run('cat', [join(directory, 'mnt', 'arrived')]);
  await mount.unmount();

  // What is kept is of this image alone.
  const own = await cache.profiles.read(after.manifestDigest);
  t.is(own?.runs, 1);
  t.true(own?.layers.every((diffID) => diffIDs.includes(diffID)));
  const paths = new Set(own?.steps.map(({ kind, path }) => `${kind} ${path}`));
  for (const kept of [
    'pages lib/two',
    'pages lib/one',
    'pages kept',
    'pages arrived',
    'absent lib/nobody',
    'listing lib',
  ])
    t.true(paths.has(kept), kept);
  for (const gone of ['pages lib/gone', 'pages was', 'absent arrived']) t.false(paths.has(gone), gone);
  cache.close();
});

test.serial(
  'of no use is a profile of files that are not there, and one that is wanted nowhere',
  async (t) => {
    const directory = await place(t);
    const store = join(directory, 'store');
    const before = await addImage(store, 'app:1', [{ one: content('one', 3 * BLOCK) }]);
    const after = await addImage(store, 'app:2', [{ two: content('two', 3 * BLOCK) }]);
    const cache = await BlockCache.open(join(directory, 'cache'));
    await (await mounted(directory, cache, 'app:1', before)).mount.unmount();
    const hostile = profileOf(
      before,
      step('name', ''),
      step('pages', 'one', 0, 100_000),
      step('pages', 'two/../two', 0, 3),
      step('pages', 'two', 100_000, 100_000),
    );
    await cache.profiles.write(before.manifestDigest, hostile.encode());
    const { mount, source } = await mounted(directory, cache, 'app:2', after);
    await sleep(300);
    t.is(mount.stats().session.preload, undefined);
    t.deepEqual(source.reads, []);
    await mount.unmount();
    cache.close();
  },
);

test.serial(
  'it is that of the version that this host mounted last and has one of, or the registry’s',
  async (t) => {
    const directory = await place(t);
    const store = join(directory, 'store');
    const cache = await BlockCache.open(join(directory, 'cache'));
    const images = new Map<string, string>();
    const add = async (name: string, age: number, isProfiled = true) => {
      await addImage(store, canonicalName(name), [{ [name]: content(name, BLOCK) }]);
      const image = await loadImage(new FileSource(store), name, cache.directory);
      (await cache.images.begin(image))();
      const time = Date.now() / 1000 - age;
      const { hex } = parseDigest(image.manifestDigest);
      await utimes(join(cache.directory, 'inventory', `${hex}.json`), time, time);
      if (isProfiled)
        await cache.profiles.write(image.manifestDigest, profileOf(undefined, step('name', name)).encode());
      images.set(name, image.manifestDigest);
      return image;
    };
    const image = await add('app:now', 0);
    await add('app:old', 300);
    await add('docker.io/library/app:new', 200);
    await add('app:newest', 100, false);
    await add('other:new', 50);
    const registry = async () => profileOf(undefined, step('name', 'registry')).encode();
    const found = async () => (await findRelatedProfile(cache, { ...image, earlierProfile: registry }))?.name;
    t.is(await found(), 'docker.io/library/app:new');
    await cache.images.touch(images.get('app:old')!);
    t.is(await found(), 'app:old');
    await cache.images.remove(images.get('app:old')!);
    t.is(await found(), 'docker.io/library/app:new');
    await cache.profiles.remove(images.get('docker.io/library/app:new')!);
    const last = await findRelatedProfile(cache, { ...image, earlierProfile: registry });
    t.deepEqual([last?.name, last?.profile.steps[0]?.path], [undefined, 'registry']);
    t.is(await findRelatedProfile(cache, image), undefined);
    t.is(await findRelatedProfile(cache, { ...image, earlierProfile: async () => undefined }), undefined);
    const damaged = async () => Buffer.from('no profile');
    await t.throwsAsync(findRelatedProfile(cache, { ...image, earlierProfile: damaged }), {
      code: 'INVALID_PROFILE',
    });
    // By its digest alone an image is of no repository.
    t.is(await findRelatedProfile(cache, { ...image, name: image.manifestDigest }), undefined);
    cache.close();
  },
);

test.serial('without a version of it, it is that of the image with most of its layers', async (t) => {
  const directory = await place(t);
  const store = join(directory, 'store');
  const cache = await BlockCache.open(join(directory, 'cache'));
  const [base, library]: Files[] = [
    { 'bin/sh': content('shell', 3 * BLOCK) },
    { 'lib/python': content('python', 4 * BLOCK), 'lib/other': content('other', 2 * BLOCK) },
  ];
  const add = async (name: string, layers: Files[], ...steps: Access[]) => {
    const image = await addImage(store, name, layers);
    await (await mounted(directory, cache, name, image)).mount.unmount();
    if (steps.length > 0)
      await cache.profiles.write(image.manifestDigest, profileOf(image, ...steps).encode());
    return image;
  };
  await add('list:1', [base!, library!, { 'app/list': content('list', BLOCK) }]);
  const python = [step('pages', 'lib/python', 0, 8), step('pages', 'app/mail', 0, 8)];
  await add('mail:1', [base!, library!, { 'app/mail': content('mail', BLOCK) }], ...python);
  await add('shell:1', [base!], step('pages', 'bin/sh', 0, 8));
  await add('alone:1', [{ alone: content('alone', BLOCK) }], step('pages', 'lib/python'));

  const image = await addImage(store, 'shop:1', [base!, library!, { 'app/shop': content('shop', BLOCK) }]);
  const loaded = await loadImage(new FileSource(store), 'shop:1', cache.directory);
  const found = async () => (await findRelatedProfile(cache, loaded))?.name;
  t.is(await found(), 'mail:1');
  const registry = async () => profileOf(undefined, step('name', 'registry')).encode();
  t.is((await findRelatedProfile(cache, { ...loaded, earlierProfile: registry }))?.name, undefined);

  const { mount, source } = await mounted(directory, cache, 'shop:1', image);
  while (source.reads.length === 0) await sleep(10);
  t.true(source.reads.every(({ diffID }) => diffID === image.layers[1]!.digests.diffID));
  await run('cat', [join(directory, 'mnt', 'app/shop')]);
  await mount.unmount();
  const own = await cache.profiles.read(image.manifestDigest);
  // What was fetched for the other program and not asked for by this one does not count as asked for.
  t.deepEqual(new Set(own?.steps.map(({ path }) => path)), new Set(['app', 'app/shop']));

  // Once it has been mounted it has a profile; another version of it comes before what has the same layers.
  const next = await addImage(store, 'shop:2', [base!, library!, { 'app/shop': content('two', BLOCK) }]);
  t.truthy(next);
  const second = await loadImage(new FileSource(store), 'shop:2', cache.directory);
  t.is((await findRelatedProfile(cache, second))?.name, 'shop:1');
  cache.close();
});
