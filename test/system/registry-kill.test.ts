/** `orca registry` as a process that is killed, or told to end, while clients push. */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { type IncomingHttpHeaders, request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { isOneLine, orca } from '../cli/orca.js';
import { Random } from '../image/random.js';
import { RegistryProcess } from './registry-process.js';

const PUSHERS = 6;
const KILLS = 5;
const IMAGES = 6;

const digestOf = (bytes: Uint8Array) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** What a registry has said it has stored. */
class Acknowledged {
  /** Digest → repository. */
  readonly blobs = new Map<string, string>();
  /** repository:tag → digests of the manifests that were pushed under it, the last one acknowledged or not. */
  readonly tags = new Map<string, string[]>();
}

/** Pushes an image as clients do, layer by layer; throws when the connection breaks. */
async function pushImage(
  url: string,
  repository: string,
  tag: string,
  layers: readonly Uint8Array[],
  done: Acknowledged,
) {
  const send = (method: string, path: string, body?: Uint8Array, type = 'application/octet-stream') =>
    new Promise<IncomingHttpHeaders>((resolve, reject) => {
      const headers = body === undefined ? {} : { 'content-type': type };
      const sending = request(new URL(path, url), { method, headers, agent: false });
      sending.on('error', reject);
      sending.on('response', (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => {
          text += chunk.toString();
        });
        response.on('error', reject);
        response.on('end', () => {
          const { statusCode = 0 } = response;
          if (statusCode < 300) resolve(response.headers);
          else reject(new Error(`${method} ${path}: ${statusCode} ${text}`));
        });
      });
      sending.end(body);
    });
  const descriptors = [];
  for (const bytes of [Buffer.from(`{"tag":"${tag}"}`), ...layers]) {
    const digest = digestOf(bytes);
    const location = (await send('POST', `/v2/${repository}/blobs/uploads/`)).location ?? '';
    const middle = Math.floor(bytes.length / 2);
    await send('PATCH', location, bytes.subarray(0, middle));
    await send('PUT', `${location}?digest=${digest}`, bytes.subarray(middle));
    done.blobs.set(digest, repository);
    descriptors.push({ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest, size: bytes.length });
  }
  const [config, ...rest] = descriptors;
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, config, layers: rest }));
  const name = `${repository}:${tag}`;
  done.tags.set(name, [...(done.tags.get(name) ?? []), digestOf(manifest)]);
  await send('PUT', `/v2/${repository}/manifests/${tag}`, manifest, mediaType);
}

/** Every file that has the name of a blob is that blob. */
async function damagedBlobs(data: string): Promise<string[]> {
  const root = join(data, 'blobs', 'sha256');
  const damaged: string[] = [];
  // There is no such directory before the first blob.
  for (const prefix of await readdir(root).catch(() => [])) {
    for (const hex of await readdir(join(root, prefix))) {
      if (digestOf(await readFile(join(root, prefix, hex))) !== `sha256:${hex}`) damaged.push(hex);
    }
  }
  return damaged;
}

test.serial('a server that is killed while many push loses nothing and shows nothing half', async (t) => {
  const seed = Number(process.env['ORCA_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  t.log(`seed ${seed}`);
  const random = new Random(seed);
  const registry = await RegistryProcess.start();
  const done = new Acknowledged();
  // Layers that all push, so that they meet in the same blob.
  const shared = [random.bytes(700_000), random.bytes(50_000)];
  let broken = 0;
  let stopped = false;
  try {
    let finished = 0;
    const pushers = Array.from({ length: PUSHERS }, async (_, i) => {
      for (let image = 0; image < IMAGES; image++) {
        const layers = [random.pick(shared), random.bytes(1 + random.below(1_500_000)), random.pick(shared)];
        while (!stopped) {
          try {
            await pushImage(registry.url, `team${i % 3}/app${i}`, `v${image % 3}`, layers, done);
            break;
          } catch (error) {
            if (/: [45]\d\d /.test((error as Error).message)) throw error;
            broken++;
            await sleep(50);
          }
        }
      }
      finished++;
    });
    const pushing = Promise.all(pushers);
    pushing.catch(() => undefined);
    for (let i = 0; i < KILLS && finished < PUSHERS; i++) {
      await sleep(150 + random.below(900));
      await registry.kill();
      t.deepEqual(await damagedBlobs(registry.data), [], 'right after the kill');
      await registry.launch();
    }
    await pushing;
    t.true(broken > 0, 'no push was under way when the server was killed');
    await registry.kill();
    await registry.launch();
    t.deepEqual(await damagedBlobs(registry.data), []);
    for (const [digest, repository] of done.blobs) {
      const response = await fetch(`${registry.url}/v2/${repository}/blobs/${digest}`);
      t.is(digestOf(new Uint8Array(await response.arrayBuffer())), digest);
    }
    for (const [name, digests] of done.tags) {
      const [repository = '', tag] = name.split(':');
      const response = await fetch(`${registry.url}/v2/${repository}/manifests/${tag}`);
      const manifest = new Uint8Array(await response.arrayBuffer());
      t.is(digestOf(manifest), digests.at(-1) ?? '');
    }
  } finally {
    stopped = true;
    await registry.stop();
  }
});

test.serial('an upload goes on after its server was killed', async (t) => {
  const registry = await RegistryProcess.start();
  try {
    const content = new Random(7).bytes(5_000_000);
    const start = await fetch(`${registry.url}/v2/a/blobs/uploads/`, { method: 'POST' });
    const location = new URL(start.headers.get('location') ?? '', registry.url);
    const patch = request(location, { method: 'PATCH' });
    patch.on('error', () => {});
    patch.write(content.subarray(0, 3_000_000));
    const progress = async () =>
      (await readFile(join(registry.data, 'uploads', location.pathname.split('/').at(-1) ?? '', 'data')))
        .length;
    while ((await progress()) < 1_000_000) await sleep(10);
    await registry.kill();
    await registry.launch();
    const status = await fetch(location);
    t.is(status.status, 204);
    const offset = Number(/^0-(\d+)$/.exec(status.headers.get('range') ?? '')?.[1]) + 1;
    t.true(offset >= 1_000_000 && offset <= 3_000_000, `${offset}`);
    const put = await fetch(`${location}?digest=${digestOf(content)}`, {
      method: 'PUT',
      body: content.subarray(offset),
    });
    t.is(put.status, 201);
    const blob = await fetch(`${registry.url}/v2/a/blobs/${digestOf(content)}`);
    t.true(content.equals(new Uint8Array(await blob.arrayBuffer())));
  } finally {
    await registry.stop();
  }
});

test.serial('a server that is told to end lets the upload under way end first', async (t) => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const registry = await RegistryProcess.start();
    const content = new Random(8).bytes(2_000_000);
    const digest = digestOf(content);
    const post = request(`${registry.url}/v2/a/blobs/uploads/?digest=${digest}`, { method: 'POST' });
    // Its failure is that of the wait for the response.
    post.on('error', () => {});
    post.write(content.subarray(0, 1_000_000));
    while ((await readdir(join(registry.data, 'uploads'))).length === 0) await sleep(10);
    const ended = registry.end(signal);
    await sleep(100);
    post.end(content.subarray(1_000_000));
    const [response] = (await once(post, 'response')) as [{ statusCode: number; resume(): void }];
    response.resume();
    t.is(response.statusCode, 201);
    const { code, stderr } = (await ended) ?? {};
    t.is(code, 0, stderr);
    t.is(stderr, '');
    const file = join(registry.data, 'blobs/sha256', digest.slice(7, 9), digest.slice(7));
    t.true(content.equals(await readFile(file)));
    await registry.stop();
  }
});

test.serial('what keeps a registry from starting is said in one line', async (t) => {
  const registry = await RegistryProcess.start();
  try {
    for (const [args, message] of [
      [['--data', registry.data, '--listen', '127.0.0.1:0'], /another registry serves it/],
      [['--data', `${registry.directory}/new`, '--listen', registry.host], /EADDRINUSE/],
      [['--data', `${registry.directory}/new`, '--listen', 'x'], /--listen x: write HOST:PORT/],
      [['--data', registry.directory], /not empty and not that of a registry/],
      [['--data', `${registry.directory}/new`, '--users', '/nonexistent'], /users file \/nonexistent/],
      [['--data', `${registry.directory}/new`, '--tls-cert', '/nonexistent'], /give both/],
      [
        ['--data', `${registry.directory}/new`, '--tls-cert', '/nonexistent', '--tls-key', '/x'],
        /\/nonexistent: /,
      ],
      [[], /give --data/],
    ] as const) {
      const ended = await orca(['registry', ...args]);
      t.is(ended.code, 1, args.join(' '));
      t.true(isOneLine(ended), ended.stderr);
      t.regex(ended.stderr, message);
    }
  } finally {
    await registry.stop();
  }
});
