import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { digestOf } from '../../src/oci/digest.js';
import { encodeIndex, MAX_MANIFEST_BYTES, MEDIA_TYPE } from '../../src/oci/manifest.js';
import { OciError } from '../../src/oci/oci-error.js';
import { parseReference } from '../../src/oci/reference.js';
import { RegistryClient, type RegistryClientOptions } from '../../src/oci/registry-client.js';
import { RegistryError } from '../../src/oci/registry-error.js';
import { openRegistryInput } from '../../src/oci/registry-input.js';
import { FakeRegistry, sendError } from './fake-registry.js';

interface Context {
  registry: FakeRegistry;
  close: (() => Promise<unknown>)[];
}

const test = anyTest as TestFn<Context>;

test.beforeEach(async (t) => {
  t.context = { registry: await FakeRegistry.start(), close: [] };
});

test.afterEach.always(async (t) => {
  for (const close of t.context.close) await close();
  await t.context.registry.stop();
});

function client(t: ExecutionContext<Context>, options: RegistryClientOptions = {}): RegistryClient {
  const made = new RegistryClient({ credentials: async () => undefined, ...options });
  t.context.close.push(() => made.close());
  return made;
}

async function failure(t: ExecutionContext, promise: Promise<unknown>, code: string): Promise<OciError> {
  const error = await t.throwsAsync(promise, { instanceOf: OciError });
  t.is(error?.code, code, error?.message);
  return error!;
}

test('a tag is resolved without fetching the manifest, and by fetching it where the headers say too little', async (t) => {
  const { registry } = t.context;
  const image = registry.addImage('1', [Buffer.from('layer')]);
  const app = client(t).repository(registry.app);
  t.deepEqual(await app.resolve('1'), image);
  t.deepEqual(
    registry.seen('/manifests/').map(({ method }) => method),
    ['HEAD'],
  );
  registry.fault = (request, response) => {
    if (request.method !== 'HEAD') return false;
    response.writeHead(200, { 'content-type': 'text/plain' }).end();
    return true;
  };
  t.deepEqual(await app.resolve('1'), image);
});

test('a manifest is verified against the digest that it was asked for by, or that the registry declares', async (t) => {
  const { registry } = t.context;
  const image = registry.addImage('1', [Buffer.from('layer')]);
  const other = registry.addImage('2', [Buffer.from('other')]);
  const app = client(t).repository(registry.app);
  t.is((await app.manifest(image.digest)).descriptor.digest, image.digest);
  registry.manifests.set(image.digest, registry.manifests.get(other.digest)!);
  await failure(t, app.manifest(image.digest), 'DIGEST_MISMATCH');
  await failure(t, app.manifest({ ...other, size: other.size + 1 }), 'SIZE_MISMATCH');
  registry.fault = (_, response) => {
    const { bytes, mediaType } = registry.manifests.get('2')!;
    response
      .writeHead(200, { 'content-type': mediaType, 'docker-content-digest': `sha256:${'0'.repeat(64)}` })
      .end(bytes);
    return true;
  };
  await failure(t, app.manifest('2'), 'DIGEST_MISMATCH');
});

test('a manifest of more than 4 MiB is refused while it arrives', async (t) => {
  const { registry } = t.context;
  registry.addManifest(MEDIA_TYPE.manifest, Buffer.alloc(MAX_MANIFEST_BYTES + 1, ' '), 'big');
  await failure(t, client(t).repository(registry.app).manifest('big'), 'TOO_LARGE');
});

test('what is not there is named by the code of the specification', async (t) => {
  const { registry } = t.context;
  const app = client(t).repository(registry.app);
  const missing = `sha256:${'1'.repeat(64)}`;
  const manifest = await failure(t, app.manifest('none'), 'MANIFEST_UNKNOWN');
  t.true(manifest.message.includes(`${registry.host}/app:none`));
  await failure(t, app.resolve('none'), 'MANIFEST_UNKNOWN');
  const blob = app.readBlob({ mediaType: 'a/b', digest: missing, size: 1 }, 'config');
  await failure(t, blob, 'BLOB_UNKNOWN');
  await failure(t, app.resolve('../../x'), 'INVALID_REFERENCE');
});

test('error bodies may be anything; what they say reaches the user on one line', async (t) => {
  const { registry } = t.context;
  const app = client(t).repository(registry.app);
  for (const [body, code] of [
    ['{"errors":[{"code":"NAME_INVALID","message":"a\\nb\\u001b[31m"}]}', 'NAME_INVALID'],
    ['{"errors":[{"code":"SOMETHING_NEW","message":"m"}]}', 'MANIFEST_UNKNOWN'],
    ['{"errors":{"code":1}}', 'MANIFEST_UNKNOWN'],
    ['<html>', 'MANIFEST_UNKNOWN'],
    ['x'.repeat(3 << 20), 'MANIFEST_UNKNOWN'],
  ] as const) {
    registry.fault = (_, response) => {
      response.writeHead(404).end(body);
      return true;
    };
    const error = await failure(t, app.manifest('1'), code);
    t.false(/[\n\u001b]/.test(error.message));
    t.true(error.message.length < 600);
    t.false(error.retryable);
  }
});

test('what may succeed later is tried again, at the pace that the registry asks for', async (t) => {
  const { registry } = t.context;
  const image = registry.addImage('1', [Buffer.from('layer')]);
  for (const [status, headers] of [
    [503, {}],
    [429, { 'retry-after': '1' }],
    [0, {}],
  ] as const) {
    let failures = 2;
    registry.fault = (request, response) => {
      if (!request.url?.includes('/manifests/') || failures-- <= 0) return false;
      if (status === 0) request.socket.destroy();
      else sendError(response, status, 'TOOMANYREQUESTS', 'later', headers);
      return true;
    };
    const before = performance.now();
    t.is((await client(t).repository(registry.app).manifest('1')).descriptor.digest, image.digest);
    if (status === 429) t.true(performance.now() - before > 1900);
  }
});

test('a wait that is too long is the answer', async (t) => {
  const { registry } = t.context;
  registry.fault = (request, response) => {
    if (request.url === '/v2/') return false;
    sendError(response, 429, 'TOOMANYREQUESTS', 'later', { 'retry-after': '3600' });
    return true;
  };
  const error = await failure(t, client(t).repository(registry.app).manifest('1'), 'TOOMANYREQUESTS');
  t.true(error instanceof RegistryError && error.retryable && error.retryAfter === 3_600_000);
  t.is(registry.seen('/manifests/').length, 1);
});

test('an image of several platforms leads to the one that is wanted, verified at every step', async (t) => {
  const { registry } = t.context;
  const layer = Buffer.from('layer of arm');
  const images = ['amd64', 'arm64'].map((architecture) => ({
    ...registry.addImage(undefined, [architecture === 'arm64' ? layer : Buffer.from('x')], architecture),
    platform: { os: 'linux', architecture },
  }));
  const index = registry.addManifest(
    MEDIA_TYPE.index,
    encodeIndex({ mediaType: MEDIA_TYPE.index, manifests: images }),
    'multi',
  );
  const reference = (suffix: string) => parseReference(`${registry.host}/app${suffix}`);
  for (const suffix of [':multi', `@${index.digest}`, `:ignored@${index.digest}`]) {
    const input = await openRegistryInput(client(t), reference(suffix), {
      os: 'linux',
      architecture: 'arm64',
    });
    t.is(input.manifestDigest, images[1]!.digest);
    t.is(input.config.platform.architecture, 'arm64');
    const chunks = [];
    for await (const chunk of input.layers[0]!.open()) chunks.push(chunk);
    t.deepEqual(Buffer.concat(chunks), layer);
  }
  const none = openRegistryInput(client(t), reference(':multi'), { os: 'linux', architecture: 's390x' });
  t.regex((await failure(t, none, 'NOT_FOUND')).message, /linux\/amd64, linux\/arm64/);
  const amd64 = registry.manifests.get(images[0]!.digest)!;
  registry.manifests.set(images[0]!.digest, { ...amd64, bytes: Buffer.from(amd64.bytes).reverse() });
  await failure(t, openRegistryInput(client(t), reference(':multi')), 'DIGEST_MISMATCH');
});

test('mirrors are asked first and passed over when they fail, lie or lack it', async (t) => {
  const { registry } = t.context;
  const image = registry.addImage('1', [Buffer.from('layer')]);
  const mirror = await FakeRegistry.start();
  t.context.close.push(() => mirror.stop());
  const mirrors = { [registry.host]: ['http://127.0.0.1:1', `${mirror.url}/prefix/`] };
  const app = client(t, { mirrors }).repository(registry.app);
  t.is((await app.manifest('1')).descriptor.digest, image.digest);
  t.is(registry.seen('/manifests/').length, 1);
  t.is(mirror.requests.at(-1)?.url, `/prefix/v2/app/manifests/1?ns=${encodeURIComponent(registry.host)}`);
  for (const [digest, manifest] of registry.manifests) mirror.manifests.set(digest, manifest);
  for (const [digest, bytes] of registry.blobs) mirror.blobs.set(digest, bytes);
  const before = registry.requests.length;
  const input = await openRegistryInput(client(t, { mirrors }), parseReference(`${registry.host}/app:1`));
  for await (const _ of input.layers[0]!.open());
  t.is(registry.requests.length, before);
  mirror.blobs.set(input.manifest.config.digest, Buffer.alloc(input.manifest.config.size));
  t.deepEqual(await app.readBlob(input.manifest.config, 'config'), Buffer.from(input.configBytes));
  mirror.fault = (_, response) => {
    sendError(response, 500, 'UNKNOWN', 'broken');
    return true;
  };
  t.is((await app.manifest(image.digest)).descriptor.digest, image.digest);
});

test('referrers come from the API, page by page, and are filtered', async (t) => {
  const { registry } = t.context;
  const image = registry.addImage('1', [Buffer.from('layer')]);
  const entry = (i: number) => ({
    mediaType: MEDIA_TYPE.manifest,
    digest: digestOf(Buffer.from(`${i}`)),
    size: 1,
    artifactType: i % 2 === 0 ? 'a/even' : 'a/odd',
  });
  registry.fault = (request, response) => {
    const url = new URL(request.url ?? '', registry.url);
    if (!url.pathname.includes('/referrers/')) return false;
    const page = Number(url.searchParams.get('page') ?? 0);
    const headers = { 'content-type': MEDIA_TYPE.index };
    const link = { link: `</v2/app/referrers/${image.digest}?page=${page + 1}>; rel="next"` };
    const manifests = [entry(2 * page), entry(2 * page + 1)];
    response.writeHead(200, page < 2 ? { ...headers, ...link } : headers);
    response.end(encodeIndex({ mediaType: MEDIA_TYPE.index, manifests }));
    return true;
  };
  const app = client(t).repository(registry.app);
  t.deepEqual(await app.referrers(image.digest), [0, 1, 2, 3, 4, 5].map(entry));
  t.deepEqual(await app.referrers(image.digest, 'a/even'), [0, 2, 4].map(entry));
  t.true(registry.requests.some(({ url }) => url.endsWith('?artifactType=a%2Feven')));
  registry.fault = (_, response) => {
    const link = `</v2/app/referrers/${image.digest}?page=1>; rel="next"`;
    response.writeHead(200, { 'content-type': MEDIA_TYPE.index, link });
    response.end(encodeIndex({ mediaType: MEDIA_TYPE.index, manifests: [] }));
    return true;
  };
  await failure(t, app.referrers(image.digest), 'TOO_LARGE');
});

test('without the referrers API the tag schema is read; without either there are none', async (t) => {
  const { registry } = t.context;
  const image = registry.addImage('1', [Buffer.from('layer')]);
  const app = client(t).repository(registry.app);
  t.deepEqual(await app.referrers(image.digest), []);
  const referrer = { ...image, artifactType: 'a/b' };
  const bytes = encodeIndex({ mediaType: MEDIA_TYPE.index, manifests: [referrer] });
  registry.addManifest(MEDIA_TYPE.index, bytes, image.digest.replace(':', '-'));
  t.deepEqual(await app.referrers(image.digest, 'a/b'), [referrer]);
  t.deepEqual(await app.referrers(image.digest, 'a/c'), []);
});

test('a registry on this machine may have TLS with any certificate', async (t) => {
  const tls = await FakeRegistry.start({ tls: true });
  t.context.close.push(() => tls.stop());
  const image = tls.addImage('1', [Buffer.from('layer')]);
  t.is((await client(t).repository(tls.app).resolve('1')).digest, image.digest);
});
