/** Publishing startup profiles, and what the mount API then offers. */
import test, { type ExecutionContext } from 'ava';
import { StartupProfile } from '../../src/cache/startup-profile.js';
import { PROFILE_ARTIFACT_TYPE } from '../../src/image/profile-artifact.js';
import type { Descriptor } from '../../src/oci/manifest.js';
import type { RegistryOptions } from '../../src/registry/registry.js';
import { expansionOf, layerOf, pushImage, settled } from './expansion/images.js';
import { errorCodes, json, TestRegistry } from './server-fixture.js';
import { basic, writeUsers } from './users-fixture.js';

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

/** The profile that the mount API offers. */
async function offered(registry: TestRegistry, digest: string): Promise<StartupProfile | undefined> {
  const answer = await registry.send('GET', `/mount/v1/team/app/_manifests/${digest}`);
  const { profile } = json(answer) as { profile?: Descriptor };
  if (profile === undefined) return undefined;
  const blob = await registry.send('GET', `/v2/team/app/blobs/${profile.digest}`);
  return StartupProfile.decode(blob.body);
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
