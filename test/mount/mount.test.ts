import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  realpath,
  rm,
  stat,
  statfs,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import anyTest, { type TestFn } from 'ava';
import { BlockCache, type BlockCacheOptions } from '../../src/cache/block-cache.js';
import { type Mount, mountImage, unmountImage } from '../../src/mount/mount.js';
import { MountError } from '../../src/mount/mount-error.js';
import { MNT_DETACH } from '../../src/mount/mount-point.js';
import { mountAt, readMountTable } from '../../src/mount/mount-table.js';
import { addon } from '../../src/native/addon.js';
import { FileSource } from '../../src/source/file-source.js';
import { loadImage } from '../../src/source/remote-image.js';
import type { Source } from '../../src/source/source.js';
import { type Fault, FaultSource, seeded } from '../cache/layer-fixture.js';
import { addImage, content, type TestImage } from '../source/store-fixture.js';
import { haveServed } from './bytes-served.js';

const run = promisify(execFile);

/** Everything under one directory; mounts that a test leaves are taken away after it. */
interface Context {
  directory: string;
  store: string;
  image: TestImage;
  log: string[];
  mounts: Mount[];
}

const test = anyTest as TestFn<Context>;

const LOWER: Record<string, Buffer> = {
  'bin/tool': content('tool', 300_000),
  'etc/conf': content('conf', 77),
  empty: Buffer.alloc(0),
};
const UPPER: Record<string, Buffer> = {
  'lib/large': content('large', 2_000_000),
  'lib/small': content('small', 5000),
};
const ALL: Record<string, Buffer> = { ...LOWER, ...UPPER };

test.beforeEach(async (t) => {
  const directory = await realpath(await mkdtemp(join(tmpdir(), 'orca-mount-')));
  const store = join(directory, 'store');
  t.context = {
    directory,
    store,
    image: await addImage(store, 'app:1', [LOWER, UPPER]),
    log: [],
    mounts: [],
  };
});

test.afterEach.always(async (t) => {
  for (const { mountPoint } of await readMountTable()) {
    if (mountPoint.startsWith(`${t.context.directory}/`)) await unmountImage(mountPoint, { lazy: true });
  }
  for (const mount of t.context.mounts) await mount.close();
  await rm(t.context.directory, { recursive: true });
});

async function openCache({ directory, log }: Context, options: BlockCacheOptions = {}): Promise<BlockCache> {
  const record = (level: string) => (message: string) => void log.push(`${level}: ${message}`);
  const logger = {
    debug: record('debug'),
    info: record('info'),
    warn: record('warn'),
    error: record('error'),
  };
  return BlockCache.open(join(directory, 'cache'), { logger, ...options });
}

async function mountAtName(
  context: Context,
  cache: BlockCache,
  name: string,
  sources: readonly Source[] = [new FileSource(context.store)],
): Promise<Mount> {
  const mountpoint = join(context.directory, name);
  await mkdir(mountpoint, { recursive: true });
  const image = await loadImage(new FileSource(context.store), 'app:1', cache.directory);
  const mount = await mountImage({ image, sources, cache, mountpoint });
  context.mounts.push(mount);
  return mount;
}

/** A source with the layers of the image, for faults. */
function faultSource({ image }: Context, location = 'share'): FaultSource {
  return new FaultSource(location, image.layers);
}

/** Reads in a process of its own, since a read of our own mount would wait for our own event loop. */
async function readMounted({ mountpoint }: Mount, path: string): Promise<Buffer> {
  const { stdout } = await run('cat', [join(mountpoint, path)], { encoding: 'buffer', maxBuffer: 1 << 26 });
  return stdout;
}

async function readError(mount: Mount, path: string): Promise<string> {
  return readMounted(mount, path).then(
    () => 'no error',
    (error: { stderr: Buffer }) => error.stderr.toString(),
  );
}

test('all files of all layers are there, right, and a second reading needs no source', async (t) => {
  const cache = await openCache(t.context);
  const source = faultSource(t.context);
  const mount = await mountAtName(t.context, cache, 'a', [source]);
  const { stdout } = await run('find', [mount.mountpoint, '-type', 'f', '-printf', '%P\n']);
  t.deepEqual(stdout.trim().split('\n').sort(), Object.keys(ALL).sort());
  for (const [path, bytes] of Object.entries(ALL))
    t.true((await readMounted(mount, path)).equals(bytes), path);
  const reads = source.reads.length;
  t.true(reads > 0);
  await mount.unmount();

  const again = await mountAtName(t.context, cache, 'a', [source]);
  for (const [path, bytes] of Object.entries(ALL))
    t.true((await readMounted(again, path)).equals(bytes), path);
  t.is(source.reads.length, reads);
  t.is(again.stats().hitRatio, 1);
  await again.unmount();
});

test('mounting and listing reads no byte of any layer', async (t) => {
  const cache = await openCache(t.context);
  const source = faultSource(t.context);
  const mount = await mountAtName(t.context, cache, 'a', [source]);
  await run('ls', ['-lR', mount.mountpoint]);
  t.deepEqual(source.reads, []);
});

test('the mount says what it is, and its read-ahead is 1 MiB', async (t) => {
  const mount = await mountAtName(t.context, await openCache(t.context), 'a');
  const entry = await mountAt(mount.mountpoint);
  t.is(entry?.type, 'fuse.orca');
  t.is(entry?.source, 'app:1');
  t.is(await readFile(`/sys/class/bdi/${entry?.device}/read_ahead_kb`, 'utf8'), '1024\n');
  t.is(mount.stats().readAhead, 1024);
});

test('the statistics say which source serves each layer, and why not a better one', async (t) => {
  const [first, second] = [faultSource(t.context, 'first'), faultSource(t.context, 'second')];
  first.plan = () => 'refuse';
  const mount = await mountAtName(t.context, await openCache(t.context), 'a', [first, second]);
  await readMounted(mount, 'lib/large');
  await haveServed(mount, 2_000_000, (location) => location === 'second');
  const { layers, bytesBySource, session, hitRatio } = mount.stats();
  t.is(layers.length, 2);
  const upper = layers.find(({ diffID }) => diffID === t.context.image.layers[1]?.digests.diffID);
  t.regex(upper?.sources[0]?.problem ?? '', /ACCESS_DENIED, refused by plan/);
  t.true((upper?.sources[1]?.bytes ?? 0) >= 2_000_000);
  t.is(bytesBySource['first'], 0);
  t.true((upper?.blocksPresent ?? 0) > 0);
  t.true(session.bytesRead >= 2_000_000);
  t.true(hitRatio < 1);
});

test('readers of one block at once cause one read of the source', async (t) => {
  const source = faultSource(t.context);
  let open: () => void = () => undefined;
  source.gate = new Promise((resolve) => {
    open = resolve;
  });
  const mount = await mountAtName(t.context, await openCache(t.context), 'a', [source]);
  const readers = Array.from({ length: 5 }, () => readMounted(mount, 'etc/conf'));
  while (source.reads.length === 0) await sleep(10);
  await sleep(100);
  open();
  for (const bytes of await Promise.all(readers)) t.true(bytes.equals(ALL['etc/conf'] as Buffer));
  // What lies behind it is fetched along, by a read of its own.
  const overlaps = source.reads.filter((read) =>
    source.reads.some(
      (other) =>
        other !== read &&
        read.offset < other.offset + other.length &&
        other.offset < read.offset + read.length,
    ),
  );
  t.deepEqual(overlaps, []);
  t.true(source.reads.length <= 2);
});

test('two mounts of one image share its cached blocks, also across processes', async (t) => {
  const cache = await openCache(t.context);
  const source = faultSource(t.context);
  const one = await mountAtName(t.context, cache, 'one', [source]);
  const two = await mountAtName(t.context, cache, 'two', [source]);
  await readMounted(one, 'lib/large');
  const reads = source.reads.length;
  t.true((await readMounted(two, 'lib/large')).equals(ALL['lib/large'] as Buffer));
  t.is(source.reads.length, reads);
  t.is(two.stats().session.readMisses, 0);
  await one.unmount();

  const other = await openCache(t.context);
  const three = await mountAtName(t.context, other, 'three', [source]);
  t.true((await readMounted(three, 'lib/large')).equals(ALL['lib/large'] as Buffer));
  t.is(source.reads.length, reads);
});

test('a corrupt block is EIO and a log line, never wrong bytes; it is right when the source has healed', async (t) => {
  const source = faultSource(t.context);
  source.plan = () => 'corrupt';
  const mount = await mountAtName(t.context, await openCache(t.context), 'a', [source]);
  t.regex(await readError(mount, 'bin/tool'), /Input\/output error/);
  const errors = t.context.log.filter((line) => line.startsWith('error'));
  t.true(errors.length > 0);
  t.regex(errors[0] ?? '', /of layer sha256:[0-9a-f]{64}: share: .*does not match/);
  source.plan = () => 'ok';
  t.true((await readMounted(mount, 'bin/tool')).equals(ALL['bin/tool'] as Buffer));
});

test('a source that is away for a while makes readers wait; past the deadline they get EIO', async (t) => {
  const source = faultSource(t.context);
  const mount = await mountAtName(t.context, await openCache(t.context, { deadline: 3000 }), 'a', [source]);
  source.plan = () => 'fail';
  const reading = readMounted(mount, 'bin/tool');
  await sleep(300);
  source.plan = () => 'ok';
  t.true((await reading).equals(ALL['bin/tool'] as Buffer));

  source.plan = () => 'stall';
  t.regex(await readError(mount, 'lib/large'), /Input\/output error/);
  source.plan = () => 'ok';
  t.true((await readMounted(mount, 'lib/large')).equals(ALL['lib/large'] as Buffer));
});

test('a process that waits for a block can be killed', async (t) => {
  const source = faultSource(t.context);
  source.plan = () => 'stall';
  const mount = await mountAtName(t.context, await openCache(t.context), 'a', [source]);
  const child = spawn('cat', [join(mount.mountpoint, 'lib/large')], { stdio: 'ignore' });
  while (source.outstanding === 0) await sleep(10);
  child.kill('SIGKILL');
  t.deepEqual(await once(child, 'exit'), [null, 'SIGKILL']);
  t.true(source.outstanding > 0);
});

test('under random faults what is read is right or EIO', async (t) => {
  const seed = Date.now() % 1_000_000;
  t.log(`seed ${seed}`);
  const random = seeded(seed);
  const faults: Fault[] = ['ok', 'fail', 'corrupt', 'short', 'refuse'];
  const sources = ['one', 'two'].map((name) => faultSource(t.context, name));
  for (const source of sources) source.plan = () => faults[Math.floor(random() * faults.length)] ?? 'ok';
  const mount = await mountAtName(t.context, await openCache(t.context, { deadline: 2000 }), 'a', sources);
  for (let round = 0; round < 4; round++) {
    await Promise.all(
      Object.entries(ALL).map(async ([path, bytes]) => {
        const found = await readMounted(mount, path).catch((error: { stderr: Buffer; stdout: Buffer }) => {
          t.regex(error.stderr.toString(), /Input\/output error/, `seed ${seed}`);
          return error.stdout;
        });
        t.true(bytes.subarray(0, found.length).equals(found), `seed ${seed}, ${path}`);
      }),
    );
  }
  for (const source of sources) source.plan = () => 'ok';
  for (const [path, bytes] of Object.entries(ALL))
    t.true((await readMounted(mount, path)).equals(bytes), path);
});

test('a mount in use is BUSY; a lazy unmount takes it away and it ends when it is free', async (t) => {
  const mount = await mountAtName(t.context, await openCache(t.context), 'a');
  const file = await open(join(mount.mountpoint, 'etc/conf'));
  const busy = await t.throwsAsync(mount.unmount(), { instanceOf: MountError });
  t.is(busy?.code, 'BUSY');
  t.regex(busy?.message ?? '', /fuser/);
  await mount.unmount({ lazy: true });
  t.is(await mountAt(mount.mountpoint), undefined);
  await file.close();
  t.is((await mount.ended).reason, 'unmounted');
});

test('an unmount from outside ends the mount, and the cache is closed after it', async (t) => {
  const cache = await openCache(t.context);
  const mount = await mountAtName(t.context, cache, 'a');
  await run('umount', [mount.mountpoint]);
  t.is((await mount.ended).reason, 'unmounted');
  await mount.unmount();
  const again = await mountAtName(t.context, cache, 'a');
  await unmountImage(again.mountpoint);
  t.is((await again.ended).reason, 'unmounted');
  const error = await t.throwsAsync(unmountImage(again.mountpoint), { instanceOf: MountError });
  t.is(error?.code, 'NOT_MOUNTED');
});

test('a place where an image is mounted is BUSY for another', async (t) => {
  const cache = await openCache(t.context);
  await mountAtName(t.context, cache, 'a');
  const error = await t.throwsAsync(mountAtName(t.context, cache, 'a'), { instanceOf: MountError });
  t.is(error?.code, 'BUSY');
  t.regex(error?.message ?? '', / of app:1 already.*orca umount/);
});

test('the dead mount of a process that was killed is replaced', async (t) => {
  const { directory, store } = t.context;
  const mountpoint = join(directory, 'a');
  await mkdir(mountpoint);
  const script = join(import.meta.dirname, 'mount-process.js');
  const child = spawn(process.execPath, [script, store, 'app:1', join(directory, 'cache'), mountpoint], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  t.is((await mountAt(mountpoint))?.type, 'fuse.orca');
  child.kill('SIGKILL');
  await once(child, 'exit');
  await t.throwsAsync(statfs(mountpoint), { code: 'ENOTCONN' });

  const mount = await mountAtName(t.context, await openCache(t.context), 'a');
  t.true((await readMounted(mount, 'bin/tool')).equals(ALL['bin/tool'] as Buffer));
});

test('an image index that is no EROFS is refused, and nothing is left mounted', async (t) => {
  const cache = await openCache(t.context);
  const mountpoint = join(t.context.directory, 'a');
  await mkdir(mountpoint);
  const image = await loadImage(new FileSource(t.context.store), 'app:1', cache.directory);
  const indexPath = join(t.context.directory, 'index');
  await writeFile(indexPath, Buffer.alloc(8192));
  const mounting = mountImage({ image: { ...image, indexPath }, sources: [], cache, mountpoint });
  const error = await t.throwsAsync(mounting, { instanceOf: MountError });
  t.is(error?.code, 'FAILED');
  t.is(await mountAt(mountpoint), undefined);
  const mount = await mountAtName(t.context, cache, 'a');
  t.true((await readMounted(mount, 'bin/tool')).equals(ALL['bin/tool'] as Buffer));
});

test('a cache disk that is full keeps nobody from reading, and is one warning', async (t) => {
  const cacheDirectory = join(t.context.directory, 'cache');
  await mkdir(cacheDirectory);
  addon.mount('none', cacheDirectory, 'tmpfs', 0, 'size=1m');
  try {
    const cache = await openCache(t.context);
    t.is(cache.directory, cacheDirectory);
    const mount = await mountAtName(t.context, cache, 'a');
    for (let round = 0; round < 2; round++) {
      for (const [path, bytes] of Object.entries(ALL)) {
        t.true((await readMounted(mount, path)).equals(bytes), path);
      }
    }
    t.true(cache.scheduler.stats.blocksUncached > 0);
    t.deepEqual(mount.stats().session.errors, {});
    t.is(t.context.log.length, 1, t.context.log.join('\n'));
    t.regex(t.context.log[0] ?? '', /cannot be written \(ENOSPC\): reads go on uncached/);
    await mount.unmount();
  } finally {
    addon.umount(cacheDirectory, MNT_DETACH);
  }
});

/** What a file system takes for its own map of a sparse file, which no limit can foresee. */
const EXTENT_BLOCKS = 64 << 10;

async function bytesOnDisk(directory: string): Promise<number> {
  let bytes = 0;
  for (const name of await readdir(directory)) {
    if (name.endsWith('.data')) bytes += (await stat(join(directory, name))).blocks * 512;
  }
  return bytes;
}

test('the cache stays under its limit while an image larger than that is read', async (t) => {
  const limit = 64 << 20;
  const files: Record<string, Buffer> = {};
  for (let i = 0; i < 12; i++) files[`part${i}`] = content(`part ${i}`, 8 << 20);
  await addImage(t.context.store, 'app:1', [files], 128 << 10);
  const cache = await openCache(t.context, { limit });
  const mount = await mountAtName(t.context, cache, 'a');
  for (const [path, bytes] of Object.entries(files)) {
    t.true((await readMounted(mount, path)).equals(bytes), path);
    const used = await bytesOnDisk(join(cache.directory, 'layers'));
    t.true(used <= limit + EXTENT_BLOCKS, `${used}`);
  }
  t.true(cache.eviction.bytesEvicted > 32 << 20);
  for (const path of ['part0', 'part11']) {
    t.true((await readMounted(mount, path)).equals(files[path] as Buffer), path);
  }
});
