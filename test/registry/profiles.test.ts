/** Publishing startup profiles, and what the mount API then offers. */
import { writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { StartupProfile } from '../../src/cache/startup-profile.js';
import { PROFILE_ARTIFACT_TYPE } from '../../src/image/profile-artifact.js';
import { digestOf } from '../../src/oci/digest.js';
import type { Descriptor } from '../../src/oci/manifest.js';
import { collectGarbage } from '../../src/registry/garbage.js';
import type { RegistryOptions } from '../../src/registry/registry.js';
import { expansionOf, layerOf, type PushOptions, pushImage, settled } from './expansion/images.js';
import { errorCodes, json, TestRegistry } from './server-fixture.js';
import { basic, PASSWORD, writeUsers } from './users-fixture.js';

const LAYERS = [layerOf('one', Buffer.alloc(300_000, 'one')), layerOf('two', 'two')];
const DIFF_IDS = LAYERS.map(({ diffID }) => diffID);

function run(layers: readonly string[], ...paths: string[]): StartupProfile {
  return StartupProfile.record(
    [{ device: 0, block: 1, time: 0 }],
    layers,
    paths.map((path, time) => ({ kind: 'name', path, first: 0, count: 1, time })),
  );
}

async function start(
  t: ExecutionContext,
  options: Omit<RegistryOptions, 'data'> = {},
): Promise<{ registry: TestRegistry; digest: string }> {
  const registry = await TestRegistry.start({ expansion: { workers: 1 }, ...options });
  t.teardown(() => registry.stop());
  if (options.users !== undefined) registry.headers = basic('owner');
  const digest = await pushImage(registry, 'team/app', 'v1', LAYERS);
  await settled(expansionOf(registry.registry), 'team/app', digest);
  return { registry, digest };
}

const profileUrl = (digest: string) => `/mount/v1/team/app/_profiles/${digest}`;

/** The profile that the mount API offers: the image's own, or with `earlierProfile` that of another version. */
async function offered(
  registry: TestRegistry,
  digest: string,
  field: 'profile' | 'earlierProfile' = 'profile',
): Promise<StartupProfile | undefined> {
  const answer = await registry.send('GET', `/mount/v1/team/app/_manifests/${digest}`);
  const { [field]: profile } = json(answer) as { [field in typeof field]?: Descriptor };
  if (profile === undefined) return undefined;
  const blob = await registry.send('GET', `/v2/team/app/blobs/${profile.digest}`);
  return StartupProfile.decode(blob.body);
}

/** Pushes another version of the image, has it expanded, and publishes a profile with this path if there is one. */
async function version(
  registry: TestRegistry,
  tag: string,
  path?: string,
  options: PushOptions = {},
): Promise<string> {
  const layer = layerOf(tag);
  const digest = await pushImage(registry, 'team/app', tag, [layer], options);
  await settled(expansionOf(registry.registry), 'team/app', digest);
  if (path !== undefined) await published(registry, digest, run([layer.diffID], path));
  return digest;
}

async function published(registry: TestRegistry, digest: string, profile: StartupProfile): Promise<void> {
  const { status, body } = await registry.send('PUT', profileUrl(digest), { body: profile.encode() });
  if (status !== 201) throw new Error(`${status} ${body}`);
}

const paths = (profile: StartupProfile | undefined) => profile?.steps.map(({ path }) => path).sort();

test.serial('a profile that is published is offered, and is one artifact of the image', async (t) => {
  const { registry, digest } = await start(t);
  t.is(await offered(registry, digest), undefined);
  const first = await registry.send('PUT', profileUrl(digest), { body: run(DIFF_IDS, 'one').encode() });
  t.is(first.status, 201, first.body.toString());
  t.deepEqual(paths(await offered(registry, digest)), ['one']);

  // As many runs or more replace it; fewer add to it.
  const two = run(DIFF_IDS, 'two').merge(run(DIFF_IDS, 'two'));
  t.is((await registry.send('PUT', profileUrl(digest), { body: two.encode() })).status, 201);
  t.deepEqual(paths(await offered(registry, digest)), ['two']);
  t.is(
    (await registry.send('PUT', profileUrl(digest), { body: run(DIFF_IDS, 'three').encode() })).status,
    201,
  );
  const merged = await offered(registry, digest);
  t.deepEqual([merged?.runs, paths(merged)], [3, ['three', 'two']]);

  const all = await Promise.all(
    ['a', 'b', 'c'].map((path) =>
      registry.send('PUT', profileUrl(digest), { body: run(DIFF_IDS, path).encode() }),
    ),
  );
  t.deepEqual(
    all.map(({ status }) => status),
    [201, 201, 201],
  );
  const after = await offered(registry, digest);
  t.deepEqual([after?.runs, paths(after)], [6, ['a', 'b', 'c', 'three', 'two']]);
  const referrers = await registry.send(
    'GET',
    `/v2/team/app/referrers/${digest}?artifactType=${encodeURIComponent(PROFILE_ARTIFACT_TYPE)}`,
  );
  t.is((json(referrers) as { manifests: unknown[] }).manifests.length, 1);
  await registry.restart();
  t.is((await offered(registry, digest))?.runs, 6);
});

test.serial('what is no profile of the image is refused, and nothing is offered', async (t) => {
  const { registry, digest } = await start(t);
  const good = run(DIFF_IDS, 'one').encode();
  const foreign = run([`sha256:${'a'.repeat(64)}`], 'one').encode();
  const absent = `sha256:${'0'.repeat(64)}`;
  for (const [target, body, status, code] of [
    [digest, 'no profile', 400, 'MANIFEST_INVALID'],
    [digest, good.subarray(0, -1), 400, 'MANIFEST_INVALID'],
    [digest, '', 400, 'MANIFEST_INVALID'],
    [digest, foreign, 400, 'MANIFEST_INVALID'],
    [digest, Buffer.alloc(9 << 20), 413, 'SIZE_INVALID'],
    [absent, good, 404, 'MANIFEST_UNKNOWN'],
    ['v1', good, 400, 'DIGEST_INVALID'],
  ] as const) {
    const answer = await registry.send('PUT', profileUrl(target), { body });
    t.is(answer.status, status, `${target}: ${answer.body}`);
    t.deepEqual(errorCodes(answer), [code]);
  }
  t.is(await offered(registry, digest), undefined);
  await registry.send('PATCH', '/acr/v1/team/app', {
    body: JSON.stringify({ teleportEnabled: false }),
    headers: { 'content-type': 'application/json' },
  });
  const disabled = await registry.send('PUT', profileUrl(digest), { body: good });
  t.is(disabled.status, 404);
});

test.serial('whoever may only pull cannot publish', async (t) => {
  const users = writeUsers(t, { owner: '*=*', reader: 'team/*=pull' });
  const { registry, digest } = await start(t, { users });
  const body = run(DIFF_IDS, 'one').encode();
  registry.headers = {};
  t.is((await registry.send('PUT', profileUrl(digest), { body })).status, 401);
  registry.headers = basic('reader');
  const refused = await registry.send('PUT', profileUrl(digest), { body });
  t.deepEqual([refused.status, errorCodes(refused)], [403, ['DENIED']]);
  t.is(await offered(registry, digest), undefined);
  registry.headers = basic('owner');
  t.is((await registry.send('PUT', profileUrl(digest), { body })).status, 201);
  registry.headers = basic('reader');
  t.deepEqual(paths(await offered(registry, digest)), ['one']);
});

test.serial(
  'a gateway publishes for whoever may push to the upstream, which gets nothing of it',
  async (t) => {
    const users = writeUsers(t, { owner: '*=*', reader: 'team/*=pull' });
    const upstream = await TestRegistry.start({ users });
    t.teardown(() => upstream.stop());
    // A gateway that expands has credentials of its own.
    const credentials = `${users}-of-the-gateway`;
    writeFileSync(credentials, `owner:${PASSWORD}\n`, { mode: 0o600 });
    const gateway = await TestRegistry.start({
      expansion: { workers: 1 },
      upstream: { url: upstream.url, credentials },
    });
    t.teardown(() => gateway.stop());
    gateway.headers = basic('owner');
    const digest = await pushImage(gateway, 'team/app', 'v1', LAYERS);
    await settled(expansionOf(gateway.registry), 'team/app', digest);
    const body = run(DIFF_IDS, 'one').encode();
    for (const [headers, status] of [
      [{}, 401],
      [basic('reader'), 403],
      [basic('owner'), 201],
    ] as const) {
      gateway.headers = headers;
      t.is((await gateway.send('PUT', profileUrl(digest), { body })).status, status);
    }
    gateway.headers = basic('owner');
    const next = await version(gateway, 'v2');
    gateway.headers = basic('reader');
    t.deepEqual(paths(await offered(gateway, digest)), ['one']);
    t.deepEqual(paths(await offered(gateway, next, 'earlierProfile')), ['one']);
    upstream.headers = basic('owner');
    const referrers = await upstream.send('GET', `/v2/team/app/referrers/${digest}`);
    t.deepEqual((json(referrers) as { manifests: unknown[] }).manifests, []);
    gateway.headers = basic('owner');
    t.is((await gateway.send('DELETE', `/v2/team/app/manifests/${digest}`)).status, 202);
    t.is(await offered(gateway, next, 'earlierProfile'), undefined);
  },
);

test.serial('an image without profile is offered the one that was published last', async (t) => {
  const { registry, digest: first } = await start(t);
  const earlier = async (digest: string) => paths(await offered(registry, digest, 'earlierProfile'));
  const next = await version(registry, 'next');
  t.is(await earlier(next), undefined);
  await published(registry, first, run(DIFF_IDS, 'first'));
  t.deepEqual(await earlier(next), ['first']);
  t.is(await offered(registry, next), undefined, 'it is not the image’s own');
  t.is(await earlier(first), undefined, 'it has one');
  const second = await version(registry, 'second', 'second');
  t.deepEqual(await earlier(next), ['second']);
  await published(registry, first, run(DIFF_IDS, 'first').merge(run(DIFF_IDS, 'again')));
  t.deepEqual(await earlier(next), ['again', 'first']);
  await published(registry, second, run([layerOf('second').diffID], 'second').merge(run([], 'more')));
  await registry.restart();
  t.deepEqual(await earlier(next), ['more', 'second']);

  // Without the profile, its blob, or the image, it is that of the one before; in the end none.
  const third = await version(registry, 'third', 'third');
  t.deepEqual(await earlier(next), ['third']);
  const answer = await registry.send('GET', `/mount/v1/team/app/_manifests/${third}`);
  const { profile } = json(answer) as { profile: Descriptor };
  t.is((await registry.send('DELETE', `/v2/team/app/blobs/${profile.digest}`)).status, 202);
  t.deepEqual(await earlier(next), ['more', 'second']);
  const referrers = await registry.send('GET', `/v2/team/app/referrers/${second}`);
  const [artifact] = (json(referrers) as { manifests: Descriptor[] }).manifests.filter(
    ({ artifactType }) => artifactType === PROFILE_ARTIFACT_TYPE,
  );
  t.is((await registry.send('DELETE', `/v2/team/app/manifests/${artifact!.digest}`)).status, 202);
  t.deepEqual(await earlier(next), ['again', 'first']);
  await collectGarbage(registry.registry.context.storage, -1000);
  t.deepEqual(await earlier(next), ['again', 'first']);
  t.is((await registry.send('DELETE', `/v2/team/app/manifests/${first}`)).status, 202);
  t.is(await earlier(next), undefined);
});

test.serial('the profile of another platform or another repository is not offered', async (t) => {
  const { registry, digest } = await start(t);
  await published(registry, digest, run(DIFF_IDS, 'amd64'));
  await version(registry, 'arm', 'arm64', { platform: { architecture: 'arm64' } });
  const next = await version(registry, 'next');
  t.deepEqual(paths(await offered(registry, next, 'earlierProfile')), ['amd64']);
  const arm = await version(registry, 'next-arm', undefined, { platform: { architecture: 'arm64' } });
  t.deepEqual(paths(await offered(registry, arm, 'earlierProfile')), ['arm64']);
  const windows = await version(registry, 'windows', undefined, { platform: { os: 'windows' } });
  t.is(await offered(registry, windows, 'earlierProfile'), undefined);
  const other = await pushImage(registry, 'team/other', 'v1', LAYERS);
  await settled(expansionOf(registry.registry), 'team/other', other);
  const answer = json(await registry.send('GET', `/mount/v1/team/other/_manifests/${other}`)) as object;
  t.false('earlierProfile' in answer || 'profile' in answer);
});

test.serial('so many images may be deleted, and of what lies before them nothing is known', async (t) => {
  const { registry, digest } = await start(t);
  const repository = registry.registry.context.storage.repository('team/app');
  await published(registry, digest, run(DIFF_IDS, 'one'));
  const next = await version(registry, 'next');
  for (let gone = 0; gone < 15; gone++) await repository.addProfiled(digestOf(Buffer.from(`gone ${gone}`)));
  t.deepEqual(paths(await offered(registry, next, 'earlierProfile')), ['one']);
  await repository.addProfiled(digestOf(Buffer.from('one more')));
  t.is((await repository.profiled()).length, 16);
  t.is(await offered(registry, next, 'earlierProfile'), undefined);
});
