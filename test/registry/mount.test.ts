/** The mount API and the files of the stores, with the expansion service behind them. */
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { parseTeleportArtifact } from '../../src/image/artifact.js';
import { blockDigestsPath, layerPath } from '../../src/image/catalog.js';
import { digestOf } from '../../src/oci/digest.js';
import { MEDIA_TYPE, parseManifest } from '../../src/oci/manifest.js';
import type { RegistryOptions } from '../../src/registry/registry.js';
import { parseMountDescription } from '../../src/source/mount-description.js';
import { tarOf } from '../oci/tar-file.js';
import { expansionOf, layerOf, pushImage, settled, until } from './expansion/images.js';
import { type Answer, errorCodes, json, TestRegistry } from './server-fixture.js';
import { basic, bearer, writeUsers } from './users-fixture.js';

interface Described {
  artifact?: { digest: string };
  sameRegion: boolean;
  transports: { kind: string; url: string; token: string; username: string; password: string }[];
  reason?: string;
  layers: { diffID: string; size: number; links?: { vhd: string; digests: string } }[];
}

const LAYERS = [layerOf('one', Buffer.alloc(300_000, 'one')), layerOf('two', 'two')];
const SHARE = { url: 'smb://127.0.0.1:4455/orca-' };

async function start(
  t: ExecutionContext,
  options: Omit<RegistryOptions, 'data'> = {},
): Promise<TestRegistry> {
  const registry = await TestRegistry.start({ expansion: { workers: 1 }, ...options });
  t.teardown(() => registry.stop());
  return registry;
}

/** Pushes an image and waits until it is expanded; gives its digest. */
async function expanded(registry: TestRegistry, repository: string, layers = LAYERS): Promise<string> {
  const digest = await pushImage(registry, repository, 'v1', layers);
  await settled(expansionOf(registry.registry), repository, digest);
  return digest;
}

async function described(registry: TestRegistry, path: string): Promise<Described> {
  const answer = await registry.send('GET', path);
  if (answer.status !== 200) throw new Error(`${path}: ${answer.status} ${answer.body}`);
  return json(answer) as Described;
}

const kinds = ({ transports }: Described) => transports.map(({ kind }) => kind);
const layerUrl = (repository: string, { diffID }: { diffID: string }) =>
  `/teleport/v1/${repository}/${layerPath(diffID)}`;

test.serial('an expanded image is described as its clients read it', async (t) => {
  const registry = await start(t, { region: 'here', share: SHARE });
  const digest = await expanded(registry, 'team/app');
  const answer = await registry.send('GET', `/mount/v1/team/app/_manifests/${digest}?region=here`);
  t.is(answer.status, 200);
  t.is(answer.headers['cache-control'], 'no-store');
  const description = parseMountDescription(answer.body, new URL(registry.url), 'test');
  t.is(description.manifest.digest, digest);
  t.is(description.region, 'here');
  t.is(description.reason, undefined);
  const artifact = await registry.send('GET', `/v2/team/app/manifests/${description.artifact?.digest}`);
  t.is(artifact.status, 200);
  t.deepEqual(
    description.layers.map(({ diffID, blob }) => [diffID, blob.digest]),
    LAYERS.map(({ diffID, blob }) => [diffID, digestOf(blob)]),
  );
  for (const { diffID, size } of description.layers) {
    const whole = await registry.send('GET', layerUrl('team/app', { diffID }));
    t.is(whole.body.length, size);
  }
  const [smb, https, blob] = description.transports;
  t.true(smb?.kind === 'smb' && /^smb:\/\/127\.0\.0\.1:4455\/orca-[0-9a-f]{16}$/.test(smb.url));
  t.true(https?.kind === 'https' && https.url === `${registry.url}/teleport/v1/team/app/`);
  t.is(blob?.kind, 'blob');
});

test.serial('by tag, and with a slash before the name, the answer is the same', async (t) => {
  const registry = await start(t);
  const digest = await expanded(registry, 'team/app');
  const byDigest = await described(registry, `/mount/v1/team/app/_manifests/${digest}`);
  t.deepEqual(await described(registry, '/mount/v1/team/app/_manifests/v1'), byDigest);
  t.deepEqual(await described(registry, '/mount/v1//team/app/_manifests/v1'), byDigest);
});

test.serial('what is offered depends on where the client is and on what it can use', async (t) => {
  const registry = await start(t, { region: 'here', share: SHARE });
  const path = `/mount/v1/app/_manifests/${await expanded(registry, 'app')}`;
  t.deepEqual(kinds(await described(registry, path)), ['smb', 'https', 'blob']);
  t.deepEqual(kinds(await described(registry, `${path}?transports=https,blob`)), ['https', 'blob']);
  t.deepEqual(kinds(await described(registry, `${path}?transports=blob,future`)), ['blob']);
  t.deepEqual(kinds(await described(registry, `${path}?transports=`)), []);
  const far = await described(registry, `${path}?region=there`);
  t.false(far.sameRegion);
  t.deepEqual(kinds(far), ['blob']);
  t.regex(far.reason ?? '', /the share is in here, and it is in there/);
  t.truthy(far.artifact);
});

test.serial('a registry may want to know where its clients are', async (t) => {
  const registry = await start(t, { region: 'here', requireRegion: true });
  const path = `/mount/v1/app/_manifests/${await expanded(registry, 'app')}`;
  const unknown = await described(registry, path);
  t.deepEqual(kinds(unknown), ['blob']);
  t.regex(unknown.reason ?? '', /does not say where it is/);
  t.deepEqual(kinds(await described(registry, `${path}?region=here`)), ['https', 'blob']);
});

test.serial('a layer that is no tar leaves the blobs, and the reason', async (t) => {
  const registry = await start(t, { share: SHARE });
  const blob = gzipSync(Buffer.from('no tar '.repeat(1000)));
  const digest = await pushImage(registry, 'app', 'v1', [{ blob, diffID: digestOf(Buffer.from('other')) }]);
  await settled(expansionOf(registry.registry), 'app', digest);
  const description = await described(registry, `/mount/v1/app/_manifests/${digest}`);
  t.is(description.artifact, undefined);
  t.deepEqual(kinds(description), ['blob']);
  t.regex(description.reason ?? '', /cannot be expanded: ./);
  t.deepEqual(description.layers, []);
  t.is((await registry.send('GET', `/v2/app/blobs/${digestOf(blob)}`)).status, 200);
});

test.serial(
  'an image that was pushed before its repository was enabled is expanded when it is asked for',
  async (t) => {
    const registry = await start(t, { teleportDefault: false });
    const digest = await pushImage(registry, 'app', '', LAYERS);
    const path = `/mount/v1/app/_manifests/${digest}`;
    const disabled = await registry.send('GET', path);
    t.is(disabled.status, 404);
    t.regex(disabled.body.toString(), /teleportEnabled is false/);
    t.is((await registry.send('PATCH', '/acr/v1/app', { body: '{"teleportEnabled":true}' })).status, 200);
    const expanding = await registry.send('GET', path);
    if (expanding.status === 409) {
      t.deepEqual(errorCodes(expanding), ['EXPANDING']);
      t.is(expanding.headers['retry-after'], '2');
    }
    await settled(expansionOf(registry.registry), 'app', digest);
    t.is((await registry.send('GET', path)).status, 200);
  },
);

test.serial(
  'enabling a repository expands its tagged images; disabling it takes everything back',
  async (t) => {
    const registry = await start(t, { teleportDefault: false, share: SHARE });
    const digest = await pushImage(registry, 'app', 'v1', LAYERS);
    await registry.send('PATCH', '/acr/v1/app', { body: '{"teleportEnabled":true}' });
    await settled(expansionOf(registry.registry), 'app', digest);
    const path = `/mount/v1/app/_manifests/${digest}`;
    const { transports } = await described(registry, path);
    const accounts = () => readFileSync(join(registry.data, 'samba/smbpasswd'), 'utf8');
    t.true(accounts().includes(transports[0]!.username));
    t.is((await registry.send('GET', layerUrl('app', LAYERS[0]!))).status, 200);
    await registry.send('PATCH', '/acr/v1/app', { body: '{"teleportEnabled":false}' });
    t.is((await registry.send('GET', path)).status, 404);
    t.is((await registry.send('GET', layerUrl('app', LAYERS[0]!))).status, 404);
    t.is(accounts(), '');
  },
);

test.serial('what a host asks for next comes with the answer to whoever wants them', async (t) => {
  const registry = await start(t);
  const digest = await expanded(registry, 'app');
  const parsed = async (query: string) => {
    const { body } = await registry.send('GET', `/mount/v1/app/_manifests/v1${query}`);
    return parseMountDescription(body, new URL(registry.url), 'test');
  };
  t.is((await parsed('')).documents, undefined);
  const { artifact, documents = new Map<string, Uint8Array>() } = await parsed('?documents=true');
  const { imageIndex, digestSet } = parseTeleportArtifact(documents.get(artifact?.digest ?? '')!);
  const { config } = parseManifest(documents.get(digest)!);
  t.deepEqual(
    [...documents.keys()].sort(),
    [digest, artifact?.digest, imageIndex.digest, digestSet?.digest, config.digest].sort(),
  );
  for (const [name, bytes] of documents) t.is(digestOf(bytes), name);
  t.deepEqual((await parsed('?documents=true')).documents, documents);

  // What was gathered once is told of to nobody who has not the same image and artifact.
  await expanded(registry, 'other', [layerOf('something else')]);
  const { body } = await registry.send('GET', '/mount/v1/other/_manifests/v1?documents=true');
  const other = parseMountDescription(body, new URL(registry.url), 'test').documents;
  t.is([...(other?.keys() ?? [])].filter((name) => documents.has(name)).length, 0);
  t.is((await registry.send('DELETE', `/v2/app/manifests/${digest}`)).status, 202);
  t.is((await registry.send('GET', `/mount/v1/app/_manifests/${digest}?documents=true`)).status, 404);
});

test.serial('an answer stays as short as clients take it, whatever an image has', async (t) => {
  const registry = await start(t);
  const names = Array.from({ length: 12_000 }, () => ({
    name: randomBytes(40).toString('hex'),
    content: '',
  }));
  const tar = tarOf(names);
  await expanded(registry, 'app', [{ blob: gzipSync(tar), diffID: digestOf(tar) }]);
  const { body } = await registry.send('GET', '/mount/v1/app/_manifests/v1?documents=true');
  const { artifact, documents = new Map<string, Uint8Array>() } = parseMountDescription(
    body,
    new URL(registry.url),
    'test',
  );
  const { imageIndex, packedIndex } = parseTeleportArtifact(documents.get(artifact?.digest ?? '')!);
  t.true(packedIndex !== undefined && packedIndex.size > 576 << 10 && packedIndex.size < 1 << 20);
  t.is(documents.size, 4);
  t.false(documents.has(packedIndex!.digest) || documents.has(imageIndex.digest));
});

test.serial('an index is expanded when its images are', async (t) => {
  const registry = await start(t);
  const digest = await expanded(registry, 'app');
  const size = (await registry.send('GET', `/v2/app/manifests/${digest}`)).body.length;
  const index = JSON.stringify({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.index,
    manifests: [
      { mediaType: MEDIA_TYPE.manifest, digest, size, platform: { os: 'linux', architecture: 'amd64' } },
    ],
  });
  await registry.pushManifest('app', 'all', index, MEDIA_TYPE.index);
  await until(async () => (await registry.send('GET', '/mount/v1/app/_manifests/all')).status !== 409);
  const answer = (await described(registry, '/mount/v1/app/_manifests/all')) as unknown as {
    manifest: { digest: string };
    manifests: unknown[];
  };
  t.is(answer.manifest.digest, digestOf(Buffer.from(index)));
  t.deepEqual(answer.manifests, [{ digest, state: 'expanded' }]);
});

test.serial('questions that are malformed, and about what is not there, are refused', async (t) => {
  const registry = await start(t);
  const digest = await expanded(registry, 'app');
  const artifact = (await described(registry, '/mount/v1/app/_manifests/v1')).artifact?.digest;
  for (const [path, status, code] of [
    [`app/_manifests/${digest}?region=a%0Ab`, 400, 'UNSUPPORTED'],
    [`app/_manifests/${digest}?region=a&region=b`, 400, 'UNSUPPORTED'],
    [`app/_manifests/${digest}?links=maybe`, 400, 'UNSUPPORTED'],
    [`app/_manifests/${digest}?documents=1`, 400, 'UNSUPPORTED'],
    ['app/_manifests/sha256:00', 400, 'DIGEST_INVALID'],
    ['app/_manifests/..%2f', 400, 'DIGEST_INVALID'],
    [`App/_manifests/${digest}`, 400, 'NAME_INVALID'],
    [`a/../app/_manifests/${digest}`, 400, 'NAME_INVALID'],
    [`app/_manifests/${digestOf(Buffer.from('x'))}`, 404, 'MANIFEST_UNKNOWN'],
    ['app/_manifests/unknown', 404, 'MANIFEST_UNKNOWN'],
    [`other/_manifests/${digest}`, 404, 'MANIFEST_UNKNOWN'],
    [`app/_manifests/${artifact}`, 404, 'MANIFEST_UNKNOWN'],
  ] as const) {
    const answer = await registry.send('GET', `/mount/v1/${path}`);
    t.is(answer.status, status, path);
    t.deepEqual(errorCodes(answer), [code], path);
  }
  t.is((await registry.send('PUT', `/mount/v1/app/_manifests/${digest}`)).status, 405);
});

test.serial('who may not pull is told nothing, and tokens are good for one repository', async (t) => {
  const users = writeUsers(t, { admin: '*=*', alice: 'a=pull', bob: 'b=pull', pusher: 'a=push' });
  const registry = await start(t, { users, share: SHARE });
  registry.headers = basic('admin');
  const a = await expanded(registry, 'a', [LAYERS[0]!]);
  const b = await expanded(registry, 'b', [LAYERS[1]!]);
  const ask = async (path: string, headers: Record<string, string>) =>
    (await registry.send('GET', path, { headers })).status;
  const mount = (repository: string, digest: string) => `/mount/v1/${repository}/_manifests/${digest}`;
  t.is(await ask(mount('a', a), basic('alice')), 200);
  t.is(await ask(mount('b', b), basic('alice')), 403);
  t.is(await ask(mount('b', a), basic('alice')), 403);
  t.is(await ask(mount('a', b), basic('alice')), 404);
  t.is(await ask(mount('a', a), basic('pusher')), 403);
  t.is(await ask(mount('a', a), basic('alice', 'wrong')), 401);
  t.is(await ask(mount('a', a), bearer('x.y.z')), 401);
  registry.headers = {};
  const nobody = await registry.send('GET', mount('a', a));
  t.is(nobody.status, 401);
  t.regex(nobody.headers['www-authenticate'] ?? '', /scope="repository:a:pull"/);

  registry.headers = basic('alice');
  const { transports } = await described(registry, mount('a', a));
  registry.headers = {};
  const token = bearer(transports.find(({ kind }) => kind === 'https')!.token);
  t.is(await ask(layerUrl('a', LAYERS[0]!), token), 200);
  t.is(await ask(layerUrl('a', LAYERS[1]!), token), 404);
  t.is(await ask(layerUrl('b', LAYERS[1]!), token), 403);
  t.is(await ask(layerUrl('b', LAYERS[1]!), basic('alice')), 403);
  t.is(await ask(layerUrl('a', LAYERS[0]!), {}), 401);
  // It gives no other token and no blob.
  t.is(await ask(mount('a', a), token), 401);
  t.is(await ask(`/v2/a/manifests/${a}`, token), 401);
});

test.serial('files of a store come whole, in parts, or not again', async (t) => {
  const registry = await start(t);
  await expanded(registry, 'app');
  const url = layerUrl('app', LAYERS[0]!);
  const get = (headers: Record<string, string> = {}, method = 'GET'): Promise<Answer> =>
    registry.send(method, url, { headers });
  const whole = await get();
  const { etag = '' } = whole.headers;
  const size = whole.body.length;
  t.is(whole.status, 200);
  t.regex(etag, /^"vhd-[0-9a-f]{64}"$/);
  const digests = await registry.send('GET', `/teleport/v1/app/${blockDigestsPath(LAYERS[0]!.diffID)}`);
  t.is(etag, `"vhd-${createHash('sha256').update(digests.body).digest('hex')}"`);

  const part = await get({ range: 'bytes=1000-1999' });
  t.is(part.status, 206);
  t.is(part.headers['content-range'], `bytes 1000-1999/${size}`);
  t.deepEqual(part.body, whole.body.subarray(1000, 2000));
  t.is((await get({ range: 'bytes=0-0', 'if-range': etag })).status, 206);
  t.is((await get({ range: 'bytes=0-0', 'if-range': '"other"' })).status, 200);
  t.is((await get({ 'if-none-match': `W/"x", ${etag}` })).status, 304);
  const beyond = await get({ range: `bytes=${size}-` });
  t.is(beyond.status, 416);
  t.is(beyond.headers['content-range'], `bytes */${size}`);
  const head = await get({ range: 'bytes=0-0' }, 'HEAD');
  t.is(head.status, 200);
  t.is(head.headers['content-length'], `${size}`);

  const several = await get({ range: `bytes=0-9,2000-2999,-512` });
  t.is(several.status, 206);
  const [, boundary = ''] =
    /^multipart\/byteranges; boundary=(\w+)$/.exec(several.headers['content-type'] ?? '') ?? [];
  const wanted = [
    [0, 9],
    [2000, 2999],
    [size - 512, size - 1],
  ].flatMap(([first, last], i) => [
    Buffer.from(
      `${i === 0 ? '' : '\r\n'}--${boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes ${first}-${last}/${size}\r\n\r\n`,
    ),
    whole.body.subarray(first, last! + 1),
  ]);
  t.deepEqual(several.body, Buffer.concat([...wanted, Buffer.from(`\r\n--${boundary}--\r\n`)]));
});

test.serial('the catalog of a store is read anew, and its blobs are what their digests say', async (t) => {
  const registry = await start(t);
  await expanded(registry, 'app');
  const before = await registry.send('GET', '/teleport/v1/app/images/index.json');
  t.is(before.headers['cache-control'], 'private, no-cache');
  t.is((await registry.send('GET', '/teleport/v1/app/orca.json')).body.toString(), '{"version":1}\n');
  await expanded(registry, 'app', [layerOf('three')]);
  const after = await registry.send('GET', '/teleport/v1/app/images/index.json');
  t.not(after.headers.etag, before.headers.etag);
  const [{ digest }] = (json(after) as { manifests: [{ digest: string }] }).manifests;
  const blob = await registry.send('GET', `/teleport/v1/app/images/blobs/${digest.replace(':', '/')}`);
  t.is(digestOf(blob.body), digest);
  t.is(blob.headers.etag, `"${digest}"`);
});

test.serial('paths that are none of a store are not found, whatever they are made of', async (t) => {
  const registry = await start(t);
  await expanded(registry, 'app');
  await expanded(registry, 'b', [layerOf('of b')]);
  const { hex } = { hex: LAYERS[0]!.diffID.slice('sha256:'.length) };
  for (const path of [
    'locks/index.lock',
    'layers/sha256/',
    `layers/sha256/${hex}`,
    `layers/sha256/${hex.toUpperCase()}.vhd`,
    `layers/sha256/${hex}.VHD`,
    `layers/sha256/${hex}.vhd/`,
    `layers/sha256/${hex}.vhd%00`,
    `layers/sha256/..%2f..%2f..%2fb%2forca.json`,
    `layers/sha256/%2e%2e`,
    'layers/../orca.json',
    `images/blobs/sha256/${hex}`,
    'images/blobs/../index.json',
    'images/blobs/%2e%2e/index.json',
    '../b/orca.json',
    '..%2fb/orca.json',
    '%2e%2e/b/orca.json',
    '/orca.json',
    '/etc/passwd',
    `layers/sha256/${layerOf('of b').diffID.slice('sha256:'.length)}.vhd`,
  ]) {
    const answer = await registry.send('GET', `/teleport/v1/app/${path}`);
    t.true([400, 404].includes(answer.status), `${path}: ${answer.status}`);
    t.true(['BLOB_UNKNOWN', 'NAME_INVALID', 'UNSUPPORTED'].includes(errorCodes(answer)[0] ?? ''), path);
  }
  t.is((await registry.send('DELETE', layerUrl('app', LAYERS[0]!))).status, 405);
});

test.serial(
  'signed links let in without credentials: to one file, for a time, until the key is another',
  async (t) => {
    const users = writeUsers(t, { admin: '*=*' });
    const registry = await start(t, { users });
    registry.headers = basic('admin');
    const digest = await expanded(registry, 'a', [LAYERS[0]!]);
    await expanded(registry, 'b', [LAYERS[0]!]);
    const { layers } = await described(registry, `/mount/v1/a/_manifests/${digest}?links=true`);
    t.is((await described(registry, `/mount/v1/a/_manifests/${digest}`)).layers[0]?.links, undefined);
    registry.headers = {};
    const { links } = layers[0]!;
    const link = new URL(links!.vhd);
    const get = async (path: string) => (await registry.send('GET', path)).status;
    t.is(await get(link.pathname + link.search), 200);
    const part = await registry.send('GET', link.pathname + link.search, { headers: { range: 'bytes=0-9' } });
    t.is(part.status, 206);
    t.is(await get(new URL(links!.digests).pathname + new URL(links!.digests).search), 200);
    t.is(await get(link.pathname), 401);
    t.is(await get(link.pathname.replace('/a/', '/b/') + link.search), 403);
    t.is(await get(link.pathname.replace('.vhd', '.digests') + link.search), 403);
    t.is(await get(`${link.pathname}?expires=1&signature=${link.searchParams.get('signature')}`), 403);
    t.is(await get(`${link.pathname}${link.search}x`), 403);
    t.is(await get(`${link.pathname}${link.search}&signature=x`), 400);
    t.is(await get(`${link.pathname}?signature=${'A'.repeat(43)}`), 403);
  },
);
