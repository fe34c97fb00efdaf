import { mkdir, mkdtemp, rm, truncate, unlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { readPem } from '../../src/oci/registry-trust.js';
import { HttpsSource, type HttpsSourceOptions } from '../../src/source/https-source.js';
import { SourceError } from '../../src/source/source.js';
import { CERTIFICATES } from '../oci/fake-registry.js';
import { FileServer } from './file-server.js';

interface Context {
  store: string;
  layer: string;
  server: FileServer;
  sources: HttpsSource[];
}

const test = anyTest as TestFn<Context>;
const DIFF_ID = `sha256:${'ab'.repeat(32)}`;
const CONTENT = Buffer.from(Array.from({ length: 100_000 }, (_, i) => i % 251));

test.beforeEach(async (t) => {
  const store = await mkdtemp(join(tmpdir(), 'orca-https-source-'));
  const layer = join(store, `layers/sha256/${'ab'.repeat(32)}.vhd`);
  await mkdir(join(store, 'layers/sha256'), { recursive: true });
  await writeFile(join(store, 'orca.json'), '{"version":1}');
  await writeFile(layer, CONTENT);
  t.context = { store, layer, server: await FileServer.start(store), sources: [] };
});

test.afterEach.always(async (t) => {
  for (const source of t.context.sources) await source.close();
  await t.context.server.stop();
  await rm(t.context.store, { recursive: true });
});

function open(t: ExecutionContext<Context>, options: Partial<HttpsSourceOptions> = {}): HttpsSource {
  const source = new HttpsSource({ url: t.context.server.url, ...options });
  t.context.sources.push(source);
  return source;
}

async function failure(t: ExecutionContext, promise: Promise<unknown>, code: string): Promise<SourceError> {
  const error = await t.throwsAsync(promise, { instanceOf: SourceError });
  t.is(error?.code, code, error?.message);
  t.false(inspect(error, { depth: 9, showHidden: true }).includes('hunter2'));
  return error!;
}

test('a file of the store is read whole, within its cap', async (t) => {
  const source = open(t);
  t.is(Buffer.from(await source.readFile('orca.json', 100)).toString(), '{"version":1}');
  await failure(t, source.readFile('orca.json', 5), 'TOO_LARGE');
  t.context.server.fault = (_, response) => {
    response.writeHead(200, { 'transfer-encoding': 'chunked' }).end('x'.repeat(1000));
    return true;
  };
  await failure(t, source.readFile('orca.json', 999), 'TOO_LARGE');
});

test('many reads of one layer at once give each its own bytes, over few connections', async (t) => {
  const layer = await open(t).openLayer(DIFF_ID);
  t.is(layer.size, CONTENT.length);
  const reads = Array.from({ length: 100 }, (_, i) => layer.read(i * 900, 1000 + i));
  for (const [i, bytes] of (await Promise.all(reads)).entries()) {
    t.deepEqual(Buffer.from(bytes), CONTENT.subarray(i * 900, i * 900 + 1000 + i));
  }
  t.is((await layer.read(7, 0)).length, 0);
  t.is((await layer.read(0, CONTENT.length)).length, CONTENT.length);
  t.true(t.context.server.connections <= 8);
});

test('what is missing is NOT_FOUND and named', async (t) => {
  const source = open(t);
  const missing = source.openLayer(`sha256:${'cd'.repeat(32)}`);
  t.true((await failure(t, missing, 'NOT_FOUND')).message.includes(t.context.server.url));
  await failure(t, source.readFile('images/index.json', 100), 'NOT_FOUND');
  const layer = await source.openLayer(DIFF_ID);
  await unlink(t.context.layer);
  t.false((await failure(t, layer.read(0, 10), 'NOT_FOUND')).retryable);
});

test('a token is asked for anew when it is refused, with 401 or with 403', async (t) => {
  const { server } = t.context;
  const refused: string[] = [];
  let token = 'Bearer one';
  const source = open(t, {
    authorization: async (old) => {
      if (old !== undefined) {
        refused.push(old);
        token = 'Bearer two';
      }
      return token;
    },
  });
  server.authorization = 'Bearer one';
  const layer = await source.openLayer(DIFF_ID);
  server.authorization = 'Bearer two';
  for (const status of [401, 403]) {
    server.refusal = status;
    token = 'Bearer one';
    t.is((await layer.read(5, 10)).length, 10);
  }
  t.deepEqual(refused, ['Bearer one', 'Bearer one']);
});

test('a token that stays refused is BAD_CREDENTIALS or ACCESS_DENIED, and is not shown', async (t) => {
  const { server } = t.context;
  server.authorization = 'Bearer right';
  const source = open(t, { authorization: async () => 'Bearer hunter2' });
  t.false((await failure(t, source.readFile('orca.json', 100), 'BAD_CREDENTIALS')).retryable);
  server.refusal = 403;
  await failure(t, source.readFile('orca.json', 100), 'ACCESS_DENIED');
  t.false(inspect(source, { depth: 9, showHidden: true }).includes('hunter2'));
});

test('a file written anew with the same length is read on; with another it is CORRUPT', async (t) => {
  const source = open(t);
  const layer = await source.openLayer(DIFF_ID);
  await writeFile(t.context.layer, Buffer.from(CONTENT).fill(1));
  await utimes(t.context.layer, 1, 1);
  t.deepEqual(Buffer.from(await layer.read(0, 3)), Buffer.from([1, 1, 1]));
  t.deepEqual(Buffer.from(await layer.read(9, 1)), Buffer.from([1]));
  await truncate(t.context.layer, 5000);
  const error = await failure(t, layer.read(0, 10), 'CORRUPT');
  t.regex(error.message, /had 100000 bytes, now 5000/);
  await failure(t, layer.read(6000, 10), 'CORRUPT');
});

test('a server without ranges, or with other ones, is a PROTOCOL error and never other data', async (t) => {
  const { server } = t.context;
  const layer = await open(t).openLayer(DIFF_ID);
  for (const [status, range] of [
    [200, undefined],
    [206, undefined],
    [206, 'bytes 0-9/100000'],
    [206, 'bytes 5-13/100000'],
    [206, 'bytes 5-14/99999'],
    [206, 'bytes 5-15/100000'],
    [204, undefined],
  ] as const) {
    server.fault = (request, response) => {
      if (request.headers.range === 'bytes=0-0') return false;
      response.writeHead(status, range === undefined ? {} : { 'content-range': range }).end('0123456789');
      return true;
    };
    await failure(t, layer.read(5, 10), 'PROTOCOL');
  }
});

test('fewer bytes than announced, and more, are errors', async (t) => {
  const { server } = t.context;
  const layer = await open(t).openLayer(DIFF_ID);
  for (const [body, code] of [
    ['012345678', 'SHORT_READ'],
    ['0123456789A', 'TOO_LARGE'],
  ] as const) {
    server.fault = (_, response) => {
      response
        .writeHead(206, { 'content-range': 'bytes 5-14/100000', 'transfer-encoding': 'chunked' })
        .end(body);
      return true;
    };
    await failure(t, layer.read(5, 10), code);
  }
});

test('a server that is away, hangs up or is overloaded is a retryable error', async (t) => {
  const { server } = t.context;
  const source = open(t, { response: 100, idle: 100 });
  const layer = await source.openLayer(DIFF_ID);
  for (const [fault, code] of [
    ['503', 'UNREACHABLE'],
    ['429', 'UNREACHABLE'],
    ['reset', 'CONNECTION_LOST'],
    ['cut', 'CONNECTION_LOST'],
    ['silent', 'TIMEOUT'],
  ] as const) {
    server.fault = (request, response) => {
      if (Number(fault) > 0) response.writeHead(Number(fault)).end();
      else if (fault === 'reset') request.socket.destroy();
      else if (fault === 'cut') {
        response.writeHead(206, { 'content-range': 'bytes 5-14/100000', 'content-length': 10 });
        response.write('01', () => request.socket.destroy());
      }
      return true;
    };
    t.true((await failure(t, layer.read(5, 10), code)).retryable, fault);
  }
  server.fault = undefined;
  t.is((await layer.read(5, 10)).length, 10);
  await server.stop();
  t.true((await failure(t, layer.read(5, 10), 'UNREACHABLE')).retryable);
  t.context.server = await FileServer.start(t.context.store);
});

test('a catalog file is asked for again when the server is overloaded for a moment', async (t) => {
  let failures = 2;
  t.context.server.fault = (_, response) => {
    if (failures-- <= 0) return false;
    response.writeHead(503).end();
    return true;
  };
  t.is((await open(t).readFile('orca.json', 100)).length, 13);
});

test('TLS is verified', async (t) => {
  const { store } = t.context;
  const server = await FileServer.start(store, { tls: true });
  const ca = [await readPem(join(CERTIFICATES, 'ca.crt'))];
  t.is((await open(t, { url: server.url, tls: { ca } }).readFile('orca.json', 100)).length, 13);
  const error = await failure(t, open(t, { url: server.url }).readFile('orca.json', 100), 'PROTOCOL');
  t.regex(error.message, /certificate/);
  await server.stop();
});

test('an aborted read rejects with the reason', async (t) => {
  const { server } = t.context;
  const layer = await open(t).openLayer(DIFF_ID);
  server.fault = () => true;
  const controller = new AbortController();
  const reason = new Error('no longer wanted');
  setTimeout(() => controller.abort(reason), 20);
  t.is(await t.throwsAsync(layer.read(0, 10, controller.signal)), reason);
});

test('a closed source refuses, and what was under way fails', async (t) => {
  const { server } = t.context;
  const source = open(t);
  const layer = await source.openLayer(DIFF_ID);
  server.fault = () => true;
  const pending = t.throwsAsync(layer.read(0, 10), { instanceOf: SourceError });
  await new Promise((resolve) => setTimeout(resolve, 50));
  await source.close();
  await pending;
  await failure(t, layer.read(0, 10), 'CLOSED');
  await failure(t, source.readFile('orca.json', 10), 'CLOSED');
});

test('only https URLs, and http ones of this machine, are stores', (t) => {
  for (const url of ['http://example.com/store', 'ftp://x/', 'https://', 'x', '']) {
    const error = t.throws(() => open(t, { url }), { instanceOf: SourceError });
    t.is(error?.code, 'INVALID_URL');
  }
  t.is(
    open(t, { url: 'https://me:hunter2@h.example:8443/a/b?sig=hunter2#x' }).location,
    'https://h.example:8443/a/b',
  );
});
