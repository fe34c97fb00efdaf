/** The gateway before Debian's docker-registry: its events, its lack of the referrers API, its accounts. Needs root. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { parseTeleportArtifact } from '../../src/image/artifact.js';
import { RegistryCredentials } from '../../src/oci/credentials.js';
import { digestOf } from '../../src/oci/digest.js';
import { MEDIA_TYPE, parseManifest } from '../../src/oci/manifest.js';
import { parseReference } from '../../src/oci/reference.js';
import { RegistryClient } from '../../src/oci/registry-client.js';
import { Upstream } from '../../src/registry/gateway/upstream.js';
import { UpstreamOrigin } from '../../src/registry/gateway/upstream-origin.js';
import { openRegistryImage } from '../../src/source/registry-image.js';
import { addArtifact, enable } from '../registry/gateway/gateway-fixture.js';
import { json, TestRegistry } from '../registry/server-fixture.js';
import { run } from './command.js';
import { DockerRegistry } from './docker-registry.js';
import { testImage } from './images.js';

const SECRET = 'what-the-registry-shows-us';
const USER = { username: 'gateway', password: 'its own: secret' };
const WAIT_MS = 30_000;
let scratch: string;

test.before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'orca-gateway-system-'));
});
test.after.always(() => rm(scratch, { recursive: true, force: true }));

async function push(host: string, reference: string, more: readonly string[] = []): Promise<string> {
  const image = await testImage('nginx');
  const options = ['--dest-tls-verify=false', '--preserve-digests', ...more];
  await run('skopeo', [
    'copy',
    ...options,
    `oci:${image.directory}:${image.tag}`,
    `docker://${host}/${reference}`,
  ]);
  const index = JSON.parse(await readFile(join(image.directory, 'index.json'), 'utf8')) as {
    manifests: { digest: string }[];
  };
  return index.manifests[0]?.digest ?? '';
}

test.serial('docker-registry tells the gateway of images that are pushed around it', async (t) => {
  const tokenFile = join(scratch, 'token');
  await writeFile(tokenFile, SECRET);
  const told: string[] = [];
  // The registry has to know the gateway before the gateway can know it, so there is one for its events alone.
  const events = await TestRegistry.start({
    upstream: { url: 'http://127.0.0.1:1' },
    notificationsToken: tokenFile,
    onManifest: (repository, digest) => void told.push(`${repository}@${digest}`),
  });
  const upstream = await DockerRegistry.start({
    notify: { url: `${events.url}/notifications`, token: SECRET },
  });
  try {
    await enable(events, 'team/nginx');
    const digest = await push(upstream.host, 'team/nginx:1');
    const arrived = async (done: () => Promise<boolean> | boolean) => {
      for (const deadline = Date.now() + WAIT_MS; !(await done()); await sleep(50))
        if (Date.now() > deadline) return false;
      return true;
    };
    t.true(await arrived(() => told.length > 0), 'no event has come');
    t.deepEqual(told, [`team/nginx@${digest}`]);
    const kept = events.registry.context.storage.repository('team/nginx');
    const artifact = await addArtifact(events, 'team/nginx', { digest, bytes: Buffer.from('x') });
    const remote = `docker://${upstream.host}/team/nginx:1`;
    await run('skopeo', ['delete', '--tls-verify=false', remote]);
    t.true(await arrived(async () => (await kept.manifest(artifact.digest)) === undefined));
  } finally {
    await upstream.stop();
    await events.stop();
  }
});

test.serial(
  'an artifact of ours stands beside what docker-registry, without the API, has by tag',
  async (t) => {
    const upstream = await DockerRegistry.start();
    const gateway = await TestRegistry.start({ upstream: { url: `http://${upstream.host}` } });
    try {
      const digest = await push(gateway.host, 'a/nginx:1');
      const path = `/v2/a/nginx/referrers/${digest}`;
      t.is((await gateway.send('GET', path)).status, 404);
      const artifact = await addArtifact(gateway, 'a/nginx', { digest, bytes: Buffer.from('x') });
      const list = async () =>
        (json(await gateway.send('GET', path)) as { manifests: { digest: string }[] }).manifests;
      t.deepEqual(
        (await list()).map((one) => one.digest),
        [artifact.digest],
      );
      const index = Buffer.from(
        JSON.stringify({
          schemaVersion: 2,
          mediaType: 'application/vnd.oci.image.index.v1+json',
          manifests: [{ mediaType: 'application/vnd.oci.image.manifest.v1+json', digest, size: 1 }],
        }),
      );
      const tag = digest.replace(':', '-');
      const pushed = await gateway.pushManifest(
        'a/nginx',
        tag,
        index,
        'application/vnd.oci.image.index.v1+json',
      );
      t.is(pushed.status, 201, pushed.body.toString());
      t.deepEqual(
        (await list()).map((one) => one.digest),
        [artifact.digest, digest],
      );
    } finally {
      await gateway.stop();
      await upstream.stop();
    }
  },
);

test.serial('the gateway reads from the upstream with credentials of its own', async (t) => {
  const upstream = await DockerRegistry.start({ user: USER });
  const credentials = join(scratch, 'credentials');
  await writeFile(credentials, `${USER.username}:${USER.password}\n`);
  const url = `http://${upstream.host}`;
  const gateway = await TestRegistry.start({ upstream: { url } });
  const reader = await Upstream.open({ url, credentials });
  const stranger = await Upstream.open({ url });
  try {
    const digest = await push(gateway.host, 'a/b:1', ['--dest-creds', `${USER.username}:${USER.password}`]);
    const { storage } = gateway.registry.context;
    const origin = new UpstreamOrigin(reader, storage);
    t.deepEqual(await origin.tags('a/b'), ['1']);
    t.deepEqual(await origin.tags('never/seen'), []);
    t.is(await origin.resolve('a/b', '1'), digest);
    t.is(await origin.resolve('a/b', '2'), undefined);
    const { bytes } = (await origin.readManifest('a/b', digest))!;
    t.is(await origin.readManifest('a/b', digestOf(Buffer.from('none'))), undefined);
    t.is(digestOf(bytes), digest);
    t.is((await storage.repository('a/b').manifest(digest))?.size, bytes.length);
    const [layer] = parseManifest(bytes).layers;
    t.is(await origin.blobSize('a/b', layer!), layer?.size);
    t.is(await origin.blobSize('other', layer!), undefined);
    const chunks: Uint8Array[] = [];
    for await (const chunk of origin.openBlob('a/b', layer!)) chunks.push(chunk);
    t.is(digestOf(Buffer.concat(chunks)), layer?.digest ?? '');
    await t.throwsAsync(new UpstreamOrigin(stranger, storage).tags('a/b'), { message: /UNAUTHORIZED/ });
  } finally {
    await reader.close();
    await stranger.close();
    await gateway.stop();
    await upstream.stop();
  }
});

test.serial(
  'what is pushed through or around the gateway is expanded, for those who may pull it',
  async (t) => {
    const tokenFile = join(scratch, 'token');
    await writeFile(tokenFile, SECRET);
    const stranger = { username: 'stranger', password: 'another' };
    const upstream = await DockerRegistry.start({ user: [USER, stranger] });
    const credentials = join(scratch, 'credentials');
    await writeFile(credentials, `${USER.username}:${USER.password}`);
    const gateway = await TestRegistry.start({
      upstream: { url: `http://${upstream.host}`, credentials },
      notificationsToken: tokenFile,
      teleportDefault: true,
      expansion: { workers: 1 },
    });
    const basic = (user: typeof USER) => ({
      authorization: `Basic ${Buffer.from(`${user.username}:${user.password}`).toString('base64')}`,
    });
    const { expansion } = gateway.registry.context;
    const expanded = async (repository: string, digest: string) => {
      for (const deadline = Date.now() + WAIT_MS; ; await sleep(50)) {
        const status = await expansion?.status(repository, digest);
        if (status?.state === 'expanded') return status.artifact?.digest ?? '';
        if (status?.state === 'failed' || Date.now() > deadline) throw new Error(JSON.stringify(status));
      }
    };
    try {
      const asUser = ['--dest-creds', `${USER.username}:${USER.password}`];
      const digest = await push(gateway.host, 'through/nginx:1', asUser);
      const artifact = await expanded('through/nginx', digest);
      const referrers = await gateway.send('GET', `/v2/through/nginx/referrers/${digest}`, {
        headers: basic(USER),
      });
      const { manifests } = json(referrers) as { manifests: { digest: string }[] };
      t.deepEqual(
        manifests.map((one) => one.digest),
        [artifact],
      );
      const manifest = await gateway.send('GET', `/v2/through/nginx/manifests/${artifact}`, {
        headers: basic(USER),
      });
      t.is(manifest.status, 200);
      const index = parseTeleportArtifact(manifest.body).imageIndex;
      const path = `/v2/through/nginx/blobs/${index.digest}`;
      t.is(digestOf((await gateway.send('GET', path, { headers: basic(USER) })).body), index.digest);
      t.is((await gateway.send('GET', path)).status, 401);

      // The client's way: the upstream's challenge, the gateway's mount API, ranges of the gateway's store.
      const mount = `/mount/v1/through/nginx/_manifests/${digest}`;
      t.is((await gateway.send('GET', mount)).status, 401);
      const wrong = { ...USER, password: 'wrong' };
      t.is((await gateway.send('GET', mount, { headers: basic(wrong) })).status, 401);
      const client = new RegistryClient({ credentials: async () => new RegistryCredentials(USER) });
      try {
        const opened = await openRegistryImage({
          client,
          reference: parseReference(`${gateway.host}/through/nginx:1`),
          cacheDir: join(scratch, 'cache'),
        });
        if (opened.state !== 'ready') throw new Error(JSON.stringify(opened));
        t.deepEqual(
          opened.sources.map(({ kind }) => kind),
          ['https', 'blob'],
        );
        const [source] = opened.sources;
        for (const { diffID, digests, size } of opened.image.devices) {
          const layer = await source!.openLayer(diffID);
          const length = Math.min(digests.blockSize, size);
          t.true(digests.verify(0, await layer.read(0, length)), diffID);
          await layer.close();
        }
        await source!.close();
      } finally {
        await client.close();
      }

      // Around the gateway: it hears of it, and reads the image with its own account.
      await push(upstream.host, 'around/nginx:1', asUser);
      const event = {
        action: 'push',
        target: { mediaType: MEDIA_TYPE.manifest, repository: 'around/nginx', digest },
      };
      const told = await gateway.send('POST', '/notifications', {
        body: JSON.stringify({ events: [event] }),
        headers: { authorization: `Bearer ${SECRET}` },
      });
      t.is(told.status, 202);
      t.truthy(await expanded('around/nginx', digest));

      // Before the gateway: attributes are changed by who may push there, and what is there already is expanded.
      await push(upstream.host, 'before/nginx:1', asUser);
      const patch = (headers: Record<string, string>) =>
        gateway.send('PATCH', '/acr/v1/before/nginx', { body: '{"teleportEnabled":true}', headers });
      t.is((await patch({})).status, 401);
      t.is((await patch(basic(USER))).status, 200);
      t.truthy(await expanded('before/nginx', digest));
    } finally {
      await gateway.stop();
      await upstream.stop();
    }
  },
);
