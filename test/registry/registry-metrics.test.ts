import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { serveMetrics } from '../../src/registry/registry-metrics.js';
import { TestRegistry } from './server-fixture.js';

/** Whoever asked has the answer before it is counted. */
async function metricsWith(registry: TestRegistry, pattern: RegExp): Promise<string> {
  for (let tries = 0; ; tries++) {
    const text = registry.registry.metrics();
    if (pattern.test(text) || tries === 100) return text;
    await sleep(20);
  }
}

const value = (text: string, sample: string) =>
  Number(
    text
      .split('\n')
      .find((line) => line.startsWith(`${sample} `))
      ?.slice(sample.length + 1),
  );

test('requests are counted by route and status, bytes by kind, and nobody is named', async (t) => {
  const registry = await TestRegistry.start();
  t.teardown(() => registry.stop());
  const layer = Buffer.alloc(300_000, 7);
  await registry.pushImage('secret/name', 'tag', layer);
  const digest = await registry.pushBlob('secret/name', layer);
  await registry.send('GET', `/v2/secret/name/blobs/${digest}`);
  await registry.send('GET', `/v2/secret/name/blobs/${digest}`, { headers: { range: 'bytes=0-9' } });
  await registry.send('GET', '/v2/secret/name/manifests/none');
  await registry.send('GET', '/nowhere/secret');
  const blobs = 'route="GET /v2/:name/blobs/:digest"';
  const text = await metricsWith(registry, /route="GET none",status="404"/);
  t.is(value(text, `orca_registry_requests_total{${blobs},status="200"}`), 1);
  t.is(value(text, `orca_registry_requests_total{${blobs},status="206"}`), 1);
  t.is(
    value(text, 'orca_registry_requests_total{route="GET /v2/:name/manifests/:reference",status="404"}'),
    1,
  );
  t.is(value(text, 'orca_registry_requests_total{route="GET none",status="404"}'), 1);
  t.is(value(text, `orca_registry_request_seconds_count{${blobs}}`), 2);
  const sent = value(text, 'orca_registry_sent_bytes_total{kind="blob"}');
  t.true(sent >= 300_010 && sent < 302_000, String(sent));
  t.is(value(text, 'orca_registry_requests_in_flight'), 0);
  t.notRegex(text, /secret|sha256|expansion/);
  for (const line of text.trimEnd().split('\n'))
    t.regex(
      line,
      /^# (HELP|TYPE) orca_registry_|^orca_registry_[a-z_]+(\{([a-z]+="[^"]*",?)+\})? [0-9.e+-]+$/,
    );
});

test('a client that goes away is counted as that', async (t) => {
  const registry = await TestRegistry.start();
  t.teardown(() => registry.stop());
  const digest = await registry.pushBlob('app', Buffer.alloc(64 << 20));
  const stop = new AbortController();
  const response = await fetch(`${registry.url}/v2/app/blobs/${digest}`, { signal: stop.signal });
  await response.body?.getReader().read();
  stop.abort();
  const text = await metricsWith(registry, /status="aborted"/);
  t.is(value(text, 'orca_registry_requests_total{route="GET /v2/:name/blobs/:digest",status="aborted"}'), 1);
  t.true(value(text, 'orca_registry_sent_bytes_total{kind="blob"}') < 64 << 20);
});

test('expansions are counted by their result', async (t) => {
  const registry = await TestRegistry.start({ expansion: { workers: 1 } });
  t.teardown(() => registry.stop());
  await registry.pushImage('app', 'broken', 'this is no tar');
  const text = await metricsWith(registry, /orca_registry_expansions_total\{result="failed"\} 1/);
  t.is(value(text, 'orca_registry_expansions_total{result="failed"}'), 1);
  t.is(value(text, 'orca_registry_expansions_total{result="expanded"}'), 0);
  const empty = await metricsWith(registry, /orca_registry_expansion_queue_length 0/);
  t.is(value(empty, 'orca_registry_expansion_queue_length'), 0);
  t.is(value(empty, 'orca_registry_expansions_in_progress'), 0);
});

test('the port of the metrics serves them and nothing else', async (t) => {
  const server = await serveMetrics({ host: '127.0.0.1', port: 0 }, () => 'numbers\n');
  t.teardown(() => server.close());
  t.is(await (await fetch(server.url)).text(), 'numbers\n');
  t.is((await fetch(new URL('/v2/', server.url))).status, 404);
  t.is((await fetch(server.url, { method: 'POST' })).status, 405);
  const { port } = new URL(server.url);
  await t.throwsAsync(
    serveMetrics({ host: '127.0.0.1', port: Number(port) }, () => ''),
    { code: 'LISTEN' },
  );
});

test('answers name their request: as the client did, when that is well-formed', async (t) => {
  const registry = await TestRegistry.start();
  t.teardown(() => registry.stop());
  const named = async (id: string) =>
    (await registry.send('GET', '/v2/', { headers: { 'x-request-id': id } })).headers['x-request-id'];
  t.is(await named('client-request-1'), 'client-request-1');
  t.regex(String(await named('not well-formed')), /^[0-9a-f-]{36}$/);
  t.regex(String((await registry.send('GET', '/nowhere')).headers['x-request-id']), /^[0-9a-f-]{36}$/);
});
