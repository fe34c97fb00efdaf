/** Long READs are answered with pages of the cache file: what becomes of those while the file changes under them. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readlinkSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { addon, type BlockFile } from '../../src/native/addon.js';
import { heldMount, IMAGE_KINDS, type Image, makeImage, Server, workDirectory } from './served-image.js';

const BLOCK = 131072;
const SIZE = 8 * 1024 * 1024 + 4096;

interface Served {
  work: string;
  image: Image;
  fd: number;
  file: string;
  cacheDir: string;
  server: Server;
  /** A BlockFile of this process, on the files of the server. */
  blocks(): BlockFile;
}

async function serve(t: ExecutionContext): Promise<Served> {
  const work = workDirectory(t);
  const source = join(work, 'source');
  const mountpoint = join(work, 'mnt');
  const cacheDir = join(work, 'cache');
  for (const path of [source, mountpoint, cacheDir]) mkdirSync(path);
  const bytes = Buffer.alloc(SIZE);
  for (let at = 0; at + 4 <= SIZE; at += 4) bytes.writeUInt32LE((at * 2654435761) >>> 0 || 1, at);
  writeFileSync(join(source, 'file'), bytes);
  const image = await makeImage(work, source, IMAGE_KINDS['chunks on a device of its own']);
  const fd = heldMount(t, mountpoint, 'orca:pages');
  const server = new Server(t, { ...image, cacheDir }, fd);
  await server.line('ready');
  let opened: BlockFile | undefined;
  t.teardown(() => opened?.close());
  const blocks = (): BlockFile => {
    opened ??= new addon.BlockFile({
      dataPath: join(cacheDir, 'data'),
      mapPath: join(cacheDir, 'map'),
      size: statSync(image.blobPath!).size,
      blockSize: BLOCK,
    });
    return opened;
  };
  return { work, image, fd, file: join(mountpoint, 'file'), cacheDir, server, blocks };
}

/** A READ is answered before its blocks are on the disk: waits until they are. */
async function stored({ blocks }: Served): Promise<void> {
  const file = blocks();
  while (file.count() < file.blocks) await sleep(5);
}

/** Reads the file past the page cache, in READs as long as they get, and compares it with what it should be. */
function compare({ work, file }: Served): ChildProcess {
  return spawn('sh', [
    '-c',
    'dd if="$1" iflag=direct bs=1M status=none | cmp - "$2"',
    'sh',
    file,
    `${work}/source/file`,
  ]);
}

test('blocks that another process evicts while they are being sent come out right', async (t) => {
  const served = await serve(t);
  const file = served.blocks();
  let evicted = 0;
  let first = 0;
  for (let round = 0; round < 12; round++) {
    const readers = [compare(served), compare(served)];
    const ends = Promise.all(readers.map((reader) => once(reader, 'close')));
    while (readers.some((reader) => reader.exitCode === null)) {
      first = (first * 5 + 7) % file.blocks;
      const before = file.count();
      file.evict(first, Math.min(1 + (first % 3), file.blocks - first));
      evicted += Math.max(0, before - file.count());
      await sleep(1);
    }
    for (const [code] of await ends) t.is(code, 0);
  }
  t.true(evicted > 0);
  t.deepEqual((await served.server.stats()).errors, {});
  t.is(await served.server.stop(), 0);
});

test('a server killed while it sends pages leaves no block locked, and another goes on', async (t) => {
  const served = await serve(t);
  await once(compare(served), 'close');
  let { server } = served;
  for (let kill = 0; kill < 4; kill++) {
    const reader = compare(served);
    await sleep(5 + 10 * kill);
    await server.kill();
    const file = served.blocks();
    file.evict(0, file.blocks);
    t.is(file.count(), 0);
    server = new Server(t, { ...served.image, cacheDir: served.cacheDir, adopt: true }, served.fd);
    await server.line('ready');
    if (reader.exitCode === null) await once(reader, 'close');
    t.is(reader.exitCode, 0);
  }
  t.is(await server.stop(), 0);
});

test('a data file that is cut short is fetched again', async (t) => {
  const served = await serve(t);
  const [first] = await once(compare(served), 'close');
  t.is(first, 0);
  for (const length of [SIZE / 2, 4096, 0]) {
    await stored(served);
    truncateSync(join(served.cacheDir, 'data'), length);
    const [code] = await once(compare(served), 'close');
    t.is(code, 0);
  }
  t.is(await served.server.stop(), 0);
});

test('long READs of cached blocks hand on pages instead of copying them', async (t) => {
  const served = await serve(t);
  await once(compare(served), 'close');
  await stored(served);
  const before = await served.server.stats();
  await once(compare(served), 'close');
  const after = await served.server.stats();
  t.is(after.readMisses, before.readMisses);
  t.is(after.bytesRead - before.bytesRead, SIZE);
  // The pipe and the description for the locks are there since the first of them.
  const open = `/proc/${served.server.child.pid}/fd`;
  const links = readdirSync(open).map((name) => readlinkSync(join(open, name)));
  t.true(links.filter((link) => link === join(served.cacheDir, 'map')).length >= 2);
  t.is(await served.server.stop(), 0);
});

test('blocks whose pages are handed on count as touched', async (t) => {
  const served = await serve(t);
  await once(compare(served), 'close');
  await stored(served);
  await served.server.kill();
  const server = new Server(t, { ...served.image, cacheDir: served.cacheDir, adopt: true }, served.fd);
  await server.line('ready');
  await once(compare(served), 'close');
  const stats = await server.stats();
  t.is(stats.readMisses, 0);
  t.is(stats.blocksTouched, served.blocks().blocks);
  t.is(await server.stop(), 0);
});
