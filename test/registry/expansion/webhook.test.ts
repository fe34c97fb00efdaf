import { createHmac } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { DataDirectory } from '../../../src/registry/data-directory.js';
import { Webhook } from '../../../src/registry/expansion/webhook.js';
import { TestRegistry } from '../server-fixture.js';
import { layerOf, pushImage, until } from './images.js';

const SECRET = 'a secret of the webhook';

interface Taken {
  headers: IncomingHttpHeaders;
  body: string;
}

interface Context {
  directory: string;
  server: Server;
  url: string;
  taken: Taken[];
  /** What the server answers; 200 when there is nothing left. */
  answers: number[];
}
const test = anyTest as TestFn<Context>;
test.beforeEach(async (t) => {
  const { context } = t;
  context.directory = mkdtempSync(join(tmpdir(), 'orca-webhook-'));
  context.taken = [];
  context.answers = [];
  context.server = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk: Buffer) => {
      body += chunk.toString();
    });
    request.on('end', () => {
      context.taken.push({ headers: request.headers, body });
      response.writeHead(context.answers.shift() ?? 200, { location: '/elsewhere' }).end();
    });
  });
  await new Promise<void>((resolve) => context.server.listen(0, '127.0.0.1', resolve));
  context.url = `http://127.0.0.1:${(context.server.address() as AddressInfo).port}/hook`;
});
test.afterEach.always(({ context }) => {
  context.server.closeAllConnections();
  context.server.close();
  rmSync(context.directory, { recursive: true, force: true });
});

/** As the documentation tells receivers to verify. */
function isSigned({ headers, body }: Taken): boolean {
  const timestamp = headers['x-orca-timestamp'] as string;
  const expected = createHmac('sha256', SECRET).update(`${timestamp}.${body}`).digest('hex');
  return headers['x-orca-signature'] === `sha256=${expected}`;
}

test('an image that is expanded, and one that cannot be, are told of, signed', async (t) => {
  const { url, taken } = t.context;
  const registry = await TestRegistry.start({ expansion: { workers: 1, webhook: { url, secret: SECRET } } });
  try {
    const good = await pushImage(registry, 'app', 'good', [layerOf('good')]);
    const bad = await pushImage(registry, 'app', 'bad', [
      { blob: Buffer.from('junk'), diffID: layerOf('x').diffID },
    ]);
    await until(() => taken.length === 2);
    t.true(taken.every(isSigned));
    const events = taken
      .map(({ body }) => JSON.parse(body) as { event: string; digest: string; id: string; tags: string[] })
      .sort((a, b) => a.event.localeCompare(b.event));
    t.deepEqual(
      events.map(({ event, digest, tags }) => [event, digest, tags]),
      [
        ['expanded', good, ['good']],
        ['failed', bad, ['bad']],
      ],
    );
    t.not(events[0]?.id, events[1]?.id);
  } finally {
    await registry.stop();
  }
});

const event = { event: 'expanded' as const, repository: 'app', digest: `sha256:${'0'.repeat(64)}`, tags: [] };

test('an event is sent until it is taken, also after a restart, and redirects are not followed', async (t) => {
  const { directory, url, taken, answers } = t.context;
  const data = await DataDirectory.open(join(directory, 'data'));
  answers.push(500, 307);
  const first = await Webhook.open(data, { url, secret: SECRET });
  await first.add(event, 1);
  await first.add(event, 1);
  await until(() => taken.length >= 1);
  await first.close();
  t.is(readdirSync(data.join('queue/webhook')).length, 1);
  const second = await Webhook.open(data, { url, secret: SECRET });
  await until(() => readdirSync(data.join('queue/webhook')).length === 0);
  t.is(taken.length, 3);
  t.is(new Set(taken.map(({ body }) => body)).size, 1);
  await second.close();
  data.close();
});

test('a URL that is none, and a secret that can be guessed, are refused', async (t) => {
  const data = await DataDirectory.open(join(t.context.directory, 'data'));
  for (const options of [
    { url: 'ftp://example.org/', secret: SECRET },
    { url: 'hook', secret: SECRET },
    { url: 'http://user:password@example.org/', secret: SECRET },
    { url: 'https://example.org/', secret: 'short' },
  ])
    await t.throwsAsync(Webhook.open(data, options), { code: 'INVALID_OPTION' });
  data.close();
});
