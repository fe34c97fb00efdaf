import { existsSync, readdirSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { TELEPORT_TYPE } from '../../../src/image/artifact.js';
import { layerPath } from '../../../src/image/catalog.js';
import { Store } from '../../../src/image/store.js';
import { digestOf } from '../../../src/oci/digest.js';
import { encodeIndex, MEDIA_TYPE } from '../../../src/oci/manifest.js';
import { openSource } from '../../../src/source/open-source.js';
import { loadImage } from '../../../src/source/remote-image.js';
import { json, TestRegistry } from '../server-fixture.js';
import { expansionOf, layerOf, pushImage, settled, type TestLayer, until } from './images.js';

const test = anyTest as TestFn<{ registry: TestRegistry }>;
test.beforeEach(async (t) => {
  t.context.registry = await TestRegistry.start({ expansion: { workers: 2 } });
});
test.afterEach.always((t) => t.context.registry.stop());

test('an image that is pushed is expanded, found by the referrers API, and loads from the repository’s store', async (t) => {
  const { registry } = t.context;
  const layers = [layerOf('one'), layerOf('two')];
  const digest = await pushImage(registry, 'team/app', 'v1', layers);
  const expansion = expansionOf(registry.registry);
  const status = await settled(expansion, 'team/app', digest);
  t.is(status.state, 'expanded');
  t.deepEqual(
    status.layers.map((layer) => [layer.digest, layer.diffID, layer.status]),
    layers.map(({ blob, diffID }) => [digestOf(blob), diffID, 'expanded']),
  );
  const answer = await registry.send('GET', `/v2/team/app/referrers/${digest}`);
  const [referrer] = (json(answer) as { manifests: { digest: string; artifactType: string }[] }).manifests;
  t.is(referrer?.artifactType, TELEPORT_TYPE);
  t.is(referrer?.digest, status.artifact?.digest);

  const share = expansion.sharePath('team/app');
  const source = await openSource(share);
  const image = await loadImage(source, 'team/app:v1', join(registry.directory, 'cache'));
  t.is(image.manifestDigest, digest);
  t.is(image.devices.length, 2);
  await source.close();
  for (const { diffID } of layers) t.is(statSync(join(share, layerPath(diffID))).nlink, 2);
});

const layersIn = (store: string) =>
  readdirSync(join(store, 'layers/sha256')).filter((name) => name.endsWith('.vhd')).length;

test('two repositories with the same layers have them expanded once', async (t) => {
  const { registry } = t.context;
  const expansion = expansionOf(registry.registry);
  const layers = [layerOf('one'), layerOf('two')];
  const first = await pushImage(registry, 'a', 'v1', layers);
  await settled(expansion, 'a', first);
  const vhd = join(registry.data, 'store', layerPath(layers[0]!.diffID));
  const before = statSync(vhd);
  const second = await pushImage(registry, 'b', 'v1', [...layers, layerOf('three')]);
  t.is((await settled(expansion, 'b', second)).state, 'expanded');
  const after = statSync(vhd);
  t.deepEqual([after.ino, after.mtimeMs, after.nlink], [before.ino, before.mtimeMs, 3]);
  t.is(layersIn(join(registry.data, 'store')), 3);
  t.is(layersIn(expansion.sharePath('a')), 2);
  t.is(layersIn(expansion.sharePath('b')), 3);
});

test('images that are pushed at once wait for one expansion of their layer', async (t) => {
  const { registry } = t.context;
  const expansion = expansionOf(registry.registry);
  const shared = layerOf('shared', Buffer.alloc(3_000_000, 'x'));
  const names = ['a', 'b', 'c', 'd'];
  const digests = await Promise.all(
    names.map((name) => pushImage(registry, name, 'v1', [shared, layerOf(name)])),
  );
  for (const [i, name] of names.entries())
    t.is((await settled(expansion, name, digests[i]!)).state, 'expanded');
  t.is(statSync(join(registry.data, 'store', layerPath(shared.diffID))).nlink, 5);
});

test('a layer that is no tar fails with the reason, and is pulled as ever', async (t) => {
  const { registry } = t.context;
  const expansion = expansionOf(registry.registry);
  const good = layerOf('good');
  const junk = Buffer.from('this is not a tar'.repeat(100));
  const bad: TestLayer = { blob: junk, diffID: digestOf(junk) };
  const digest = await pushImage(registry, 'app', 'v1', [good, bad]);
  const status = await settled(expansion, 'app', digest);
  t.is(status.state, 'failed');
  t.regex(status.reason ?? '', /tar|header|checksum/i);
  t.deepEqual(
    status.layers.map((layer) => layer.status),
    ['expanded', 'failed'],
  );
  t.false(existsSync(expansion.sharePath('app')));
  const pulled = await registry.send('GET', `/v2/app/blobs/${bad.diffID}`);
  t.deepEqual(pulled.body, junk);
  // It stays so after a restart, without another attempt.
  await registry.restart();
  t.is((await expansionOf(registry.registry).status('app', digest))?.state, 'failed');
});

test('who names the layer of another repository does not get it', async (t) => {
  const { registry } = t.context;
  const expansion = expansionOf(registry.registry);
  const secret = layerOf('secret');
  await settled(expansion, 'private', await pushImage(registry, 'private', 'v1', [secret]));
  // A blob of one's own that is said to be the layer.
  const liar = await pushImage(registry, 'liar', 'v1', [{ ...layerOf('other'), diffID: secret.diffID }]);
  const lied = await settled(expansion, 'liar', liar);
  t.is(lied.state, 'failed');
  t.regex(lied.reason ?? '', /has the digest/);
  // The other's blob, which a registry takes unseen since it may lie elsewhere.
  const thief = await pushImage(registry, 'thief', 'v1', [secret], {
    layerType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
    withheld: secret,
  });
  const stolen = await settled(expansion, 'thief', thief);
  t.is(stolen.state, 'failed');
  t.regex(stolen.reason ?? '', /not in the repository/);
  for (const name of ['liar', 'thief'])
    t.false(existsSync(join(expansion.sharePath(name), layerPath(secret.diffID))));
  t.is(statSync(join(registry.data, 'store', layerPath(secret.diffID))).nlink, 2);
});

test('another compression of a layer that is there is verified, not expanded', async (t) => {
  const { registry } = t.context;
  const expansion = expansionOf(registry.registry);
  const { blob, diffID } = layerOf('one');
  await settled(expansion, 'a', await pushImage(registry, 'a', 'v1', [{ blob, diffID }]));
  const { gunzipSync } = await import('node:zlib');
  const plain = { blob: gunzipSync(blob), diffID };
  const digest = await pushImage(registry, 'b', 'v1', [plain]);
  t.is((await settled(expansion, 'b', digest)).state, 'expanded');
  t.is(statSync(join(registry.data, 'store', layerPath(diffID))).nlink, 3);
});

test('the images of an index are expanded, and artifacts are not', async (t) => {
  const { registry } = t.context;
  const expansion = expansionOf(registry.registry);
  await registry.send('PATCH', '/acr/v1/app', { body: '{"teleportEnabled":false}' });
  const image = await pushImage(registry, 'app', '', [layerOf('amd64')]);
  const signature = await pushImage(registry, 'app', 'signature', [layerOf('sig')], {
    layerType: 'application/vnd.dev.cosign.simplesigning.v1+json',
  });
  t.is(await expansion.status('app', image), undefined);
  const size = (await registry.send('GET', `/v2/app/manifests/${image}`)).body.length;
  const platform = { os: 'linux', architecture: 'amd64' };
  const index = encodeIndex({
    mediaType: MEDIA_TYPE.index,
    manifests: [{ mediaType: MEDIA_TYPE.manifest, digest: image, size, platform }],
  });
  await registry.send('PATCH', '/acr/v1/app', { body: '{"teleportEnabled":true}' });
  await registry.pushManifest('app', 'multi', index, MEDIA_TYPE.index);
  t.is((await settled(expansion, 'app', image)).state, 'expanded');
  const store = await Store.open(expansion.sharePath('app'));
  t.deepEqual(await store.images(), [{ manifestDigest: image, names: ['app:multi'] }]);
  await until(async () => (await expansion.status('app', signature)) === undefined);
});

test('a repository that is not enabled is not expanded until it is', async (t) => {
  const { registry } = t.context;
  const expansion = expansionOf(registry.registry);
  await registry.send('PATCH', '/acr/v1/app', { body: '{"teleportEnabled":false}' });
  const one = await pushImage(registry, 'app', '1', [layerOf('one')]);
  const two = await pushImage(registry, 'app', '2', [layerOf('two')]);
  t.is((await registry.send('GET', `/orca/v1/app/_expansion/${one}`)).status, 404);
  const asked = await registry.send('POST', '/orca/v1/app/_expand?reference=1');
  t.is(asked.status, 202);
  t.deepEqual(json(asked), { images: [{ digest: one, tags: ['1'] }] });
  t.is((await settled(expansion, 'app', one)).state, 'expanded');
  t.is(await expansion.status('app', two), undefined);
  await registry.send('PATCH', '/acr/v1/app', { body: '{"teleportEnabled":true}' });
  t.is((await settled(expansion, 'app', two)).state, 'expanded');
  const told = json(await registry.send('GET', `/orca/v1/app/_expansion/${two}`)) as { state: string };
  t.is(told.state, 'expanded');
  for (const [path, status] of [
    ['/orca/v1/app/_expand?reference=3', 404],
    ['/orca/v1/app/_expand?reference=%2e%2e', 400],
    ['/orca/v1/none/_expand', 404],
    ['/orca/v1/../app/_expand', 400],
  ] as const)
    t.is((await registry.send('POST', path)).status, status, path);
});

test('a manifest that is deleted takes its layers along, and no others', async (t) => {
  const { registry } = t.context;
  const expansion = expansionOf(registry.registry);
  const [shared, own] = [layerOf('shared'), layerOf('own')];
  const doomed = await pushImage(registry, 'app', 'doomed', [shared, own]);
  const other = await pushImage(registry, 'app', 'other', [shared]);
  await settled(expansion, 'app', doomed);
  await settled(expansion, 'app', other);
  t.is((await registry.send('DELETE', `/v2/app/manifests/${doomed}`)).status, 202);
  const share = expansion.sharePath('app');
  t.false(existsSync(join(share, layerPath(own.diffID))));
  t.true(existsSync(join(share, layerPath(shared.diffID))));
  t.deepEqual(await (await Store.open(share)).images(), [{ manifestDigest: other, names: ['app:other'] }]);
  t.is(await expansion.status('app', doomed), undefined);
  const referrers = json(await registry.send('GET', `/v2/app/referrers/${doomed}`));
  t.deepEqual((referrers as { manifests: unknown[] }).manifests, []);
  // What has lately been in use may be pushed again; a day later it goes.
  t.is((await expansion.collectGarbage(3600_000)).layers, 0);
  const files = () => readdirSync(join(registry.data, 'store', 'layers/sha256')).map((name) => extname(name));
  const kinds = ['.checkpoints', '.digests', '.recipe', '.vhd'];
  t.deepEqual(files().sort(), [...kinds, ...kinds].sort());
  t.is((await expansion.collectGarbage(-1000)).layers, 1);
  t.deepEqual(files().sort(), kinds);
  t.is(layersIn(join(registry.data, 'store')), 1);
  // And comes back when it is pushed again.
  t.is(
    (await settled(expansion, 'app', await pushImage(registry, 'app', 'doomed', [shared, own]))).state,
    'expanded',
  );
  t.true(existsSync(join(share, layerPath(own.diffID))));
});

test('a tag that moves takes its name along, and one that is deleted loses it', async (t) => {
  const { registry } = t.context;
  const expansion = expansionOf(registry.registry);
  const one = await pushImage(registry, 'app', 'latest', [layerOf('one')]);
  await settled(expansion, 'app', one);
  const two = await pushImage(registry, 'app', 'latest', [layerOf('two')]);
  await settled(expansion, 'app', two);
  const names = async () =>
    Object.fromEntries(
      (await (await Store.open(expansion.sharePath('app'))).images()).map((image) => [
        image.manifestDigest,
        image.names.join(),
      ]),
    );
  t.deepEqual(await names(), { [one]: '', [two]: 'app:latest' });
  await pushImage(registry, 'app', 'latest', [layerOf('one')]);
  await until(async () => (await names())[one] === 'app:latest');
  t.is((await registry.send('DELETE', '/v2/app/manifests/latest')).status, 202);
  t.deepEqual(await names(), { [one]: '', [two]: '' });
});

test('a teleport artifact that is deleted is made again', async (t) => {
  const { registry } = t.context;
  const expansion = expansionOf(registry.registry);
  const digest = await pushImage(registry, 'app', 'v1', [layerOf('one')]);
  const { artifact } = await settled(expansion, 'app', digest);
  await registry.send('DELETE', `/v2/app/manifests/${artifact?.digest}`);
  await settled(expansion, 'app', digest);
  t.is((await registry.send('GET', `/v2/app/manifests/${artifact?.digest}`)).status, 200);
});

test('what is left when the registry ends is done when it begins again', async (t) => {
  const { registry } = t.context;
  const digests: string[] = [];
  for (let i = 0; i < 5; i++)
    digests.push(
      await pushImage(registry, 'app', `v${i}`, [layerOf(`layer-${i}`, Buffer.alloc(1 << 20, i))]),
    );
  await registry.restart();
  for (const digest of digests)
    t.is((await settled(expansionOf(registry.registry), 'app', digest)).state, 'expanded');
  // The record of what is done is written before that of what is left goes.
  await until(() => readdirSync(join(registry.data, 'queue/pending/app')).length === 0);
});
