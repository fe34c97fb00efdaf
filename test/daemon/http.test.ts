import { readFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { parseHttpAddress } from '../../src/daemon/http.js';
import type { MountsView } from '../../src/daemon/page-view.js';
import { addImage, content } from '../source/store-fixture.js';
import { DaemonFixture } from './daemon-fixture.js';

const FILES = { 'bin/tool': content('tool', 300_000) };

interface Answer {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: string;
}

function get(to: { socketPath: string } | { port: number }, path: string, headers = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request({ ...to, path, headers }, async (response) => {
      let body = '';
      for await (const chunk of response.setEncoding('utf8')) body += chunk as string;
      resolve({ status: response.statusCode!, headers: response.headers, body });
    });
    asked.on('error', reject);
    asked.end();
  });
}

async function started(t: Parameters<typeof DaemonFixture.open>[0]) {
  const fixture = await DaemonFixture.open(t);
  await addImage(fixture.store, 'app:1', [FILES]);
  await fixture.start({ http: '127.0.0.1:0' });
  const mount = await fixture.mount('app:1', 'one');
  await readFile(join(mount.mountpoint, 'bin/tool'));
  let page: string | undefined;
  while (page === undefined) page = (await fixture.answer()).http;
  return { fixture, page, port: Number(new URL(page).port), socketPath: fixture.client.socket };
}

/** A reader has its bytes before they are counted. */
async function metricsOfReads(to: Parameters<typeof get>[0]): ReturnType<typeof get> {
  for (let tries = 0; ; tries++) {
    const answer = await get(to, '/metrics');
    const fetched = Number(/^orca_fetched_bytes_total\{source="file"\} (.*)$/m.exec(answer.body)?.[1] ?? 0);
    if (fetched >= 300_000 || tries === 100) return answer;
    await sleep(50);
  }
}

test('metrics are the same on the control socket and on the HTTP port, and tell what was read', async (t) => {
  const { port, socketPath } = await started(t);
  for (const to of [{ port }, { socketPath }]) {
    const { status, headers, body } = await metricsOfReads(to);
    t.is(status, 200);
    t.regex(String(headers['content-type']), /^text\/plain; version=0\.0\.4/);
    const lines = body.trimEnd().split('\n');
    for (const line of lines)
      t.regex(line, /^# (HELP|TYPE) orca_|^orca_[a-z_]+(\{([a-z]+="[^"]*",?)+\})? [0-9.e+-]+$/);
    const families = lines.filter((line) => line.startsWith('# TYPE')).map((line) => line.split(' ')[2]);
    t.is(new Set(families).size, families.length);
    const series = lines.filter((line) => !line.startsWith('#')).map((line) => line.replace(/ [^ ]*$/, ''));
    t.is(new Set(series).size, series.length);
    const value = (sample: string) =>
      Number(lines.find((line) => line.startsWith(`${sample} `))?.slice(sample.length + 1));
    t.true(value('orca_fetched_bytes_total{source="file"}') >= 300_000);
    t.true(value('orca_miss_seconds_count{source="file"}') > 0);
    t.true(value('orca_read_bytes_total{image="app:1"}') >= 300_000);
    t.true(value('orca_reads_total{image="app:1",result="miss"}') > 0);
    t.true(value('orca_fuse_requests_total{image="app:1",opcode="READ"}') > 0);
    t.is(value('orca_mounts'), 1);
    t.true(value('orca_cache_limit_bytes') > 0);
    t.is(value('orca_reads_in_flight{image="app:1"}'), 0);
  }
});

test('the HTTP port only reads, and answers nobody who calls it by another name', async (t) => {
  const { port } = await started(t);
  t.is((await get({ port }, '/metrics', { host: 'attacker.example' })).status, 421);
  for (const path of ['/', '/view/mounts.json', '/view/mounts/one.json'])
    t.is((await get({ port }, path, { host: 'attacker.example' })).status, 421);
  for (const path of ['/page/../package.json', '/page/tsconfig.json', '/page/', '/view/mounts/..%2fone.json'])
    t.is((await get({ port }, path)).status, 404, path);
  for (const path of ['/view/mounts/other.json', '/constructor', '/__proto__'])
    t.is((await get({ port }, path)).status, 404, path);
  t.is((await get({ port }, '/v1/ping')).status, 404);
  t.is((await get({ port }, '/v1/mounts/one')).status, 404);
  const posted = await fetch(`http://127.0.0.1:${port}/v1/shutdown`, { method: 'POST' });
  t.is(posted.status, 405);
});

test('the page and what it loads may use nothing but this port, and every file of it is there', async (t) => {
  const { port } = await started(t);
  const page = await get({ port }, '/');
  t.is(page.status, 200);
  const policy = String(page.headers['content-security-policy']);
  t.regex(policy, /default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'/);
  t.notRegex(policy, /unsafe|data:|\*/);
  t.notRegex(page.body, /<script>|<style|https?:|\son[a-z]+=/);
  const pending = [...page.body.matchAll(/(?:src|href)="(\/page\/[^"]+)"/g)].map(([, path]) => path!);
  const seen = new Set<string>();
  for (const path of pending) {
    if (seen.has(path)) continue;
    seen.add(path);
    const { status, headers, body } = await get({ port }, path);
    t.is(status, 200, path);
    t.regex(String(headers['content-type']), path.endsWith('.js') ? /^text\/javascript/ : /^text\/css/);
    t.is(headers['x-content-type-options'], 'nosniff');
    for (const [, name] of body.matchAll(/from '\.\/([^']+)'/g)) pending.push(`/page/${name}`);
  }
  t.true(seen.size > 6);
  const { mounts } = JSON.parse((await get({ port }, '/view/mounts.json')).body) as MountsView;
  t.deepEqual(
    mounts.map(({ id, image }) => ({ id, image })),
    [{ id: 'one', image: 'app:1' }],
  );
});

test('the HTTP port is for this host alone', (t) => {
  t.deepEqual(parseHttpAddress('127.0.0.1:9000'), { host: '127.0.0.1', port: 9000 });
  t.deepEqual(parseHttpAddress('[::1]:0'), { host: '::1', port: 0 });
  for (const text of ['0.0.0.0:9000', '9000', ':9000', '127.0.0.1', '10.0.0.1:1', 'localhost.example:1'])
    t.throws(() => parseHttpAddress(text), { code: 'INVALID_OPTION' }, text);
});
