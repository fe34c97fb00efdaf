import { randomBytes } from 'node:crypto';
import anyTest, { type TestFn } from 'ava';
import type { Descriptor } from '../../src/oci/manifest.js';
import { OciError } from '../../src/oci/oci-error.js';
import { RegistryClient } from '../../src/oci/registry-client.js';
import type { RemoteBlob } from '../../src/oci/remote-blob.js';
import type { Repository } from '../../src/oci/repository.js';
import { FakeRegistry, sendBytes } from './fake-registry.js';

interface Context {
  registry: FakeRegistry;
  client: RegistryClient;
  app: Repository;
  bytes: Buffer;
  descriptor: Descriptor;
}

const test = anyTest as TestFn<Context>;

test.beforeEach(async (t) => {
  const registry = await FakeRegistry.start();
  const client = new RegistryClient({ credentials: async () => undefined });
  const bytes = randomBytes(1_000_000);
  const descriptor = registry.addBlob('application/octet-stream', bytes);
  t.context = { registry, client, app: client.repository(registry.app), bytes, descriptor };
});

test.afterEach.always(async (t) => {
  await t.context.client.close();
  await t.context.registry.stop();
});

async function collect(blob: RemoteBlob): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of blob.stream()) chunks.push(chunk);
  return Buffer.concat(chunks);
}

test('a stream is the blob, and an empty blob is empty', async (t) => {
  const { app, registry, bytes, descriptor } = t.context;
  t.true((await collect(app.blob(descriptor))).equals(bytes));
  t.is((await collect(app.blob(registry.addBlob('a/b', Buffer.alloc(0))))).length, 0);
});

for (const ranges of [true, false]) {
  test(`a stream goes on where the connection was cut, from a registry with${ranges ? '' : 'out'} ranges`, async (t) => {
    const { app, registry, bytes, descriptor } = t.context;
    let cuts = 3;
    registry.fault = (request, response) => {
      if (!request.url?.includes('/blobs/')) return false;
      const range = ranges ? request.headers.range : undefined;
      const start = Number(/\d+/.exec(range ?? '')?.[0] ?? 0);
      if (cuts === 0) {
        sendBytes(response, bytes, range);
        return true;
      }
      const end = 300_000 * (4 - cuts--);
      response.writeHead(start === 0 ? 200 : 206, {
        'content-length': bytes.length - start,
        ...(start === 0 ? {} : { 'content-range': `bytes ${start}-${bytes.length - 1}/${bytes.length}` }),
      });
      response.write(bytes.subarray(start, end), () => setTimeout(() => request.socket.destroy(), 20));
      return true;
    };
    t.true((await collect(app.blob(descriptor))).equals(bytes));
    t.is(registry.seen('/blobs/').length, 4);
    t.is(registry.seen('/blobs/')[0]?.range, undefined);
    t.regex(registry.seen('/blobs/')[3]?.range ?? '', /^bytes=[1-9]\d*-$/);
  });
}

test('a registry that cuts without end is given up', async (t) => {
  const { app, registry, descriptor } = t.context;
  registry.fault = (request, response) => {
    if (!request.url?.includes('/blobs/')) return false;
    response.writeHead(200, { 'content-length': descriptor.size, 'retry-after': '0' });
    response.write(Buffer.alloc(10), () => request.socket.destroy());
    return true;
  };
  const error = await t.throwsAsync(collect(app.blob(descriptor)), { instanceOf: OciError });
  t.is(error?.code, 'CONNECTION_LOST');
  t.true(error?.retryable);
  t.is(registry.seen('/blobs/').length, 7);
});

test('other bytes, more and fewer than declared are refused', async (t) => {
  const { app, registry, bytes, descriptor } = t.context;
  const wrong = Buffer.from(bytes);
  wrong[500_000]! ^= 1;
  registry.blobs.set(descriptor.digest, wrong);
  const mismatch = await t.throwsAsync(collect(app.blob(descriptor)), { instanceOf: OciError });
  t.is(mismatch?.code, 'DIGEST_MISMATCH');
  registry.blobs.set(descriptor.digest, Buffer.concat([bytes, bytes]));
  const more = await t.throwsAsync(collect(app.blob(descriptor)), { instanceOf: OciError });
  t.is(more?.code, 'SIZE_MISMATCH');
  const small = { ...descriptor, size: 10 };
  registry.blobs.set(descriptor.digest, wrong.subarray(0, 10));
  t.is(
    (await t.throwsAsync(app.readBlob(small, 'config'), { instanceOf: OciError }))?.code,
    'DIGEST_MISMATCH',
  );
  registry.blobs.set(descriptor.digest, bytes);
  t.is((await t.throwsAsync(app.readBlob(small, 'config'), { instanceOf: OciError }))?.code, 'TOO_LARGE');
});

test('ranges are exactly what was asked for', async (t) => {
  const { app, bytes, descriptor } = t.context;
  const blob = app.blob(descriptor);
  const reads = Array.from({ length: 20 }, (_, i) => [i * 49_000, 1 + i * 700] as const);
  for (const [i, read] of (await Promise.all(reads.map((range) => blob.read(...range)))).entries()) {
    const [offset, length] = reads[i]!;
    t.true(Buffer.from(read).equals(bytes.subarray(offset, offset + length)));
  }
  t.is((await blob.read(5, 0)).length, 0);
  t.is((await blob.read(0, bytes.length)).length, bytes.length);
});

test('a registry without ranges says UNSUPPORTED, one that sends another range PROTOCOL', async (t) => {
  const { app, registry, bytes, descriptor } = t.context;
  registry.fault = (request, response) => {
    if (!request.url?.includes('/blobs/')) return false;
    sendBytes(response, bytes, undefined);
    return true;
  };
  const none = await t.throwsAsync(app.blob(descriptor).read(1, 2), { instanceOf: OciError });
  t.is(none?.code, 'UNSUPPORTED');
  registry.fault = (request, response) => {
    if (!request.url?.includes('/blobs/')) return false;
    sendBytes(response, bytes, 'bytes=7-8');
    return true;
  };
  const other = await t.throwsAsync(app.blob(descriptor).read(1, 2), { instanceOf: OciError });
  t.is(other?.code, 'PROTOCOL');
});

test('the storage behind a redirect is asked directly, until it refuses', async (t) => {
  const { app, registry, bytes, descriptor } = t.context;
  const storage = await FakeRegistry.start();
  let signature = 1;
  registry.fault = (request, response) => {
    if (!request.url?.includes('/blobs/')) return false;
    response.writeHead(307, { location: `${storage.url}/s3/blob?signature=${signature}` }).end();
    return true;
  };
  storage.fault = (request, response) => {
    const good = request.url?.endsWith(`signature=${signature}`);
    if (good) sendBytes(response, bytes, request.headers.range);
    else response.writeHead(403).end('<Error>expired</Error>');
    return true;
  };
  const blob = app.blob(descriptor);
  for (let i = 0; i < 5; i++) {
    t.true(Buffer.from(await blob.read(i * 1000, 100)).equals(bytes.subarray(i * 1000, i * 1000 + 100)));
  }
  t.is(registry.seen('/blobs/').length, 1);
  signature = 2;
  t.true(Buffer.from(await blob.read(7, 100)).equals(bytes.subarray(7, 107)));
  t.is(registry.seen('/blobs/').length, 2);
  t.true(storage.requests.every(({ authorization }) => authorization === undefined));
  await storage.stop();
  registry.fault = undefined;
  t.is((await blob.read(7, 100)).length, 100);
});

test('a reader that leaves in the middle leaves no connection behind', async (t) => {
  const { app, client, descriptor, registry } = t.context;
  for await (const chunk of app.blob(descriptor).stream()) {
    t.true(chunk.length > 0);
    break;
  }
  t.is((await app.blob(descriptor).read(0, 10)).length, 10);
  await client.close();
  t.is(registry.seen('/blobs/').length, 2);
});
