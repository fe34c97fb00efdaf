import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import {
  HttpClient,
  type HttpClientOptions,
  isInternalAddress,
  isLoopback,
} from '../../src/oci/http-client.js';
import { RegistryError } from '../../src/oci/registry-error.js';
import { CERTIFICATES, FakeRegistry, startProxy } from './fake-registry.js';

const test = anyTest as TestFn<{ server: FakeRegistry; close: (() => Promise<unknown>)[] }>;

test.beforeEach(async (t) => {
  t.context = { server: await FakeRegistry.start(), close: [] };
});

test.afterEach.always(async (t) => {
  for (const close of t.context.close) await close();
  await t.context.server.stop();
});

function client(t: ExecutionContext<{ close: (() => Promise<unknown>)[] }>, options: HttpClientOptions = {}) {
  const http = new HttpClient(options);
  t.context.close.push(() => http.close());
  return http;
}

async function failure(t: ExecutionContext, promise: Promise<unknown>, code: string): Promise<RegistryError> {
  const error = await t.throwsAsync(promise, { instanceOf: RegistryError });
  t.is(error?.code, code, error?.message);
  return error!;
}

test('credentials follow a redirect on the same origin, and never to another', async (t) => {
  const { server } = t.context;
  const other = await FakeRegistry.start();
  t.context.close.push(() => other.stop());
  server.fault = (request, response) => {
    const target = { '/a': '/b', '/b': `http://user:pw@${other.host}/v2/` }[request.url ?? ''];
    if (target !== undefined) response.writeHead(307, { location: target }).end();
    return target !== undefined;
  };
  const url = new URL('/a', server.url);
  const response = await client(t).send({ url, authorization: 'Bearer secret' });
  t.is(response.status, 200);
  t.is(response.url.href, `${other.url}/v2/`);
  t.deepEqual(
    server.requests.map(({ authorization }) => authorization),
    ['Bearer secret', 'Bearer secret'],
  );
  t.deepEqual(
    other.requests.map(({ authorization }) => authorization),
    [undefined],
  );
});

test('a loop of redirects ends', async (t) => {
  const { server } = t.context;
  server.fault = (_, response) => {
    response.writeHead(302, { location: '/again?signature=hunter2' }).end();
    return true;
  };
  const error = await failure(t, client(t).send({ url: new URL(server.url) }), 'BAD_REDIRECT');
  t.is(server.requests.length, 6);
  t.false(error.message.includes('hunter2'));
});

test('redirects to other schemes, without TLS, or into the host are refused', async (t) => {
  const tls = await FakeRegistry.start({ tls: true });
  const proxy = await startProxy(tls.port);
  t.context.close.push(
    () => tls.stop(),
    () => proxy.stop(),
  );
  const ca = [await readFile(join(CERTIFICATES, 'ca.crt'), 'utf8')];
  const http = client(t, { tls: { ca }, env: { https_proxy: proxy.url, http_proxy: proxy.url } });
  for (const location of [
    'file:///etc/passwd',
    'http://registry.test/plain',
    'https://127.0.0.1/',
    'https://169.254.169.254/latest/meta-data',
    'https://[::ffff:169.254.169.254]/',
    'https://2852039166/',
    'https://localhost./x',
    'https://[fe80::1]/',
    'http://[',
  ]) {
    tls.fault = (_, response) => {
      response.writeHead(307, { location }).end();
      return true;
    };
    await failure(t, http.send({ url: new URL('https://registry.test/') }), 'BAD_REDIRECT');
  }
  t.deepEqual([...new Set(proxy.names)], ['registry.test:443']);
});

test('a certificate is verified, unless that is switched off', async (t) => {
  const tls = await FakeRegistry.start({ tls: true });
  t.context.close.push(() => tls.stop());
  const url = new URL('/v2/', tls.url);
  const ca = [await readFile(join(CERTIFICATES, 'ca.crt'), 'utf8')];
  const error = await failure(t, client(t).send({ url }), 'CERTIFICATE');
  t.false(error.retryable);
  t.regex(error.message, /certs\.d\/127\.0\.0\.1:\d+\/ca\.crt/);
  t.is((await client(t, { tls: { ca } }).send({ url })).status, 200);
  t.is((await client(t, { tls: { unverified: true } }).send({ url })).status, 200);
  const wrongName = new URL(`https://localhost:${tls.port}/`);
  await failure(t, client(t, { tls: { ca } }).send({ url: wrongName }), 'CERTIFICATE');
});

test('plain http where TLS is expected says so', async (t) => {
  const url = new URL(`https://${t.context.server.host}/`);
  const error = await failure(t, client(t).send({ url }), 'PROTOCOL');
  t.regex(error.message, /--insecure-registry/);
});

test('who does not answer, does not listen or hangs up is a retryable error', async (t) => {
  const { server } = t.context;
  const http = client(t, { response: 100, idle: 100 });
  server.fault = (request, response) => {
    if (request.url === '/silent') return true;
    if (request.url === '/stalls') response.writeHead(200, { 'content-length': 10 }).write('abc');
    if (request.url === '/resets') request.socket.destroy();
    if (request.url === '/cut') {
      response.writeHead(200, { 'content-length': 10 }).write('abc', () => request.socket.destroy());
    }
    return request.url !== '/v2/';
  };
  const get = async (path: string) => (await http.send({ url: new URL(path, server.url) })).body.read(1000);
  for (const [path, code] of [
    ['/silent', 'TIMEOUT'],
    ['/stalls', 'TIMEOUT'],
    ['/resets', 'CONNECTION_LOST'],
    ['/cut', 'CONNECTION_LOST'],
  ] as const) {
    t.true((await failure(t, get(path), code)).retryable);
  }
  t.is((await get('/v2/')).toString(), '{}');
  t.true((await failure(t, http.send({ url: new URL('http://127.0.0.1:1/') }), 'UNREACHABLE')).retryable);
});

test('what is no HTTP is a protocol error', async (t) => {
  const { server } = t.context;
  server.fault = (request) => {
    request.socket.end('SSH-2.0-OpenSSH_9.2\r\n');
    return true;
  };
  t.false((await failure(t, client(t).send({ url: new URL(server.url) }), 'PROTOCOL')).retryable);
});

test('a body beyond the cap is refused while it arrives', async (t) => {
  const { server } = t.context;
  server.fault = (_, response) => {
    const chunk = Buffer.alloc(64 << 10);
    const more = () => {
      while (!response.destroyed && response.write(chunk));
    };
    response.on('drain', more);
    more();
    return true;
  };
  const { body } = await client(t).send({ url: new URL(server.url) });
  await failure(t, body.read(1 << 20), 'TOO_LARGE');
});

test('an aborted request rejects with the reason, before the answer and in the middle of it', async (t) => {
  const { server } = t.context;
  server.fault = (request, response) => {
    if (request.url === '/half') response.writeHead(200).write('abc');
    return true;
  };
  const reason = new Error('no longer wanted');
  for (const path of ['/none', '/half']) {
    const controller = new AbortController();
    const { signal } = controller;
    const reading = client(t)
      .send({ url: new URL(path, server.url), signal })
      .then(({ body }) => body.read(100));
    setTimeout(() => controller.abort(reason), 30);
    t.is(await t.throwsAsync(reading), reason);
  }
});

test('addresses of the host itself and of its cloud are known in every notation', (t) => {
  const host = (text: string) => new URL(`http://${text}/`).hostname;
  for (const text of ['127.1', '0x7f000001', '[::1]', 'LOCALHOST', '[::ffff:127.0.0.1]', '169.254.169.254']) {
    t.true(isInternalAddress(host(text)), text);
  }
  for (const text of ['10.0.0.1', 'example.com', '[2001:db8::1]', '127.example.com']) {
    t.false(isInternalAddress(host(text)), text);
  }
  t.true(isLoopback('127.0.0.2'));
  t.false(isLoopback('169.254.169.254'));
});
