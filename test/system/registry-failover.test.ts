/** A mounted image of a registry whose share, web server and mount API come, go, and send nonsense. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import anyTest, { type TestFn } from 'ava';
import { BlockCache, type BlockCacheOptions } from '../../src/cache/block-cache.js';
import { type Mount, mountImage, unmountImage } from '../../src/mount/mount.js';
import { readMountTable } from '../../src/mount/mount-table.js';
import { type ImageRequest, type OpenedImage, openImage } from '../../src/mount/open-image.js';
import { bytesServed, haveServed } from '../mount/bytes-served.js';
import { FileServer } from '../source/file-server.js';
import { addImage, content, type TestImage } from '../source/store-fixture.js';
import { TeleportingRegistry } from '../source/teleporting-registry.js';
import { run } from './command.js';
import { FaultProxy } from './fault-proxy.js';
import { Samba } from './samba.js';

const SMALL: Record<string, Buffer> = Object.fromEntries(
  Array.from({ length: 20 }, (_, i) => [`data/${i}`, content(`file ${i}`, 300_000 + 37 * i)]),
);
const FILES: Record<string, Buffer> = { ...SMALL, large: content('large', 12_000_000) };

interface Context {
  directory: string;
  samba: Samba;
  files: FileServer;
  registry: TeleportingRegistry;
  share: FaultProxy;
  web: FaultProxy;
  cache: BlockCache;
  opened: OpenedImage[];
  mounts: Mount[];
}

const test = anyTest as TestFn<Context>;
const SEED = Number(process.env['ORCA_SEED'] ?? Math.floor(Math.random() * 1e6));

let scratch: string;
let store: string;
let image: TestImage;

test.before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'orca-registry-failover-'));
  store = join(scratch, 'store');
  image = await addImage(store, 'app:1', [FILES], 128 << 10);
});
test.after.always(() => rm(scratch, { recursive: true, force: true }));

async function start(options: BlockCacheOptions = {}): Promise<Context> {
  const directory = await mkdtemp(join(scratch, 'test-'));
  const samba = await Samba.start({ shares: { images: { path: store } }, signing: 'required' });
  const files = await FileServer.start(store);
  const registry = await TeleportingRegistry.start(store, image);
  const share = await FaultProxy.start(samba.port, SEED);
  const web = await FaultProxy.start(Number(new URL(files.url).port), SEED + 1);
  const cache = await BlockCache.open(join(directory, 'cache'), options);
  const context = { directory, samba, files, registry, share, web, cache, opened: [], mounts: [] };
  registry.transports = transports(context);
  return context;
}

function transports(
  { samba, share, web }: Pick<Context, 'samba' | 'share' | 'web'>,
  secrets: { password?: string; token?: string } = {},
): object[] {
  const { password = samba.password, token = 'first' } = secrets;
  const url = `smb://127.0.0.1:${share.port}/images`;
  return [
    { kind: 'smb', url, username: samba.username, password },
    { kind: 'https', url: `http://127.0.0.1:${web.port}/store/`, token },
  ];
}

async function mount(context: Context, request: Partial<ImageRequest> = {}): Promise<Mount> {
  const { directory, registry, cache, opened, mounts } = context;
  const image = await openImage({ image: request.image ?? registry.name, ...request }, cache);
  opened.push(image);
  const mountpoint = join(directory, `mnt-${mounts.length}`);
  await mkdir(mountpoint);
  const made = await mountImage({ image: image.image, sources: image.sources, cache, mountpoint });
  mounts.push(made);
  return made;
}

test.afterEach.always(async (t) => {
  const { directory, samba, files, registry, share, web, cache, opened, mounts } = t.context;
  for (const { mountPoint } of await readMountTable()) {
    if (mountPoint.startsWith(`${directory}/`)) await unmountImage(mountPoint, { lazy: true });
  }
  for (const made of mounts) await made.close();
  for (const image of opened) await image.close();
  cache.close();
  await registry.stop();
  await share.stop();
  await web.stop();
  await files.stop();
  await samba.stop();
  await rm(directory, { recursive: true, force: true });
});

async function checksum({ mountpoint }: Mount, path: string): Promise<string> {
  return (await run('sha256sum', [join(mountpoint, path)])).slice(0, 64);
}

const expected = (path: string) =>
  createHash('sha256')
    .update(FILES[path] as Buffer)
    .digest('hex');

/** Verified bytes by kind of source. */
function served(made: Mount): { smb: number; https: number } {
  return { smb: bytesServed(made, isShare), https: bytesServed(made, (location) => !isShare(location)) };
}

const isShare = (location: string) => location.startsWith('smb:');

async function shareIsBack(made: Mount): Promise<void> {
  while (!made.stats().layers[0]?.sources[0]?.healthy) await sleep(20);
}

test.serial(
  'a share that is away before the mount: https serves, and the share takes over when it is back',
  async (t) => {
    t.context = await start();
    const { share } = t.context;
    share.refuse();
    const made = await mount(t.context);
    t.is(await checksum(made, 'data/0'), expected('data/0'));
    await haveServed(made, 300_000, (location) => !isShare(location));
    t.is(served(made).smb, 0);
    const problem = made.stats().layers[0]?.sources[0]?.problem;
    t.truthy(problem);
    share.accept();
    await shareIsBack(made);
    const { https } = served(made);
    for (let i = 1; i < 20; i++) t.is(await checksum(made, `data/${i}`), expected(`data/${i}`));
    // Read-ahead may have fetched some before.
    await haveServed(made, 19 * 300_000 - (2 << 20), isShare);
    t.true(served(made).https - https < 2 << 20);
  },
);

test.serial(
  'a share that is killed in the middle of a large file, and comes back: the reader gets all of it, right',
  async (t) => {
    t.context = await start();
    const { share } = t.context;
    const made = await mount(t.context);
    share.faults = { rate: 1, kinds: ['stall'], stall: 2 };
    let ended = false;
    const reading = checksum(made, 'large').finally(() => {
      ended = true;
    });
    while (!ended && served(made).smb < 2_000_000) await sleep(1);
    share.refuse();
    while (!ended && served(made).https < 1_000_000) await sleep(1);
    share.accept();
    t.is(await reading, expected('large'));
    const { smb, https } = served(made);
    t.true(smb >= 2_000_000 && https > 0, `${smb} by smb, ${https} by https`);
    t.deepEqual(made.stats().session.errors, {});
  },
);

test.serial('a share that is killed during the first read', async (t) => {
  t.context = await start();
  const { share } = t.context;
  const made = await mount(t.context);
  share.faults = { rate: 1, kinds: ['stall'], stall: 30 };
  const reading = checksum(made, 'data/3');
  while (share.bytes === 0) await sleep(1);
  share.refuse();
  t.is(await reading, expected('data/3'));
});

test.serial('a registry that is killed: mounts go on, and what was resolved mounts again', async (t) => {
  t.context = await start();
  const { registry } = t.context;
  const { name, pinned: digested } = registry;
  const made = await mount(t.context);
  await registry.stop();
  for (const path of Object.keys(SMALL)) t.is(await checksum(made, path), expected(path));
  const pinned = await mount(t.context, { image: digested });
  t.is(await checksum(pinned, 'large'), expected('large'), 'blocks come from the source of the other mount');
  const byTag = await mount(t.context, { image: name });
  t.is(await checksum(byTag, 'data/1'), expected('data/1'));
});

test.serial('everything is killed and started again: a reader only waits', async (t) => {
  t.context = await start();
  const { share, web, samba } = t.context;
  const made = await mount(t.context);
  share.refuse();
  web.refuse();
  const reading = checksum(made, 'data/5');
  await samba.kill();
  await sleep(700);
  t.is(made.stats().bytesBySource[`smb://127.0.0.1:${share.port}/images`] ?? 0, 0);
  await samba.launch();
  share.accept();
  web.accept();
  t.is(await reading, expected('data/5'));
  t.deepEqual(made.stats().session.errors, {});
});

for (const refusal of [401, 403]) {
  test.serial(`a token that has expired (${refusal}) is renewed once, through the mount API`, async (t) => {
    t.context = await start();
    const { registry, files } = t.context;
    files.authorization = 'Bearer first';
    const made = await mount(t.context, { transports: ['https'] });
    // The registry offers smb all the same; this host cannot reach it.
    t.context.share.refuse();
    t.is(await checksum(made, 'data/0'), expected('data/0'));
    Object.assign(files, { authorization: 'Bearer second', refusal });
    registry.transports = transports(t.context, { token: 'second' });
    const { questions } = registry;
    for (let i = 1; i < 6; i++) t.is(await checksum(made, `data/${i}`), expected(`data/${i}`));
    t.is(registry.questions, questions + 1);
  });
}

test.serial('a password that the share no longer accepts is renewed through the mount API', async (t) => {
  t.context = await start();
  const { registry, web } = t.context;
  registry.transports = transports(t.context, { password: 'of yesterday' });
  const made = await mount(t.context);
  web.refuse();
  registry.transports = transports(t.context);
  const { questions } = registry;
  t.is(await checksum(made, 'data/0'), expected('data/0'));
  t.is(registry.questions, questions + 1);
  t.is(served(made).https, 0);
});

test.serial(
  'what nobody can serve within the deadline is EIO, and the next read works once a source is back',
  async (t) => {
    t.context = await start({ deadline: 1000 });
    const { share, web } = t.context;
    const made = await mount(t.context);
    share.refuse();
    web.refuse();
    await t.throwsAsync(checksum(made, 'data/7'), { message: /Input\/output error/ });
    web.accept();
    t.is(await checksum(made, 'data/7'), expected('data/7'));
  },
);

test.serial('a mount whose blocks are all cached contacts nobody', async (t) => {
  t.context = await start();
  const { registry, share, web } = t.context;
  const made = await mount(t.context);
  for (const path of Object.keys(FILES)) t.is(await checksum(made, path), expected(path));
  const before = [registry.registry.requests.length, share.connections, web.connections];
  const again = await mount(t.context, { image: registry.pinned });
  for (const path of Object.keys(FILES)) t.is(await checksum(again, path), expected(path));
  t.deepEqual([registry.registry.requests.length, share.connections, web.connections], before);
});

test.serial(
  `no read is wrong while the network cuts, stalls, corrupts and truncates (seed ${SEED})`,
  async (t) => {
    t.log(`ORCA_SEED=${SEED}`);
    t.context = await start({ attemptTimeout: 1000, deadline: 60_000 });
    const { share, web } = t.context;
    const made = await mount(t.context);
    share.faults = { rate: 0.05 };
    web.faults = { rate: 0.05 };
    await Promise.all(
      Object.keys(FILES).map(async (path) => t.is(await checksum(made, path), expected(path), path)),
    );
    t.log(`faults of the share ${JSON.stringify(share.met)}, of the web server ${JSON.stringify(web.met)}`);
    t.deepEqual(made.stats().session.errors, {});
  },
);
