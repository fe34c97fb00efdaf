import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { digestOf } from '../../../src/oci/digest.js';
import { Random } from '../../image/random.js';
import { errorCodes, json, TestRegistry } from '../server-fixture.js';
import { Pair, startFake, startGateway } from './gateway-fixture.js';

/** More than all buffers of sockets and streams on the way together, on any kernel's default. */
const MUCH = 256 << 20;
const BUFFERS = 64 << 20;

test('what is pushed through the gateway is in the upstream, and is pulled through it byte for byte', async (t) => {
  const pair = await Pair.start();
  const { gateway, upstream } = pair;
  const layer = Buffer.from(new Random(1).bytes(3_000_000));
  const { digest, bytes } = await gateway.pushImage('team/app', '1', layer);
  for (const server of [gateway, upstream]) {
    const manifest = await server.send('GET', '/v2/team/app/manifests/1');
    t.is(manifest.headers['docker-content-digest'], digest);
    t.deepEqual(manifest.body, bytes);
    const blob = await server.send('GET', `/v2/team/app/blobs/${digestOf(layer)}`);
    t.true(blob.body.equals(layer));
  }
  const head = await gateway.send('HEAD', `/v2/team/app/blobs/${digestOf(layer)}`);
  t.is(head.headers['content-length'], `${layer.length}`);
  const range = await gateway.send('GET', `/v2/team/app/blobs/${digestOf(layer)}`, {
    headers: { range: 'bytes=1000-1999' },
  });
  t.is(range.status, 206);
  t.true(range.body.equals(layer.subarray(1000, 2000)));
  t.deepEqual(json(await gateway.send('GET', '/v2/team/app/tags/list')), { name: 'team/app', tags: ['1'] });
  t.deepEqual(json(await gateway.send('GET', '/v2/_catalog')), { repositories: ['team/app'] });
  t.is((await gateway.send('DELETE', `/v2/team/app/manifests/${digest}`)).status, 202);
  t.is((await upstream.send('GET', '/v2/team/app/manifests/1')).status, 404);
  await pair.stop();
});

test('an upload goes on in chunks, and a page of tags leads to the next, at the gateway', async (t) => {
  const pair = await Pair.start();
  const { gateway } = pair;
  const content = Buffer.from('0123456789'.repeat(1000));
  const start = await gateway.startUpload('a/b');
  t.regex(start, /^\/v2\/a\/b\/blobs\/uploads\/[\w-]+$/);
  const patch = await gateway.send('PATCH', start, {
    body: content.subarray(0, 6000),
    headers: { 'content-range': '0-5999' },
  });
  t.is(patch.status, 202);
  t.is(patch.headers.range, '0-5999');
  const location = patch.headers.location ?? '';
  t.is((await gateway.send('GET', location)).headers.range, '0-5999');
  const wrong = await gateway.send('PATCH', location, {
    body: content.subarray(0, 10),
    headers: { 'content-range': '0-9' },
  });
  t.is(wrong.status, 416);
  const put = await gateway.send('PUT', `${location}?digest=${digestOf(content)}`, {
    body: content.subarray(6000),
    chunked: true,
  });
  t.is(put.status, 201);
  t.is(put.headers.location, `/v2/a/b/blobs/${digestOf(content)}`);
  for (const tag of ['1', '2', '3']) await gateway.pushImage('a/b', tag);
  const page = await gateway.send('GET', '/v2/a/b/tags/list?n=2');
  t.is(page.headers.link, '</v2/a/b/tags/list?n=2&last=2>; rel="next"');
  await pair.stop();
});

test('only what is of the distribution API reaches the upstream', async (t) => {
  const fake = await startFake((_request, response) => response.end('reached'));
  const gateway = await startGateway(fake.url);
  const hex = 'a'.repeat(64);
  for (const [method, path, status] of [
    ['GET', '/v2/../admin', 404],
    ['GET', '/v2/../v2/x/manifests/1', 400],
    ['GET', '/v2/a/../b/manifests/1', 400],
    ['GET', '/v2/a/%2e%2e/b/manifests/1', 400],
    ['GET', '/v2/a%2Fb/manifests/1', 400],
    ['GET', '/v2/A/manifests/1', 400],
    ['GET', '/v2/a/manifests/..', 400],
    ['GET', '/v2/a/manifests/%2e%2e%2fb', 400],
    ['GET', '/v2/a/blobs/sha256:..', 400],
    ['GET', `/v2/a/blobs/sha256:${hex}/../../x`, 404],
    ['PATCH', '/v2/a/blobs/uploads/..', 404],
    ['PATCH', '/v2/a/blobs/uploads/%2e%2e', 404],
    ['PATCH', '/v2/a/blobs/uploads/~?_orca=L2FkbWlu.aaaaaaaaaaaaaaaaaaaaaa', 404],
    ['GET', '/v2/a/other/x', 404],
    ['GET', '/metrics', 404],
    ['PUT', `/v2/a/blobs/sha256:${hex}`, 405],
  ] as const) {
    const answer = await gateway.send(method, path);
    t.is(answer.status, status, `${method} ${path}`);
    t.true(errorCodes(answer).length === 1, path);
  }
  t.deepEqual(
    fake.requests.map(({ url }) => url),
    [],
  );
  await gateway.stop();
  await fake.stop();
});

test('headers of one connection stay there, and the client cannot speak for others', async (t) => {
  const fake = await startFake((_request, response) => {
    response.setHeader('connection', 'keep-alive, x-private');
    response.setHeader('x-private', '1');
    response.setHeader('x-public', '2');
    response.setHeader('strict-transport-security', 'max-age=1');
    response.setHeader('www-authenticate', 'Bearer realm="https://auth.example/token",service="up"');
    response.writeHead(401).end('{}');
  });
  const gateway = await startGateway(fake.url);
  const answer = await gateway.send('GET', '/v2/', {
    headers: {
      connection: 'keep-alive, x-hop',
      'x-hop': '1',
      'proxy-authorization': 'Basic eA==',
      te: 'trailers',
      authorization: 'Basic YTpi',
      'x-forwarded-for': '1.2.3.4',
      'x-forwarded-host': 'evil.example',
      forwarded: 'for=1.2.3.4',
      accept: 'x/y',
    },
  });
  const { headers } = fake.requests[0]!;
  t.is(headers.authorization, 'Basic YTpi');
  t.is(headers.accept, 'x/y');
  t.is(headers['x-forwarded-for'], '127.0.0.1');
  t.is(headers.host, new URL(fake.url).host);
  for (const name of ['x-hop', 'proxy-authorization', 'te', 'x-forwarded-host', 'forwarded'])
    t.is(headers[name], undefined, name);
  t.is(answer.status, 401);
  t.is(answer.headers['www-authenticate'], 'Bearer realm="https://auth.example/token",service="up"');
  t.is(answer.headers['x-public'], '2');
  for (const name of ['x-private', 'strict-transport-security']) t.is(answer.headers[name], undefined, name);
  await gateway.stop();
  await fake.stop();
});

test('a redirect goes to the client, whom nobody stands in for', async (t) => {
  let location = '';
  const fake = await startFake((_request, response) => response.writeHead(307, { location }).end());
  const gateway = await startGateway(fake.url);
  const digest = digestOf(Buffer.from('x'));
  for (const [given, expected] of [
    ['https://storage.example/bucket/blob?signature=1', 'https://storage.example/bucket/blob?signature=1'],
    ['http://169.254.169.254/latest', 'http://169.254.169.254/latest'],
    [`${fake.url}/v2/a/blobs/x?y=1`, '/v2/a/blobs/x?y=1'],
    ['/v2/a/blobs/x', '/v2/a/blobs/x'],
    [`${fake.url}/storage/x`, `${fake.url}/storage/x`],
    ['javascript:alert(1)', undefined],
  ] as const) {
    location = given;
    const answer = await gateway.send('GET', `/v2/a/blobs/${digest}`);
    t.is(answer.status, 307);
    t.is(answer.headers.location, expected);
  }
  t.true(fake.requests.every(({ url }) => url === `/v2/a/blobs/${digest}`));
  await gateway.stop();
  await fake.stop();
});

test('an upload goes on where the upstream says, whatever path that is', async (t) => {
  let location = '';
  const fake = await startFake((request, response) => {
    request.resume().on('end', () => response.writeHead(202, { location }).end());
  });
  const gateway = await startGateway(fake.url);
  const { host } = new URL(fake.url);
  for (const [given, next] of [
    [`${fake.url}/v2/a/blobs/uploads/1-2?_state=x%3D`, '/v2/a/blobs/uploads/1-2?_state=x%3D&digest=d'],
    [`https://${host}/v2/a/blobs/uploads/1`, '/v2/a/blobs/uploads/1?digest=d'],
    ['/v2/a/blobs/upload/1', '/v2/a/blobs/upload/1?digest=d'],
    ['/other/uploads/ab%2Fc?x=1', '/other/uploads/ab%2Fc?x=1&digest=d'],
  ] as const) {
    location = given;
    const answer = await gateway.send('POST', '/v2/a/blobs/uploads/');
    const told = answer.headers.location ?? '';
    t.true(told.startsWith('/v2/a/blobs/uploads/'), told);
    await gateway.send('PUT', `${told}${told.includes('?') ? '&' : '?'}digest=d`, { body: 'x' });
    t.is(fake.requests.at(-1)?.url, next);
    // It is good for the repository that it was given for.
    if (told.includes('_orca')) {
      const count = fake.requests.length;
      t.is((await gateway.send('PUT', told.replace('/v2/a/', '/v2/b/'), { body: 'x' })).status, 404);
      t.is(fake.requests.length, count);
    }
  }
  location = 'https://storage.example/upload';
  t.is((await gateway.send('POST', '/v2/a/blobs/uploads/')).headers.location, location);
  await gateway.stop();
  await fake.stop();
});

test('a slow upstream slows the push down, a slow client the pull; nothing is kept in between', async (t) => {
  let sent = 0;
  const fake = await startFake((request, response) => {
    if (request.method === 'PATCH') return;
    response.writeHead(200, { 'content-length': MUCH });
    const chunk = Buffer.alloc(1 << 20);
    const more = () => {
      while (sent < MUCH && response.write(chunk)) sent += chunk.length;
    };
    response.on('drain', more);
    more();
  });
  const gateway = await startGateway(fake.url);
  const { hostname, port } = new URL(gateway.url);
  const push = httpRequest({
    hostname,
    port,
    method: 'PATCH',
    path: '/v2/a/blobs/uploads/1',
    headers: { 'content-length': MUCH },
  });
  push.on('error', () => {});
  let pushed = 0;
  const push1 = Buffer.alloc(1 << 20);
  const write = () => {
    while (pushed < MUCH && push.write(push1)) pushed += push1.length;
  };
  push.on('drain', write);
  write();
  const pull = connect(Number(port), hostname);
  pull.write(`GET /v2/a/blobs/sha256:${'a'.repeat(64)} HTTP/1.1\r\nhost: x\r\n\r\n`);
  await once(pull, 'readable');
  const settled = async (value: () => number) => {
    for (let before = -1; before !== value(); ) {
      before = value();
      await sleep(300);
    }
    return value();
  };
  t.true((await settled(() => pushed)) < BUFFERS, `${pushed} bytes of the push were taken`);
  t.true((await settled(() => sent)) < BUFFERS, `${sent} bytes of the pull were taken`);
  push.destroy();
  pull.destroy();
  await gateway.stop();
  await fake.stop();
});

test('when one side goes away, the other does not take the part for the whole', async (t) => {
  let reached: (value: { request: IncomingMessage; response: ServerResponse }) => void = () => {};
  const fake = await startFake((request, response) => reached({ request, response }));
  const gateway = await startGateway(fake.url);
  const next = () =>
    new Promise<{ request: IncomingMessage; response: ServerResponse }>((resolve) => {
      reached = resolve;
    });
  const { hostname, port } = new URL(gateway.url);
  const base = { hostname, port, agent: false } as const;

  // The client, while it pushes: neither a chunked body nor one of a length ends.
  for (const headers of [{}, { 'content-length': 100_000 }]) {
    const arrival = next();
    const push = httpRequest({ ...base, method: 'PATCH', path: '/v2/a/blobs/uploads/1', headers });
    push.on('error', () => {});
    push.write(Buffer.alloc(1000));
    const { request } = await arrival;
    request.on('error', () => {});
    await once(request, 'data');
    const gone = new Promise((resolve) => request.once('close', resolve));
    push.destroy();
    await gone;
    t.false(request.complete);
  }

  // The client, while it pulls.
  let arrival = next();
  const pull = httpRequest({ ...base, path: `/v2/a/blobs/sha256:${'a'.repeat(64)}` });
  pull.on('error', () => {});
  pull.end();
  let { response } = await arrival;
  response.writeHead(200, { 'content-length': MUCH }).write('part');
  await once(pull, 'response');
  const closed = once(response, 'close');
  pull.destroy();
  await closed;
  t.false(response.writableFinished);

  // The upstream, before and after it has begun to answer; with a length and without.
  arrival = next();
  const failing = gateway.send('GET', '/v2/a/manifests/1');
  (await arrival).response.destroy();
  t.is((await failing).status, 502);
  for (const headers of [{}, { 'content-length': 1000 }]) {
    arrival = next();
    const broken = gateway.send('GET', '/v2/a/manifests/1');
    ({ response } = await arrival);
    response.writeHead(200, headers).write('part');
    await sleep(50);
    response.destroy();
    await t.throwsAsync(broken);
  }
  await gateway.stop();
  await fake.stop();
});

test('an upstream that is away is said in the words of the specification', async (t) => {
  const fake = await startFake(() => {});
  const gateway = await TestRegistry.start({ upstream: { url: fake.url, timeouts: { response: 200 } } });
  const late = await gateway.send('GET', '/v2/');
  t.is(late.status, 504);
  t.deepEqual(errorCodes(late), ['UNAVAILABLE']);
  await fake.stop();
  const away = await gateway.send('GET', '/v2/a/manifests/1');
  t.is(away.status, 502);
  t.deepEqual(errorCodes(away), ['UNAVAILABLE']);
  t.regex(away.body.toString(), /UNREACHABLE/);
  const push = await gateway.send('POST', '/v2/a/blobs/uploads/', { body: Buffer.alloc(100_000) });
  t.is(push.status, 502);
  await gateway.stop();
});

test('a gateway whose upstream is itself says so', async (t) => {
  const fake = await startFake((request, response) => {
    const forward = httpRequest(`${gateway.url}${request.url}`, { headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 0);
      answer.pipe(response);
    });
    forward.end();
  });
  const gateway = await startGateway(fake.url);
  const answer = await gateway.send('GET', '/v2/');
  t.is(answer.status, 508);
  t.is(fake.requests.length, 1);
  await gateway.stop();
  await fake.stop();
});

test('what a hostile upstream answers does not break the gateway', async (t) => {
  let bytes = '';
  const fake = await startFake((request) => {
    request.socket.end(bytes);
  });
  const gateway = await startGateway(fake.url);
  for (const answer of [
    'HTTP/1.1 200 OK\r\nx-bad: a\u0001b\r\n\r\n',
    'HTTP/1.1 999 What\r\n\r\n',
    'HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello',
    'garbage',
    `HTTP/1.1 200 OK\r\nx: ${'y'.repeat(100_000)}\r\n\r\n`,
  ]) {
    bytes = answer;
    const status = await gateway.send('GET', '/v2/').then(
      (got) => got.status,
      () => 0,
    );
    t.true([0, 200, 502, 999].includes(status), `${status}: ${answer.slice(0, 60)}`);
  }
  bytes = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok';
  t.is((await gateway.send('GET', '/v2/')).body.toString(), 'ok');
  await gateway.stop();
  await fake.stop();
});
