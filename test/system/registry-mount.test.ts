/**
 * Access per repository, by every way to a layer: SMB with a real smbd, HTTPS ranges, the mount API. What is one
 * repository's cannot be read with what was given for another one, also by who knows the digest.
 */
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { layerPath } from '../../src/image/catalog.js';
import { RegistryCredentials } from '../../src/oci/credentials.js';
import { parseReference } from '../../src/oci/reference.js';
import { RegistryClient } from '../../src/oci/registry-client.js';
import { rotatePasswords } from '../../src/registry/samba-config.js';
import { SmbClient } from '../../src/smb/client.js';
import { parseSmbUrl } from '../../src/smb/url.js';
import { openRegistryImage } from '../../src/source/registry-image.js';
import { expansionOf, layerOf, pushImage, settled, type TestLayer } from '../registry/expansion/images.js';
import { json, TestRegistry } from '../registry/server-fixture.js';
import { basic, bearer, PASSWORD, writeUsers } from '../registry/users-fixture.js';
import { freePort } from './free-port.js';
import { ShareServer } from './share-server.js';

interface Mount {
  transports: { kind: string; url: string; username: string; password: string; token: string }[];
  layers: { links: { vhd: string } }[];
}

const ofA = layerOf('a', randomBytes(400_000));
const ofB = layerOf('b', randomBytes(400_000));
const digests: Record<string, string> = {};
const cleanups: (() => void)[] = [];
let registry: TestRegistry;
let shares: ShareServer;
let port: number;

async function push(repository: string, layer: TestLayer): Promise<void> {
  registry.headers = basic('admin');
  digests[repository] = await pushImage(registry, repository, 'v1', [layer]);
  await settled(expansionOf(registry.registry), repository, digests[repository]);
  registry.headers = {};
}

async function mount(user: string, repository: string): Promise<Mount> {
  const path = `/mount/v1/${repository}/_manifests/${digests[repository]}?links=true`;
  const answer = await registry.send('GET', path, { headers: basic(user) });
  if (answer.status !== 200) throw new Error(`mount of ${repository}: ${answer.status} ${answer.body}`);
  return json(answer) as Mount;
}

async function account(user: string, repository: string) {
  const { url, username, password } = (await mount(user, repository)).transports.find(
    ({ kind }) => kind === 'smb',
  )!;
  return { ...parseSmbUrl(url), credentials: { username, password } };
}

type Account = Awaited<ReturnType<typeof account>>;

/** Connects to a share with an account and reads a file; rejects with SmbError. */
async function read({ host, port: at, share, credentials }: Account, path: string): Promise<Buffer> {
  const client = await SmbClient.connect({ host, port: at, share, credentials, encryption: 'required' });
  try {
    const file = await client.open(path);
    return Buffer.from(await file.read(0, file.size));
  } finally {
    await client.close();
  }
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

test.before(async () => {
  port = await freePort();
  const users = writeUsers(
    { teardown: (action) => cleanups.push(action) },
    { admin: '*=*', alice: 'team/a=pull', bob: 'team/b=pull late=pull' },
  );
  registry = await TestRegistry.start({
    users,
    expansion: { workers: 1 },
    share: { url: `smb://127.0.0.1:${port}/orca-` },
  });
  shares = await ShareServer.start(registry.data, port);
  await push('team/a', ofA);
  await push('team/b', ofB);
});
test.after.always(async () => {
  await shares?.stop();
  await registry?.stop();
  for (const action of cleanups) action();
});

test.serial('the account of a repository reads its layers by SMB, and those of no other', async (t) => {
  const a = await account('alice', 'team/a');
  const b = await account('bob', 'team/b');
  const { body: expected } = await registry.send('GET', `/teleport/v1/team/a/${layerPath(ofA.diffID)}`, {
    headers: basic('alice'),
  });
  t.is(sha256(await read(a, layerPath(ofA.diffID))), sha256(expected));
  t.true((await read(b, layerPath(ofB.diffID))).length > 400_000);

  // Its own account, the other share; its own share, the other's layer.
  await t.throwsAsync(read({ ...a, share: b.share }, layerPath(ofB.diffID)), {
    message: /ACCESS_DENIED|denied/i,
  });
  await t.throwsAsync(read(a, layerPath(ofB.diffID)), { message: /NOT_FOUND|does not exist|not found/i });
  for (const path of [
    `../team+b/${layerPath(ofB.diffID)}`,
    `..\\team+b\\${layerPath(ofB.diffID).replaceAll('/', '\\')}`,
    '../../samba/smbpasswd',
  ]) {
    await t.throwsAsync(read(a, path));
  }
  // Another's name with its own password, a wrong password, nobody, and accounts of the machine.
  const as = (username: string, password: string) => ({ ...b, credentials: { username, password } });
  await t.throwsAsync(read(as(b.credentials.username, a.credentials.password), 'orca.json'));
  await t.throwsAsync(read(as(b.credentials.username, ''), 'orca.json'));
  await t.throwsAsync(read(as('', ''), 'orca.json'));
  await t.throwsAsync(read(as('root', a.credentials.password), 'orca.json'));
  for (const share of ['IPC$', 'homes', 'root', 'nobody', 'team+b', 'shares']) {
    await t.throwsAsync(read({ ...a, share }, layerPath(ofB.diffID)), undefined, share);
  }
});

test.serial('a link that leads out of the share is not followed', async (t) => {
  const a = await account('alice', 'team/a');
  const store = expansionOf(registry.registry).sharePath('team/a');
  const other = expansionOf(registry.registry).sharePath('team/b');
  await symlink(join(other, layerPath(ofB.diffID)), join(store, 'layers/link'));
  await symlink(other, join(store, 'other'));
  t.teardown(() => {
    rmSync(join(store, 'layers/link'));
    rmSync(join(store, 'other'));
  });
  await t.throwsAsync(read(a, 'layers/link'));
  await t.throwsAsync(read(a, `other/${layerPath(ofB.diffID)}`));
});

test.serial('by HTTPS and by the mount API, too, nobody gets beyond what they may pull', async (t) => {
  const a = await mount('alice', 'team/a');
  const token = bearer(a.transports.find(({ kind }) => kind === 'https')!.token);
  const status = async (path: string, headers: Record<string, string>) =>
    (await registry.send('GET', path, { headers: { range: 'bytes=0-99', ...headers } })).status;
  const file = (repository: string, { diffID }: TestLayer) =>
    `/teleport/v1/${repository}/${layerPath(diffID)}`;
  t.is(await status(file('team/a', ofA), token), 206);
  t.is(await status(file('team/b', ofB), token), 403);
  t.is(await status(file('team/a', ofB), token), 404);
  t.is(await status(file('team/b', ofB), basic('alice')), 403);
  t.is(await status(file('team/a', ofB), basic('alice')), 404);
  t.is(await status(file('team/b', ofB), {}), 401);
  t.is(await status(`/mount/v1/team/b/_manifests/${digests['team/b']}`, basic('alice')), 403);
  t.is(await status(`/mount/v1/team/b/_manifests/${digests['team/b']}`, token), 403);
  t.is(await status(`/mount/v1/team/a/_manifests/${digests['team/b']}`, basic('alice')), 404);

  const link = new URL(a.layers[0]!.links.vhd);
  t.is(await status(link.pathname + link.search, {}), 206);
  t.is(await status(file('team/b', ofB) + link.search, {}), 403);
  t.is(await status(file('team/b', ofA) + link.search, {}), 403);
  t.is(await status(file('team/a', ofB) + link.search, {}), 403);
  const expires = Number(link.searchParams.get('expires'));
  const changed = `?expires=${expires + 3600}&signature=${link.searchParams.get('signature')}`;
  t.is(await status(link.pathname + changed, {}), 403);
});

test.serial('who claims a layer of another repository gets neither its content nor its name', async (t) => {
  registry.headers = basic('admin');
  // The config says that the layer is B's; what is pushed is another one.
  const digest = await pushImage(registry, 'team/a', 'claim', [
    { blob: layerOf('x').blob, diffID: ofB.diffID },
  ]);
  const { state } = await settled(expansionOf(registry.registry), 'team/a', digest);
  registry.headers = {};
  t.is(state, 'failed');
  const path = `/teleport/v1/team/a/${layerPath(ofB.diffID)}`;
  t.is((await registry.send('GET', path, { headers: basic('alice') })).status, 404);
  await t.throwsAsync(read(await account('alice', 'team/a'), layerPath(ofB.diffID)));
});

test.serial(
  'a repository that is new has its share at once, and a rotated password counts at once',
  async (t) => {
    await push('late', layerOf('late', randomBytes(10_000)));
    const late = await account('bob', 'late');
    t.is((await read(late, 'orca.json')).toString(), '{"version":1}\n');
    t.deepEqual(await rotatePasswords(registry.data, 'late'), ['late']);
    await t.throwsAsync(read(late, 'orca.json'));
    const now = await account('bob', 'late');
    t.not(now.credentials.password, late.credentials.password);
    t.is((await read(now, 'orca.json')).toString(), '{"version":1}\n');
  },
);

test.serial('the client mounts from the share what the mount API tells it', async (t) => {
  const cacheDir = mkdtempSync(join(tmpdir(), 'orca-mount-cache-'));
  const client = new RegistryClient({
    credentials: async () => new RegistryCredentials({ username: 'alice', password: PASSWORD }),
  });
  t.teardown(async () => {
    await client.close();
    rmSync(cacheDir, { recursive: true });
  });
  const opened = await openRegistryImage({
    client,
    reference: parseReference(`${registry.host}/team/a:v1`),
    cacheDir,
  });
  if (opened.state !== 'ready') throw new Error(`the image is ${JSON.stringify(opened)}`);
  t.deepEqual(opened.passedOver, []);
  t.deepEqual(
    opened.sources.map(({ kind }) => kind),
    ['smb', 'https', 'blob'],
  );
  const [device] = opened.image.devices;
  for (const source of opened.sources) {
    const layer = await source.openLayer(device!.diffID);
    t.true(
      device!.digests.verify(0, await layer.read(0, Math.min(device!.digests.blockSize, device!.size))),
      source.kind,
    );
    await layer.close();
    await source.close();
  }
});

test.serial('disabling a repository closes its share', async (t) => {
  const b = await account('bob', 'team/b');
  t.is((await read(b, 'orca.json')).length, 14);
  const body = '{"teleportEnabled":false}';
  t.is((await registry.send('PATCH', '/acr/v1/team/b', { headers: basic('admin'), body })).status, 200);
  await t.throwsAsync(read(b, 'orca.json'));
});
