import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect } from 'node:util';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { OrcaError } from '../../src/errors.js';
import { blobPath } from '../../src/image/catalog.js';
import { RegistryCredentials } from '../../src/oci/credentials.js';
import { type Descriptor, encodeIndex, MEDIA_TYPE, parseManifest } from '../../src/oci/manifest.js';
import { parseReference } from '../../src/oci/reference.js';
import { RegistryClient } from '../../src/oci/registry-client.js';
import type { TransportKind } from '../../src/source/mount-description.js';
import {
  openRegistryImage,
  type PullPolicy,
  type ReadyImage,
  type RegistryImage,
} from '../../src/source/registry-image.js';
import { log } from '../../src/telemetry/logger.js';
import { CERTIFICATES, FakeRegistry, sendError, startProxy, TokenService } from '../oci/fake-registry.js';
import { FileServer } from './file-server.js';
import { addImage, content, type TestImage } from './store-fixture.js';

interface Context {
  directory: string;
  store: string;
  image: TestImage;
  manifest: Descriptor;
  registry: FakeRegistry;
  files: FileServer;
  client: RegistryClient;
  answer: Answer;
  sources: { close(): Promise<void> }[];
  warnings: string[];
}

/** What the mount API answers. */
interface Answer {
  status: number;
  body: unknown;
  type?: string;
}

const test = anyTest as TestFn<Context>;

test.beforeEach(async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'orca-registry-image-'));
  const store = join(directory, 'store');
  const image = await addImage(store, 'app:1', [
    { 'bin/one': content('one', 100_000) },
    { 'bin/two': content('two', 50_000) },
  ]);
  const registry = await FakeRegistry.start();
  const manifest = await publish(registry, store, image);
  const files = await FileServer.start(store);
  const client = new RegistryClient({ credentials: async () => undefined });
  const answer: Answer = { status: 200, body: description(manifest, image, files.url) };
  t.context = {
    directory,
    store,
    image,
    manifest,
    registry,
    files,
    client,
    answer,
    sources: [],
    warnings: [],
  };
  serveMountApi(t.context, registry);
});

test.afterEach.always(async (t) => {
  const { client, registry, files, directory, sources } = t.context;
  for (const source of sources) await source.close();
  await client.close();
  await registry.stop();
  await files.stop();
  await rm(directory, { recursive: true });
});

/** Puts an image of a store, with its teleport artifact, into a registry, as the tag `1`. */
async function publish(registry: FakeRegistry, store: string, image: TestImage): Promise<Descriptor> {
  const bytes = await readFile(join(store, blobPath(image.manifestDigest)));
  const artifact = await readFile(join(store, blobPath(image.artifact.digest)));
  registry.addManifest(MEDIA_TYPE.manifest, artifact);
  for (const { digest } of [parseManifest(bytes).config, image.imageIndex, ...image.digests]) {
    registry.blobs.set(digest, await readFile(join(store, blobPath(digest))));
  }
  return registry.addManifest(MEDIA_TYPE.manifest, bytes, '1');
}

function description(manifest: Descriptor, image: TestImage, url: string, token = 'hunter2') {
  return {
    manifest,
    artifact: image.artifact,
    region: 'here',
    sameRegion: true,
    transports: [
      { kind: 'smb', url: 'smb://127.0.0.1:1/share/app', username: 'me', password: 'hunter2' },
      { kind: 'carrier-pigeon', url: 'x' },
      { kind: 'https', url, token, expiresAt: new Date(Date.now() + 600_000).toISOString() },
      { kind: 'blob' },
    ],
    layers: image.layers.map(({ digests, bytes }) => ({
      diffID: digests.diffID,
      size: bytes.length,
      blob: { mediaType: MEDIA_TYPE.layerGzip, digest: digests.diffID, size: 1 },
    })),
  };
}

function serveMountApi(context: Pick<Context, 'answer'>, registry: FakeRegistry): void {
  const inner = registry.fault;
  registry.fault = async (request, response) => {
    if (await inner?.(request, response)) return true;
    if (!request.url?.startsWith('/mount/')) return false;
    const { status, body, type = 'application/json' } = context.answer;
    response.writeHead(status, { 'content-type': type });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
    return true;
  };
}

function open(
  t: ExecutionContext<Context>,
  suffix = ':1',
  client = t.context.client,
  options: { pull?: PullPolicy; transports?: TransportKind[] } = {},
): Promise<RegistryImage> {
  const { registry, directory } = t.context;
  const reference = parseReference(`${registry.host}/app${suffix}`);
  const cacheDir = join(directory, 'cache');
  const logger = { ...log, warn: (message: string) => void t.context.warnings.push(message) };
  return openRegistryImage({ client, reference, cacheDir, region: 'here', logger, ...options });
}

async function openReady(
  t: ExecutionContext<Context>,
  suffix?: string,
  client?: RegistryClient,
): Promise<ReadyImage> {
  const opened = await open(t, suffix, client);
  if (opened.state !== 'ready') throw new Error(`state ${opened.state}`);
  t.context.sources.push(...opened.sources);
  return opened;
}

async function failure(promise: Promise<unknown>): Promise<OrcaError> {
  const error = await promise.then(
    () => new Error('it did not fail'),
    (reason) => reason,
  );
  if (!(error instanceof OrcaError)) throw error;
  return error;
}

test('an image that the registry has expanded comes with its sources in order', async (t) => {
  const { image, manifest, files, registry } = t.context;
  const opened = await openReady(t);
  t.is(opened.manifestDigest, manifest.digest);
  t.deepEqual(
    opened.image.devices.map(({ diffID, size }) => [diffID, size]),
    image.layers.map(({ digests, bytes }) => [digests.diffID, bytes.length]),
  );
  t.deepEqual(
    opened.sources.map(({ kind, location }) => [kind, location]),
    [
      ['smb', 'smb://127.0.0.1:1/share/app'],
      ['https', files.url.slice(0, -1)],
    ],
  );
  t.deepEqual(opened.passedOver, []);
  t.is(
    registry.seen('/mount/')[0]?.url,
    '/mount/v1/app/_manifests/1?region=here&transports=smb%2Chttps%2Cblob&documents=true',
  );
  files.authorization = 'Bearer hunter2';
  const [layer] = image.layers;
  const handle = await opened.sources[1]!.openLayer(layer!.digests.diffID);
  t.deepEqual(Buffer.from(await handle.read(1000, 5000)), layer!.bytes.subarray(1000, 6000));
  t.false(inspect(opened, { depth: 12, showHidden: true }).includes('hunter2'));
});

test('what was loaded before is not fetched again', async (t) => {
  const { registry } = t.context;
  await openReady(t);
  const before = registry.requests.length;
  await openReady(t);
  t.deepEqual(
    registry.requests
      .slice(before)
      .map(({ method, url }) => `${method} ${url.split('?')[0]}`)
      .sort(),
    ['GET /mount/v1/app/_manifests/1', 'HEAD /v2/app/manifests/1'],
  );
  t.false(registry.seen('/mount/').at(-1)?.url.includes('documents'));
});

test('manifests that come with the answer are not asked for, and verified like any other', async (t) => {
  const { registry, store, manifest, image, answer } = t.context;
  const documents = await Promise.all(
    [manifest.digest, image.artifact.digest].map(async (digest) => ({
      digest,
      content: (await readFile(join(store, blobPath(digest)))).toString('base64'),
    })),
  );
  const body = answer.body as object;
  answer.body = { ...body, documents: [documents[0], { ...documents[1], content: documents[0]!.content }] };
  t.is((await failure(open(t))).code, 'SIZE_MISMATCH');
  answer.body = { ...body, documents };
  const before = registry.requests.length;
  const opened = await openReady(t);
  t.is(opened.description.documents, undefined);
  const asked = registry.requests.slice(before).map(({ method, url }) => `${method} ${url}`);
  t.false(asked.some((one) => one.startsWith('GET /v2/app/manifests/')));
});

test('the share is connected to while an image that is new to the host is put together, and not for one that it has', async (t) => {
  const { answer } = t.context;
  let connections = 0;
  const share = createServer((socket) => {
    connections += 1;
    socket.destroy();
  });
  await new Promise<void>((resolve) => share.listen(0, '127.0.0.1', resolve));
  t.teardown(() => share.close());
  const { port } = share.address() as AddressInfo;
  const url = `smb://127.0.0.1:${port}/share/app`;
  answer.body = {
    ...(answer.body as object),
    transports: [{ kind: 'smb', url, username: 'a', password: 'b' }],
  };
  await openReady(t);
  while (connections === 0) await sleep(5);
  const before = connections;
  await openReady(t);
  await sleep(200);
  t.is(connections, before);
});

test('a tag that moves while it is asked about is asked about again, by its digest', async (t) => {
  const { registry, manifest, answer } = t.context;
  const good = answer.body as object;
  const serve = registry.fault;
  let questions = 0;
  registry.fault = (request, response) => {
    if (request.url?.startsWith('/mount/')) {
      questions += 1;
      const other = { ...manifest, digest: `sha256:${'0'.repeat(64)}` };
      answer.body = questions === 1 ? { ...good, manifest: other } : good;
    }
    return serve?.(request, response) ?? false;
  };
  t.is((await openReady(t)).manifestDigest, manifest.digest);
  t.regex(registry.seen('/mount/')[1]!.url, new RegExp(manifest.digest));
  t.is(questions, 2);
});

test('an index leads to the manifest of the platform, which is what the mount API is asked for', async (t) => {
  const { registry, manifest } = t.context;
  const platform = { os: 'linux', architecture: 'amd64' };
  const manifests = [{ ...manifest, platform }];
  registry.addManifest(MEDIA_TYPE.index, encodeIndex({ mediaType: MEDIA_TYPE.index, manifests }), 'multi');
  t.is((await openReady(t, ':multi')).manifestDigest, manifest.digest);
  t.is((await openReady(t, `:none@${manifest.digest}`)).manifestDigest, manifest.digest);
});

test('an image that is still being expanded says how far it is', async (t) => {
  const { answer } = t.context;
  answer.status = 409;
  const layers = [
    { diffID: 'sha256:x', status: 'done' },
    { digest: 'sha256:y', status: 'failed', reason: 'no tar' },
  ];
  answer.body = { errors: [{ code: 'EXPANDING', message: 'wait', detail: { layers } }] };
  const opened = await open(t);
  t.is(opened.state, 'expanding');
  if (opened.state !== 'expanding') return;
  t.deepEqual(opened.layers, [
    { diffID: 'sha256:x', digest: undefined, status: 'done', reason: undefined },
    { diffID: undefined, digest: 'sha256:y', status: 'failed', reason: 'no tar' },
  ]);
  for (const body of ['', '[]', { errors: [{ code: 'EXPANDING', detail: { layers: 'odd' } }] }]) {
    answer.body = body;
    t.is((await open(t)).state, 'expanding');
  }
});

test('a registry that does not teleport is told apart from one that refuses', async (t) => {
  const { answer, manifest } = t.context;
  const error = (code: string) => ({ errors: [{ code, message: 'm' }] });
  for (const [status, body, type] of [
    [404, error('NAME_UNKNOWN'), undefined],
    [404, 'page not found', 'text/plain'],
    [405, '', 'text/plain'],
    [401, 'Not Authorized', 'text/plain'],
    [403, '<html>', 'text/html'],
    [200, '<html>user interface</html>', 'text/html'],
  ] as const) {
    Object.assign(answer, { status, body, type });
    const opened = await open(t);
    t.is(opened.state, 'not-enabled', `${status}`);
    t.is(opened.manifestDigest, manifest.digest);
  }
  Object.assign(answer, { status: 403, body: error('DENIED'), type: undefined });
  t.is((await failure(open(t))).code, 'DENIED');
});

test('a mount without an artifact says why', async (t) => {
  const { answer, manifest } = t.context;
  answer.body = { manifest, transports: [{ kind: 'blob' }], reason: 'layer 2 is no tar', layers: [] };
  const opened = await open(t);
  t.is(opened.state, 'no-artifact');
  t.is(opened.state === 'no-artifact' ? opened.reason : '', 'layer 2 is no tar');
});

test('answers that are malformed or about something else are refused', async (t) => {
  const { answer, manifest, image, files } = t.context;
  const good = description(manifest, image, files.url);
  const other = { ...manifest, digest: `sha256:${'0'.repeat(64)}` };
  for (const [body, code] of [
    ['{', 'PROTOCOL'],
    ['[]', 'PROTOCOL'],
    [{}, 'PROTOCOL'],
    [{ ...good, manifest: other }, 'PROTOCOL'],
    [{ ...good, transports: [{}] }, 'PROTOCOL'],
    [{ ...good, transports: [{ kind: 'https', url: 'http://[' }] }, 'PROTOCOL'],
    [{ ...good, transports: [{ kind: 'https', url: '/x', token: 'a\r\nb' }] }, 'PROTOCOL'],
    [{ ...good, transports: [{ kind: 'https', url: '/x', expiresAt: 'soon' }] }, 'PROTOCOL'],
    [{ ...good, layers: [{ diffID: 'x' }] }, 'PROTOCOL'],
    [{ ...good, artifact: manifest }, 'INVALID_ARTIFACT'],
    [{ ...good, artifact: { ...image.artifact, size: 1 } }, 'SIZE_MISMATCH'],
    [JSON.stringify({ padding: 'x'.repeat(2 << 20) }), 'TOO_LARGE'],
  ] as const) {
    answer.body = body;
    const error = await failure(open(t));
    t.is(error.code, code, `${JSON.stringify(body).slice(0, 200)}: ${error.message}`);
  }
});

test('a blob that is not what the artifact says is refused', async (t) => {
  const { registry, image } = t.context;
  const wrong = Buffer.from(registry.blobs.get(image.imageIndex.digest)!);
  wrong[2000]! ^= 1;
  registry.blobs.set(image.imageIndex.digest, wrong);
  t.is((await failure(open(t))).code, 'DIGEST_MISMATCH');
});

test('a transport that cannot be used is passed over with its reason', async (t) => {
  const { answer, manifest, image } = t.context;
  const transports = [
    { kind: 'smb', url: 'smb://me:hunter2@/' },
    { kind: 'https', url: 'http://elsewhere.example/store' },
    { kind: 'https', url: '/store', token: 'x' },
  ];
  answer.body = { ...description(manifest, image, ''), transports };
  const opened = await openReady(t);
  t.deepEqual(
    opened.sources.map(({ location }) => location),
    [`${t.context.registry.url}/store`],
  );
  t.deepEqual(
    opened.passedOver.map(({ kind }) => kind),
    ['smb', 'https'],
  );
  t.false(JSON.stringify(opened.passedOver).includes('hunter2'));
});

test('a registry elsewhere cannot name addresses of this host', async (t) => {
  const { answer, manifest, image, store, directory } = t.context;
  const tls = await FakeRegistry.start({ tls: true });
  const proxy = await startProxy(tls.port);
  await publish(tls, store, image);
  serveMountApi(t.context, tls);
  const transports = [
    { kind: 'smb', url: 'smb://localhost/share' },
    { kind: 'https', url: 'https://169.254.169.254/' },
    { kind: 'https', url: 'https://storage.test/store' },
  ];
  answer.body = { ...description(manifest, image, ''), transports };
  const env = { https_proxy: proxy.url };
  const client = new RegistryClient({
    env,
    caFile: join(CERTIFICATES, 'ca.crt'),
    credentials: async () => undefined,
  });
  const reference = parseReference('registry.test/app:1');
  const opened = await openRegistryImage({ client, reference, cacheDir: join(directory, 'cache') });
  t.deepEqual(opened.state === 'ready' && opened.sources.map(({ location }) => location), [
    'https://storage.test/store',
  ]);
  await client.close();
  await proxy.stop();
  await tls.stop();
});

test('the token of a store is renewed through the mount API, when it is refused and before it expires', async (t) => {
  const { answer, manifest, image, files, registry } = t.context;
  const opened = await openReady(t);
  const layer = await opened.sources[1]!.openLayer(image.layers[0]!.digests.diffID);
  files.authorization = 'Bearer second';
  answer.body = description(manifest, image, files.url, 'second');
  const reads = Array.from({ length: 20 }, (_, i) => layer.read(i * 100, 100));
  t.is((await Promise.all(reads)).length, 20);
  t.is(registry.seen('/mount/').length, 2);

  const soon = description(manifest, image, files.url, 'second');
  const expiresAt = new Date(Date.now() + 10_000).toISOString();
  answer.body = { ...soon, transports: soon.transports.map((one) => ({ ...one, expiresAt })) };
  const next = await openReady(t);
  answer.body = description(manifest, image, files.url, 'third');
  files.authorization = 'Bearer third';
  t.true((await next.sources[1]!.readFile('orca.json', 100)).length > 0);
  t.true(files.requests.at(-1)?.includes('orca.json'));
});

test('a store whose image is no longer enabled is ACCESS_DENIED; the registry away, retryable', async (t) => {
  const { answer, image, files, registry } = t.context;
  const opened = await openReady(t);
  const layer = await opened.sources[1]!.openLayer(image.layers[0]!.digests.diffID);
  files.authorization = 'Bearer other';
  answer.status = 404;
  t.is((await failure(layer.read(0, 1))).code, 'ACCESS_DENIED');
  registry.fault = (_, response) => {
    sendError(response, 503, 'UNAVAILABLE', 'restarting', { 'retry-after': '3600' });
    return true;
  };
  t.is((await open(t)).state, 'ready');
  t.true((await failure(open(t, ':1', t.context.client, { pull: 'always' }))).retryable);
});

test('an image that was opened before opens without the registry: by digest silently, by tag with a warning', async (t) => {
  const { image, manifest, files, registry, warnings } = t.context;
  const byDigest = `@${manifest.digest}`;
  t.is((await failure(open(t, ':1', undefined, { pull: 'never' }))).code, 'NOT_FOUND');
  await openReady(t);
  const before = registry.requests.length;
  const pinned = await openReady(t, byDigest);
  t.is(registry.requests.length, before);
  t.is(pinned.image.manifestDigest, manifest.digest);
  t.is((await open(t, ':1', undefined, { pull: 'never' })).state, 'ready');
  t.is(registry.requests.length, before);
  t.deepEqual(warnings, []);

  registry.fault = (_, response) => {
    sendError(response, 503, 'UNAVAILABLE', 'restarting', { 'retry-after': '3600' });
    return true;
  };
  t.is((await openReady(t)).manifestDigest, manifest.digest);
  t.is(warnings.length, 1);
  t.regex(
    warnings[0] ?? '',
    new RegExp(`resolved on 20.*, to ${manifest.digest}: the registry cannot be reached`),
  );

  // Its first read asks for what the record does not hold: the token.
  const layer = image.layers[0]!;
  files.authorization = 'Bearer hunter2';
  const https = pinned.sources[1]!;
  t.true((await failure(https.openLayer(layer.digests.diffID))).retryable);
  registry.fault = undefined;
  serveMountApi(t.context, registry);
  const handle = await https.openLayer(layer.digests.diffID);
  t.deepEqual(Buffer.from(await handle.read(0, 5000)), layer.bytes.subarray(0, 5000));
});

test('a record or a blob that is spoilt is as good as none', async (t) => {
  const { image, manifest, directory, registry } = t.context;
  await openReady(t);
  const references = join(directory, 'cache', 'references');
  for (const name of await readdir(references)) await writeFile(join(references, name), '{"version":');
  t.is((await failure(open(t, `@${manifest.digest}`, undefined, { pull: 'never' }))).code, 'NOT_FOUND');
  await openReady(t);
  t.false((await readdir(references)).some((name) => !name.endsWith('.json')));
  const index = join(directory, 'cache/blobs/sha256', image.imageIndex.digest.slice('sha256:'.length));
  await writeFile(index, 'spoilt');
  const before = registry.requests.length;
  await openReady(t, `@${manifest.digest}`);
  t.true(registry.requests.length > before);
});

test('the mount API is asked with the same token as the registry', async (t) => {
  const { registry } = t.context;
  registry.fault = undefined;
  const tokens = new TokenService(registry, { user: 'me:hunter2' });
  serveMountApi(t.context, registry);
  const user = new RegistryCredentials({ username: 'me', password: 'hunter2' });
  const client = new RegistryClient({ credentials: async () => user });
  await openReady(t, ':1', client);
  t.is(tokens.issued, 1);
  await client.close();
});
