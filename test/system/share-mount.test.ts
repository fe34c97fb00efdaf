/** An image mounted from a real share: what its readers see while the server comes and goes. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import anyTest, { type TestFn } from 'ava';
import { BlockCache, type BlockCacheOptions } from '../../src/cache/block-cache.js';
import { type Mount, mountImage, unmountImage } from '../../src/mount/mount.js';
import { readMountTable } from '../../src/mount/mount-table.js';
import { openSource } from '../../src/source/open-source.js';
import { loadImage } from '../../src/source/remote-image.js';
import type { Source } from '../../src/source/source.js';
import { haveServed } from '../mount/bytes-served.js';
import { addImage, content } from '../source/store-fixture.js';
import { Samba, type SambaOptions } from './samba.js';

const run = promisify(execFile);
const FILES: Record<string, Buffer> = Object.fromEntries(
  Array.from({ length: 40 }, (_, i) => [`data/${i}`, content(`file ${i}`, 1_000_000 + 37 * i)]),
);

interface Context {
  directory: string;
  samba: Samba;
  source: Source;
  cache: BlockCache;
  mount: Mount;
}

const test = anyTest as TestFn<Context>;

async function mountFromShare(options: Omit<SambaOptions, 'shares'>, cacheOptions?: BlockCacheOptions) {
  const directory = await mkdtemp(join(tmpdir(), 'orca-share-mount-'));
  await addImage(join(directory, 'share/store'), 'app:1', [FILES], 128 << 10);
  const samba = await Samba.start({ ...options, shares: { images: { path: join(directory, 'share') } } });
  const env = { ORCA_SMB_USER: samba.username, ORCA_SMB_PASSWORD: samba.password };
  const source = await openSource(samba.url('images', 'store'), { env });
  const cache = await BlockCache.open(join(directory, 'cache'), cacheOptions);
  const image = await loadImage(source, 'app:1', cache.directory);
  const mountpoint = join(directory, 'mnt');
  await mkdir(mountpoint);
  const mount = await mountImage({ image, sources: [source], cache, mountpoint });
  return { directory, samba, source, cache, mount };
}

test.afterEach.always(async (t) => {
  const { directory, samba, source, cache, mount } = t.context;
  for (const { mountPoint } of await readMountTable()) {
    if (mountPoint.startsWith(`${directory}/`)) await unmountImage(mountPoint, { lazy: true });
  }
  await mount.close();
  await source.close();
  cache.close();
  await samba.stop();
  await rm(directory, { recursive: true });
});

async function checksum({ mountpoint }: Mount, path: string): Promise<string> {
  const { stdout } = await run('sha256sum', [join(mountpoint, path)]);
  return stdout.slice(0, 64);
}

const expected = (path: string) =>
  createHash('sha256')
    .update(FILES[path] as Buffer)
    .digest('hex');

for (const encryption of ['off', 'required'] as const) {
  test(`readers of a share (encryption ${encryption}) whose server is killed twice only wait`, async (t) => {
    t.context = await mountFromShare({ encryption });
    const { mount, samba } = t.context;
    const paths = Object.keys(FILES);
    const restarts = [10, 25];
    for (const [i, path] of paths.entries()) {
      const reading = checksum(mount, path);
      if (restarts.includes(i)) await samba.restart();
      t.is(await reading, expected(path), path);
    }
    const share = samba.url('images', 'store');
    await haveServed(mount, 40_000_000, (location) => location === share);
    t.deepEqual(mount.stats().session.errors, {});
  });
}

test('what is cached is read without the server; what is not is EIO at the deadline', async (t) => {
  t.context = await mountFromShare({}, { deadline: 3000 });
  const { mount, samba } = t.context;
  t.is(await checksum(mount, 'data/0'), expected('data/0'));
  await samba.stop();
  t.is(await checksum(mount, 'data/0'), expected('data/0'));
  await t.throwsAsync(checksum(mount, 'data/39'), { message: /Input\/output error/ });
});
