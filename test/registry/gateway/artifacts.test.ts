import { writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { hashSync } from 'bcryptjs';
import { TELEPORT_TYPE } from '../../../src/image/artifact.js';
import { digestOf } from '../../../src/oci/digest.js';
import { MEDIA_TYPE } from '../../../src/oci/manifest.js';
import { Upstream } from '../../../src/registry/gateway/upstream.js';
import { UpstreamOrigin } from '../../../src/registry/gateway/upstream-origin.js';
import { type Answer, json, type TestRegistry } from '../server-fixture.js';
import { addArtifact, enable, Pair, startFake, startGateway } from './gateway-fixture.js';

const basic = (name: string) => ({
  authorization: `Basic ${Buffer.from(`${name}:secret`).toString('base64')}`,
});
const digests = (answer: Answer) =>
  (json(answer) as { manifests: { digest: string }[] }).manifests.map(({ digest }) => digest);

let scratch: string;
let users: string;
test.before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'orca-gateway-'));
  users = join(scratch, 'users');
  const hash = hashSync('secret', 4);
  writeFileSync(users, `alice:${hash}:*=*\nbob:${hash}:other/*=*\nreader:${hash}:team/*=pull\n`);
});
test.after.always(() => rm(scratch, { recursive: true, force: true }));

/** An image that alice has pushed, around the gateway, and its artifact. */
async function imageWithArtifact({ upstream, gateway }: Pair, options: { asAlice: boolean }) {
  const send = upstream.send.bind(upstream);
  if (options.asAlice) {
    upstream.send = (method, path, request = {}) =>
      send(method, path, { ...request, headers: { ...basic('alice'), ...request.headers } });
  }
  const image = await upstream.pushImage('team/app', '1');
  return { image, artifact: await addArtifact(gateway, 'team/app', image) };
}

test('a push of an enabled repository is told to the expansion, once the upstream has taken it', async (t) => {
  const told: string[] = [];
  const pair = await Pair.start({
    teleportDefault: false,
    onManifest: async (repository, digest) => {
      told.push(`${repository}@${digest}`);
      throw new Error('the expansion fails');
    },
  });
  const { gateway } = pair;
  await gateway.pushImage('team/app', 'before');
  await enable(gateway, 'team/app');
  const { digest, bytes } = await gateway.pushImage('team/app', '1');
  const index = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.index,
      manifests: [{ mediaType: MEDIA_TYPE.manifest, digest, size: bytes.length }],
    }),
  );
  t.is((await gateway.pushManifest('team/app', 'all', index, MEDIA_TYPE.index)).status, 201);
  t.is((await gateway.pushManifest('team/app', 'bad', bytes.subarray(1))).status, 400);
  await gateway.pushImage('other', '1');
  t.deepEqual(told, [`team/app@${digest}`, `team/app@${digestOf(index)}`]);
  const kept = gateway.registry.context.storage.repository('team/app');
  t.is((await kept.manifest(digest))?.size, bytes.length);
  await gateway.send('DELETE', `/v2/team/app/manifests/${digest}`);
  t.is(await kept.manifest(digest), undefined);
  await pair.stop();
});

test('a teleport artifact is served beside what the upstream has, and goes with its image', async (t) => {
  const pair = await Pair.start();
  const { gateway, upstream } = pair;
  const { image, artifact } = await imageWithArtifact(pair, { asAlice: false });
  const signature = await upstream.pushImage('team/app', 'signature', 'signed', {
    artifactType: 'application/x.signature',
    subject: { mediaType: MEDIA_TYPE.manifest, digest: image.digest, size: image.bytes.length },
    annotations: { note: 'kept' },
  });
  const path = `/v2/team/app/referrers/${image.digest}`;
  const all = await gateway.send('GET', path);
  t.is(all.headers['content-type'], MEDIA_TYPE.index);
  t.deepEqual(digests(all), [artifact.digest, signature.digest]);
  t.true(all.body.toString().includes('"note":"kept"'));
  const type = (name: string) => gateway.send('GET', `${path}?artifactType=${encodeURIComponent(name)}`);
  t.deepEqual(digests(await type(TELEPORT_TYPE)), [artifact.digest]);
  t.deepEqual(digests(await type('application/x.signature')), [signature.digest]);
  for (const method of ['GET', 'HEAD']) {
    const manifest = await gateway.send(method, `/v2/team/app/manifests/${artifact.digest}`);
    t.is(manifest.status, 200);
    t.is(manifest.headers['content-type'], MEDIA_TYPE.manifest);
  }
  const blob = await gateway.send('GET', `/v2/team/app/blobs/${artifact.blob}`, {
    headers: { range: 'bytes=0-4' },
  });
  t.is(blob.status, 206);
  t.deepEqual(blob.body, artifact.content.subarray(0, 5));
  // Who is about to push the same bytes must not take them for pushed.
  t.is((await gateway.send('HEAD', `/v2/team/app/blobs/${artifact.blob}`)).status, 404);
  t.is((await gateway.send('GET', `/v2/other/blobs/${artifact.blob}`)).status, 404);
  t.is((await upstream.send('GET', `/v2/team/app/manifests/${artifact.digest}`)).status, 404);
  await gateway.send('DELETE', `/v2/team/app/manifests/${image.digest}`);
  t.is((await gateway.send('GET', `/v2/team/app/manifests/${artifact.digest}`)).status, 404);
  await pair.stop();
});

test('what the gateway has is only for those who may pull from the upstream', async (t) => {
  const pair = await Pair.start({}, { users });
  const { gateway } = pair;
  const { image, artifact } = await imageWithArtifact(pair, { asAlice: true });
  const paths = [
    `/v2/team/app/manifests/${artifact.digest}`,
    `/v2/team/app/blobs/${artifact.blob}`,
    `/v2/team/app/referrers/${image.digest}`,
  ];
  for (const path of paths) {
    t.is((await gateway.send('GET', path, { headers: basic('reader') })).status, 200, path);
    t.is((await gateway.send('GET', path, { headers: basic('bob') })).status, 403, path);
    const nobody = await gateway.send('GET', path);
    t.is(nobody.status, 401, path);
    // The challenge is the upstream's: its token service, not one of ours.
    t.true(
      nobody.headers['www-authenticate']?.startsWith(`Bearer realm="${pair.upstream.url}/oauth2/token"`),
    );
  }
  await pair.stop();
});

test('a token of the upstream is passed on, and one of the gateway is worth what the credentials were', async (t) => {
  const pair = await Pair.start({}, { users });
  const { gateway, upstream } = pair;
  const { artifact } = await imageWithArtifact(pair, { asAlice: true });
  const token = async (from: TestRegistry, name: string, scope: string) => {
    const answer = await from.send('GET', `/oauth2/token?scope=${scope}`, { headers: basic(name) });
    t.is(answer.status, 200);
    return json(answer) as { access_token: string; scope: string };
  };
  const bearer = ({ access_token }: { access_token: string }) => ({
    authorization: `Bearer ${access_token}`,
  });
  const path = `/v2/team/app/blobs/${artifact.blob}`;
  const theirs = await token(upstream, 'reader', 'repository:team/app:pull');
  t.is((await gateway.send('GET', path, { headers: bearer(theirs) })).status, 200);
  t.is((await gateway.send('GET', '/v2/team/app/manifests/1', { headers: bearer(theirs) })).status, 200);
  const ours = await token(gateway, 'reader', 'repository:team/app:pull,push,metadata_write');
  t.is(ours.scope, 'repository:team/app:pull');
  t.is((await gateway.send('GET', path, { headers: bearer(ours) })).status, 200);
  t.is((await gateway.send('GET', '/v2/team/app/manifests/1', { headers: bearer(ours) })).status, 401);
  t.is((await token(gateway, 'bob', 'repository:team/app:pull,push')).scope, '');
  t.is(
    (await token(gateway, 'alice', 'repository:team/app:pull,push')).scope,
    'repository:team/app:pull,push',
  );
  const wrong = { authorization: `Basic ${Buffer.from('alice:wrong').toString('base64')}` };
  const refused = await gateway.send('GET', '/oauth2/token?scope=repository:team/app:pull', {
    headers: wrong,
  });
  t.is((json(refused) as { scope: string }).scope, '');
  await pair.stop();
});

test('who may push to the upstream may change attributes, and so may users of the gateway', async (t) => {
  const admins = join(scratch, 'admins');
  writeFileSync(admins, `admin:${hashSync('secret', 4)}:*=metadata\n`);
  const pair = await Pair.start({ users: admins }, { users });
  const { gateway, upstream } = pair;
  await imageWithArtifact(pair, { asAlice: true });
  const { access } = gateway.registry.context;
  const may = async (headers: Record<string, string>, action: 'pull' | 'push' | 'metadata' | 'delete') => {
    const request = { headers, params: {}, ip: '127.0.0.1' } as Parameters<typeof access.require>[0];
    return access.require(request, 'team/app', action).then(
      ({ name }) => name,
      ({ status }: { status: number }) => status,
    );
  };
  t.is(await may(basic('admin'), 'metadata'), 'admin');
  t.is(await may(basic('admin'), 'pull'), 401);
  t.is(await may(basic('alice'), 'metadata'), 'alice');
  t.is(await may(basic('alice'), 'delete'), 403);
  t.is(await may(basic('reader'), 'metadata'), 403);
  t.is(await may(basic('reader'), 'pull'), 'reader');
  t.is(await may({}, 'metadata'), 401);
  // What was begun to find out is given up again.
  t.is(await upstream.registry.context.storage.uploads.removeIdle(Date.now() + 1000), 0);
  await pair.stop();
});

test('an upstream without the referrers API: what it has by tag is in the list', async (t) => {
  const image = { digest: digestOf(Buffer.from('image')), bytes: Buffer.from('image') };
  const signature = { mediaType: MEDIA_TYPE.manifest, digest: digestOf(Buffer.from('s')), size: 1 };
  let hasTag = true;
  let status = 200;
  const fake = await startFake((request, response) => {
    if (request.url?.startsWith('/v2/a/referrers/')) {
      response.writeHead(404, { 'content-type': 'text/plain' }).end('404 page not found');
    } else if (request.url === `/v2/a/manifests/${image.digest.replace(':', '-')}` && hasTag) {
      response.writeHead(200, { 'content-type': MEDIA_TYPE.index });
      response.end(JSON.stringify({ schemaVersion: 2, manifests: [signature] }));
    } else if (request.url === `/v2/a/manifests/${image.digest}`) {
      response.writeHead(status).end();
    } else {
      response.writeHead(404).end();
    }
  });
  const gateway = await startGateway(fake.url);
  const path = `/v2/a/referrers/${image.digest}`;
  // Without anything of ours, the answer is the upstream's own.
  t.is((await gateway.send('GET', path)).body.toString(), '404 page not found');
  const artifact = await addArtifact(gateway, 'a', image);
  status = 403;
  t.is((await gateway.send('GET', path)).status, 403);
  status = 200;
  t.deepEqual(digests(await gateway.send('GET', path)), [artifact.digest, signature.digest]);
  const filtered = await gateway.send('GET', `${path}?artifactType=${encodeURIComponent(TELEPORT_TYPE)}`);
  t.deepEqual(digests(filtered), [artifact.digest]);
  t.is(filtered.headers['oci-filters-applied'], 'artifactType');
  hasTag = false;
  t.deepEqual(digests(await gateway.send('GET', path)), [artifact.digest]);
  await gateway.stop();
  await fake.stop();
});

test('a teleport artifact that somebody else has pushed upstream does not become one of ours', async (t) => {
  const pair = await Pair.start();
  t.teardown(() => pair.stop());
  const { upstream, gateway } = pair;
  const image = await upstream.pushImage('team/app', '1');
  const config = Buffer.from('{}');
  await upstream.pushBlob('team/app', config);
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.manifest,
      artifactType: TELEPORT_TYPE,
      config: { mediaType: 'application/vnd.oci.empty.v1+json', digest: digestOf(config), size: 2 },
      layers: [],
      subject: { mediaType: MEDIA_TYPE.manifest, digest: image.digest, size: image.bytes.length },
    }),
  );
  t.is((await upstream.pushManifest('team/app', digestOf(bytes), bytes)).status, 201);
  const { storage } = gateway.registry.context;
  const behind = await Upstream.open({ url: upstream.url });
  t.teardown(() => behind.close());
  const read = await new UpstreamOrigin(behind, storage).readManifest('team/app', digestOf(bytes));
  t.deepEqual(Buffer.from(read?.bytes ?? []), bytes);
  t.is(await storage.repository('team/app').manifest(digestOf(bytes)), undefined);
});
