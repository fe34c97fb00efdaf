import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { digestOf } from '../../src/oci/digest.js';
import { ERROR_CODES } from '../../src/oci/error-codes.js';
import { MAX_MANIFEST_BYTES, MEDIA_TYPE } from '../../src/oci/manifest.js';
import { errorCodes, TestRegistry } from './server-fixture.js';

let registry: TestRegistry;
test.before(async () => {
  registry = await TestRegistry.start({ stallTimeout: 300 });
});
test.after.always(() => registry.stop());

const digest = digestOf(Buffer.from('x'));

function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

/** Names that the grammar does not have, as they stand in the path of a request. */
const BAD_NAMES = [
  '..',
  '../x',
  'a/../b',
  'a/./b',
  'a//b',
  '/a',
  'a/',
  'A',
  'a/B',
  '_blobs',
  'a/_manifests',
  'a%2Fb',
  'a%2f..%2fb',
  '..%2f..%2fetc',
  '%2e%2e',
  '.a',
  'a.',
  '-a',
  'a-',
  'a..b',
  'a___b',
  'a b',
  'a%20b',
  'a%00',
  'ä',
  'a:b',
  'a@b',
  'a'.repeat(256),
];

for (const name of BAD_NAMES) {
  test(`no repository is called ${name.length > 20 ? `${name.slice(0, 5)}… (${name.length})` : name}`, async (t) => {
    for (const [method, suffix] of [
      ['GET', 'manifests/latest'],
      ['PUT', 'manifests/latest'],
      ['DELETE', `blobs/${digest}`],
      ['POST', 'blobs/uploads/'],
      ['GET', 'tags/list'],
      ['GET', `referrers/${digest}`],
    ] as const) {
      const answer = await registry.send(method, encodeURI(`/v2/${name}/${suffix}`).replaceAll('%25', '%'));
      t.is(answer.status, 400, `${method} ${suffix}`);
      t.deepEqual(errorCodes(answer), ['NAME_INVALID']);
      t.is(answer.headers['content-type'], 'application/json; charset=utf-8');
    }
  });
}

test('nothing is stored under a name that is none', (t) => {
  t.deepEqual(
    readdirSync(join(registry.data, 'repositories')).filter((name) => !/^[a-z]+$/.test(name)),
    [],
  );
});

for (const bad of [
  'sha256:',
  'sha256:abc',
  'sha256',
  `sha256:${'A'.repeat(64)}`,
  `md5:${'a'.repeat(32)}`,
  `sha256:${'a'.repeat(65)}`,
  `sha256:..${'a'.repeat(62)}`,
  'sha256:%2e%2e%2f',
]) {
  test(`${bad.slice(0, 24)} is not a digest`, async (t) => {
    for (const [method, path] of [
      ['GET', `/v2/a/blobs/${bad}`],
      ['HEAD', `/v2/a/blobs/${bad}`],
      ['DELETE', `/v2/a/blobs/${bad}`],
      ['GET', `/v2/a/referrers/${bad}`],
      ['POST', `/v2/a/blobs/uploads/?digest=${bad}`],
      ['POST', `/v2/a/blobs/uploads/?mount=${bad}`],
    ] as const) {
      const answer = await registry.send(method, path);
      t.is(answer.status, 400, `${method} ${path}`);
      if (method === 'HEAD') continue;
      t.true(['DIGEST_INVALID', 'UNSUPPORTED'].includes(errorCodes(answer)[0] ?? ''));
    }
    for (const method of ['GET', 'PUT', 'DELETE']) {
      t.is((await registry.send(method, `/v2/a/manifests/${bad}x:`)).status, 400);
    }
  });
}

test('tags that are none', async (t) => {
  for (const tag of ['.x', '-x', 'a b', 'ä', 'x'.repeat(129), '%2e%2e', '..']) {
    for (const method of ['GET', 'PUT', 'DELETE']) {
      const answer = await registry.send(method, `/v2/a/manifests/${encodeURI(tag).replaceAll('%25', '%')}`);
      t.is(answer.status, 400, `${method} ${tag}`);
      t.deepEqual(errorCodes(answer), ['TAG_INVALID']);
    }
  }
  const many = Array.from({ length: 51 }, (_, i) => `tag=t${i}`).join('&');
  t.deepEqual(errorCodes(await registry.pushManifest('a', `${digestOf(Buffer.from('{}'))}?${many}`, '{}')), [
    'MANIFEST_INVALID',
  ]);
});

test('sessions that are none', async (t) => {
  for (const id of ['x', '..', '%2e%2e', '00000000-0000-0000-0000-000000000000', 'x'.repeat(1000)]) {
    for (const method of ['GET', 'PATCH', 'DELETE']) {
      const answer = await registry.send(method, `/v2/a/blobs/uploads/${id}`);
      t.is(answer.status, 404, `${method} ${id}`);
      t.deepEqual(errorCodes(answer), ['BLOB_UPLOAD_UNKNOWN']);
    }
  }
  const location = await registry.startUpload('a');
  for (const query of ['', '?digest=', '?digest=x', `?digest=${digest}&digest=${digest}`]) {
    t.is((await registry.send('PUT', `${location}${query}`, { body: 'x' })).status, 400, query);
  }
  t.is((await registry.send('PUT', `${location}?digest=${digest}`, { body: 'x' })).status, 201);
});

const config = { mediaType: MEDIA_TYPE.config, digest, size: 1 };
const manifest = { schemaVersion: 2, mediaType: MEDIA_TYPE.manifest, config, layers: [] };

for (const [title, body, type] of [
  ['no JSON', 'hello', MEDIA_TYPE.manifest],
  ['nothing', '', MEDIA_TYPE.manifest],
  ['a list', '[]', MEDIA_TYPE.manifest],
  ['bytes that are no UTF-8', Buffer.from([0x7b, 0xff, 0x7d]), MEDIA_TYPE.manifest],
  ['deep nesting', '['.repeat(100_000), MEDIA_TYPE.manifest],
  ['no config', JSON.stringify({ ...manifest, config: undefined }), MEDIA_TYPE.manifest],
  ['no version', JSON.stringify({ ...manifest, schemaVersion: undefined }), MEDIA_TYPE.manifest],
  [
    'a digest that is none',
    JSON.stringify({ ...manifest, config: { ...config, digest: 'sha256:../..' } }),
    MEDIA_TYPE.manifest,
  ],
  ['a negative size', JSON.stringify({ ...manifest, config: { ...config, size: -1 } }), MEDIA_TYPE.manifest],
  ['a subject that is none', JSON.stringify({ ...manifest, subject: 'x' }), MEDIA_TYPE.manifest],
  ['a manifest sent as an index', JSON.stringify(manifest), MEDIA_TYPE.index],
  [
    'a manifest that is an index as well',
    JSON.stringify({ ...manifest, manifests: [] }),
    MEDIA_TYPE.manifest,
  ],
  ['another type than it says', JSON.stringify(manifest), MEDIA_TYPE.dockerManifest],
] as const) {
  test(`a manifest with ${title} is invalid`, async (t) => {
    const answer = await registry.pushManifest('invalid', 'x', body, type);
    t.is(answer.status, 400);
    t.deepEqual(errorCodes(answer), ['MANIFEST_INVALID']);
    t.is((await registry.send('GET', '/v2/invalid/manifests/x')).status, 404);
  });
}

test('types of manifest that nobody should push any more', async (t) => {
  for (const type of [
    'application/vnd.docker.distribution.manifest.v1+prettyjws',
    'text/plain',
    'nonsense',
    'application/json',
  ]) {
    const answer = await registry.pushManifest('invalid', 'x', JSON.stringify(manifest), type);
    t.true(answer.status === 400 || answer.status === 415, `${type}: ${answer.status}`);
  }
});

test('a manifest of 4 MiB is the largest', async (t) => {
  await registry.pushBlob('large', Buffer.from('x'));
  const padded = (length: number) => {
    const text = JSON.stringify({ ...manifest, annotations: { x: '' } });
    return text.replace('"x":""', `"x":"${'y'.repeat(length - text.length)}"`);
  };
  t.is((await registry.pushManifest('large', 'fits', padded(MAX_MANIFEST_BYTES))).status, 201);
  const large = padded(MAX_MANIFEST_BYTES + 1);
  for (const chunked of [false, true]) {
    const headers = { 'content-type': MEDIA_TYPE.manifest };
    const answer = await registry.send('PUT', '/v2/large/manifests/x', { body: large, chunked, headers });
    t.is(answer.status, 413);
    t.deepEqual(errorCodes(answer), ['SIZE_INVALID']);
  }
});

test('what does not exist, and methods that it does not have', async (t) => {
  for (const path of ['/', '/v1/', '/v2/x', '/v2/a/unknown/b', '/v3/a/manifests/b', '/v2/%ff/manifests/x']) {
    const answer = await registry.send('GET', path);
    t.true([404, 400].includes(answer.status), `${path}: ${answer.status}`);
    t.true(errorCodes(answer)[0]! in ERROR_CODES);
  }
  for (const [method, path] of [
    ['POST', `/v2/a/blobs/${digest}`],
    ['PUT', '/v2/a/tags/list'],
    ['PATCH', '/v2/a/manifests/x'],
  ] as const) {
    const answer = await registry.send(method, path, { body: 'x' });
    t.is(answer.status, 405, `${method} ${path}`);
    t.deepEqual(errorCodes(answer), ['UNSUPPORTED']);
  }
});

test('headers beyond the limit are refused', async (t) => {
  t.is((await registry.send('GET', '/v2/', { headers: { x: 'y'.repeat(40_000) } })).status, 431);
});

/** Sends bytes and collects what comes until the server closes the connection or a response is complete. */
function raw(text: string, done = (received: string) => received.includes('\r\n\r\n')): Promise<string> {
  const { hostname, port } = new URL(registry.url);
  return new Promise((resolve) => {
    const socket = connect(Number(port), hostname, () => socket.write(text));
    let received = '';
    socket.on('data', (chunk) => {
      received += chunk.toString();
      if (done(received)) socket.destroy();
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(received));
  });
}

test('a client that stops sending is given up, and what came stays', async (t) => {
  const location = await registry.startUpload('slow');
  const head = `PATCH ${location} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n`;
  t.is(await raw(`${head}hello`), '');
  t.is((await registry.send('GET', location)).headers.range, '0-4');
});

test('a client that takes nothing of what it asked for is cut off', async (t) => {
  const blob = await registry.pushBlob('large', Buffer.alloc(48 << 20));
  const { hostname, port } = new URL(registry.url);
  const socket = connect(Number(port), hostname).pause();
  socket.on('error', () => {});
  socket.write(`GET /v2/large/blobs/${blob} HTTP/1.1\r\nHost: x\r\n\r\n`);
  const connections = () =>
    new Promise<number>((resolve) =>
      registry.registry.server.server.getConnections((_, count) => resolve(count)),
    );
  while ((await connections()) === 0) await sleep(10);
  const deadline = Date.now() + 20_000;
  while ((await connections()) > 0 && Date.now() < deadline) await sleep(50);
  t.is(await connections(), 0);
  socket.destroy();
});

test('a client that goes away in the middle of a blob leaves no file open', async (t) => {
  const blob = await registry.pushBlob('large', Buffer.alloc(48 << 20, 1));
  const openFiles = () =>
    readdirSync('/proc/self/fd')
      .map((fd) => linkOf(`/proc/self/fd/${fd}`))
      .filter((path) => path.endsWith(blob.slice(7)));
  const { hostname, port } = new URL(registry.url);
  const socket = connect(Number(port), hostname);
  socket.write(`GET /v2/large/blobs/${blob} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await once(socket, 'data');
  t.is(openFiles().length, 1);
  socket.destroy();
  const deadline = Date.now() + 20_000;
  while (openFiles().length > 0 && Date.now() < deadline) await sleep(20);
  t.deepEqual(openFiles(), []);
});

test('uploads beyond the limit are put off', async (t) => {
  const own = await TestRegistry.start({ maxUploads: 1 });
  const location = await own.startUpload('busy');
  const other = await own.startUpload('busy');
  const { hostname, port } = new URL(own.url);
  const socket = connect(Number(port), hostname);
  try {
    socket.write(`PATCH ${location} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n`);
    // The first request may not have been read yet.
    let answer = await own.send('PATCH', other, { body: 'x' });
    for (let i = 0; i < 100 && answer.status === 202; i++)
      answer = await own.send('PATCH', other, { body: 'x' });
    t.is(answer.status, 429);
    t.is(answer.headers['retry-after'], '5');
    t.deepEqual(errorCodes(answer), ['TOOMANYREQUESTS']);
  } finally {
    socket.destroy();
    await own.stop();
  }
});

test('a smuggled second length is refused', async (t) => {
  const text = await raw(
    'POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  );
  t.regex(text, /^HTTP\/1\.1 400 /);
});
