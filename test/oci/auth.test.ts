import { inspect } from 'node:util';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { type CredentialParts, RegistryCredentials } from '../../src/oci/credentials.js';
import { RegistryClient, type RegistryClientOptions } from '../../src/oci/registry-client.js';
import { RegistryError } from '../../src/oci/registry-error.js';
import { CERTIFICATES, FakeRegistry, sendError, startProxy, TokenService } from './fake-registry.js';

interface Context {
  registry: FakeRegistry;
  close: (() => Promise<unknown>)[];
}

const test = anyTest as TestFn<Context>;

test.beforeEach(async (t) => {
  const registry = await FakeRegistry.start();
  registry.addImage('1', [Buffer.from('layer')]);
  t.context = { registry, close: [] };
});

test.afterEach.always(async (t) => {
  for (const close of t.context.close) await close();
  await t.context.registry.stop();
});

function client(t: ExecutionContext<Context>, user?: CredentialParts, options: RegistryClientOptions = {}) {
  const credentials = async () => (user === undefined ? undefined : new RegistryCredentials(user));
  const made = new RegistryClient({ credentials, ...options });
  t.context.close.push(() => made.close());
  return made;
}

async function failure(t: ExecutionContext, promise: Promise<unknown>, code: string): Promise<RegistryError> {
  const error = await t.throwsAsync(promise, { instanceOf: RegistryError });
  t.is(error?.code, code, error?.message);
  t.false(inspect(error, { depth: 9, showHidden: true }).includes('hunter2'));
  t.false(error!.message.includes('\n'));
  return error!;
}

const ME = { username: 'me', password: 'hunter2' };

test('one token serves many requests, also those that begin at the same time', async (t) => {
  const { registry } = t.context;
  const tokens = new TokenService(registry, { user: 'me:hunter2' });
  const app = client(t, ME).repository(registry.app);
  await app.resolve('1');
  await Promise.all(Array.from({ length: 8 }, () => app.manifest('1')));
  t.is(tokens.issued, 1);
  const [asked] = tokens.asked;
  t.is(asked?.get('service'), 'fake');
  t.deepEqual(asked?.getAll('scope'), ['repository:app:pull']);
  t.is(asked?.get('account'), 'me');
  t.deepEqual(
    registry.requests
      .filter(({ authorization }) => authorization?.startsWith('Basic'))
      .map(({ url }) => url.split('?')[0]),
    ['/token'],
  );
});

test('each repository has a token of its own', async (t) => {
  const { registry } = t.context;
  const tokens = new TokenService(registry);
  const registries = client(t);
  await registries.repository(registry.app).resolve('1');
  await registries.repository({ ...registry.app, path: 'other/app' }).resolve('1');
  t.deepEqual(
    tokens.asked.map((query) => query.get('scope')),
    ['repository:app:pull', 'repository:other/app:pull'],
  );
});

test('a public image needs no credentials, only a token', async (t) => {
  const tokens = new TokenService(t.context.registry);
  await client(t).repository(t.context.registry.app).resolve('1');
  t.is(tokens.issued, 1);
});

for (const refusal of [401, 403] as const) {
  test(`a token that expired early is renewed when it is refused with ${refusal}`, async (t) => {
    const { registry } = t.context;
    const tokens = new TokenService(registry, { refusal });
    const app = client(t).repository(registry.app);
    await app.resolve('1');
    tokens.valid.clear();
    await Promise.all([app.resolve('1'), app.manifest('1'), app.resolve('1')]);
    t.is(tokens.issued, 2);
  });
}

test('a token is renewed before it expires', async (t) => {
  const { registry } = t.context;
  const tokens = new TokenService(registry, { lifetime: 1 });
  const app = client(t).repository(registry.app);
  await app.resolve('1');
  await new Promise((resolve) => setTimeout(resolve, 800));
  const before = registry.requests.length;
  await app.resolve('1');
  t.is(tokens.issued, 2);
  t.deepEqual(
    registry.requests.slice(before).map(({ url }) => url.split('?')[0]),
    ['/token', '/v2/app/manifests/1'],
  );
});

test('a refusal of a fresh token ends, and is what the caller gets', async (t) => {
  const { registry } = t.context;
  for (const status of [401, 403]) {
    const tokens = new TokenService(registry);
    const inner = registry.fault!;
    registry.fault = async (request, response) => {
      if (await inner(request, response)) return true;
      const headers = {
        'www-authenticate': `Bearer realm="${registry.url}/token",scope="repository:app:pull,push"`,
      };
      sendError(response, status, 'DENIED', 'not you', headers);
      return true;
    };
    const error = await failure(t, client(t, ME).repository(registry.app).manifest('1'), 'DENIED');
    t.is(error.status, status);
    t.true(tokens.issued <= 3);
  }
});

test('a scope that the registry names beside ours is asked for, too', async (t) => {
  const { registry } = t.context;
  const tokens = new TokenService(registry);
  const inner = registry.fault!;
  registry.fault = async (request, response) => {
    if (await inner(request, response)) return true;
    if (tokens.asked.at(-1)?.getAll('scope').includes('repository:base:pull')) return false;
    const headers = {
      'www-authenticate': `Bearer realm="${registry.url}/token",scope="repository:base:pull"`,
    };
    sendError(response, 401, 'UNAUTHORIZED', 'insufficient scope', headers);
    return true;
  };
  await client(t).repository(registry.app).resolve('1');
  t.deepEqual(tokens.asked.at(-1)?.getAll('scope'), ['repository:app:pull', 'repository:base:pull']);
});

test('an identity token is exchanged by POST', async (t) => {
  const { registry } = t.context;
  const tokens = new TokenService(registry, { user: 'nobody:x' });
  await client(t, { identityToken: 'identity' }).repository(registry.app).resolve('1');
  t.is(tokens.asked[0]?.get('grant_type'), 'refresh_token');
  t.is(tokens.asked[0]?.get('scope'), 'repository:app:pull');
});

test('a registry token is used as it is', async (t) => {
  const { registry } = t.context;
  const tokens = new TokenService(registry);
  tokens.valid.add('ready-made');
  await client(t, { registryToken: 'ready-made' }).repository(registry.app).resolve('1');
  t.is(tokens.issued, 0);
});

test('wrong credentials are named as such; missing ones ask for a login', async (t) => {
  const { registry } = t.context;
  new TokenService(registry, { user: 'me:other' });
  const wrong = await failure(t, client(t, ME).repository(registry.app).resolve('1'), 'BAD_CREDENTIALS');
  t.true(wrong.message.includes(`docker login ${registry.host}`));
  const none = await failure(t, client(t).repository(registry.app).resolve('1'), 'UNAUTHORIZED');
  t.true(none.message.includes(`docker login ${registry.host}`));
});

test('Basic is answered with Basic, once, and credentials that change are taken up', async (t) => {
  const { registry } = t.context;
  let password = 'one';
  registry.fault = (request, response) => {
    const right = `Basic ${Buffer.from(`me:${password}`).toString('base64')}`;
    if (request.headers.authorization === right) return false;
    sendError(response, 401, 'UNAUTHORIZED', 'who?', { 'www-authenticate': 'Basic realm="x"' });
    return true;
  };
  let known = 'one';
  const credentials = async () => new RegistryCredentials({ username: 'me', password: known });
  const app = client(t, undefined, { credentials }).repository(registry.app);
  await app.resolve('1');
  await app.resolve('1');
  password = known = 'two';
  await app.resolve('1');
  t.is(registry.seen('/manifests/').length, 5);
  password = 'hunter2';
  await failure(t, app.resolve('1'), 'UNAUTHORIZED');
  t.is(registry.seen('/manifests/').length, 6);
});

test('realms that lead away from TLS or into the host are refused, and get nothing', async (t) => {
  const tls = await FakeRegistry.start({ tls: true });
  const proxy = await startProxy(tls.port);
  t.context.close.push(
    () => tls.stop(),
    () => proxy.stop(),
  );
  tls.addImage('1', [Buffer.from('layer')]);
  const env = { https_proxy: proxy.url, http_proxy: proxy.url };
  const options = { env, caFile: `${CERTIFICATES}/ca.crt`, certsDirectory: '/nonexistent' };
  const app = () => client(t, ME, options).repository({ domain: 'registry.test', path: 'app' });
  for (const realm of [
    'http://auth.test/token',
    'file:///etc/passwd',
    'javascript:alert(1)',
    'https://127.0.0.1/token',
    'https://169.254.169.254/token',
    'https://[fd00:ec2::254]/token',
    'no url',
    '',
  ]) {
    new TokenService(tls, { realm });
    await failure(t, app().resolve('1'), 'HOSTILE_REALM');
  }
  new TokenService(tls, { realm: 'https://auth.test/token', user: 'me:hunter2' });
  t.is((await app().resolve('1')).digest, [...tls.manifests.keys()][0]!);
  t.deepEqual([...new Set(proxy.names)].sort(), ['auth.test:443', 'registry.test:443']);
});

test('answers of a token service that are no answers are refused', async (t) => {
  const { registry } = t.context;
  for (const [status, body] of [
    [200, 'not json hunter2'],
    [200, '{"token":""}'],
    [200, '{"token":"a\\r\\nHost: evil"}'],
    [200, '[]'],
    [200, `{"token":"${'x'.repeat(300_000)}"}`],
    [404, 'hunter2'],
  ] as const) {
    new TokenService(registry);
    const inner = registry.fault!;
    registry.fault = (request, response) => {
      if (!request.url?.startsWith('/token')) return inner(request, response);
      response.writeHead(status).end(body);
      return true;
    };
    const error = await t.throwsAsync(client(t, ME).repository(registry.app).resolve('1'), {
      instanceOf: RegistryError,
    });
    t.true(['PROTOCOL', 'TOO_LARGE', 'BAD_CREDENTIALS'].includes(error!.code), error!.message);
    t.false(inspect(error, { depth: 9, showHidden: true }).includes('hunter2'));
  }
});

test('nothing of a client prints secrets', async (t) => {
  const { registry } = t.context;
  const tokens = new TokenService(registry, { user: 'me:hunter2' });
  const registries = client(t, ME);
  const app = registries.repository(registry.app);
  await app.resolve('1');
  const shown = [registries, app].map((it) => inspect(it, { depth: 12, showHidden: true })).join();
  for (const secret of ['hunter2', [...tokens.valid][0]!]) t.false(shown.includes(secret));
});
