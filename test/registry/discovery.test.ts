/** The checks of the distribution-spec conformance suite for content discovery and management, over loopback. */
import test from 'ava';
import { digestOf } from '../../src/oci/digest.js';
import { type Descriptor, MEDIA_TYPE } from '../../src/oci/manifest.js';
import { errorCodes, json, TestRegistry } from './server-fixture.js';

let registry: TestRegistry;
test.before(async () => {
  registry = await TestRegistry.start();
});
test.after.always(() => registry.stop());

async function tagged(repository: string, ...tags: string[]): Promise<string> {
  const { digest, bytes } = await registry.pushImage(repository, tags[0] ?? 'latest');
  for (const tag of tags.slice(1)) await registry.pushManifest(repository, tag, bytes);
  return digest;
}

async function tagList(
  repository: string,
  query = '',
): Promise<{ tags: string[]; link: string | undefined }> {
  const answer = await registry.send('GET', `/v2/${repository}/tags/list${query}`);
  return { tags: (json(answer) as { tags: string[] }).tags, link: answer.headers.link as string | undefined };
}

async function referrers(repository: string, digest: string, query = '') {
  const answer = await registry.send('GET', `/v2/${repository}/referrers/${digest}${query}`);
  const index = json(answer) as { manifests: Descriptor[]; mediaType: string; schemaVersion: number };
  return { answer, index };
}

/** An artifact that refers to `subject`, without layers. */
async function pushReferrer(
  repository: string,
  tag: string,
  subject: string,
  fields: Record<string, unknown> = {},
) {
  const reference = { subject: { mediaType: MEDIA_TYPE.manifest, digest: subject, size: 10 } };
  return registry.pushImage(repository, tag, tag, { ...reference, ...fields });
}

test('tags are listed in the order of their bytes, in pages', async (t) => {
  await tagged('listed', 'b', 'a', 'Z', '1', 'a.1', 'a-1', 'aa');
  const sorted = ['1', 'Z', 'a', 'a-1', 'a.1', 'aa', 'b'];
  t.deepEqual(await tagList('listed'), { tags: sorted, link: undefined });
  t.deepEqual((await tagList('listed', '?last=a')).tags, sorted.slice(3));
  t.deepEqual((await tagList('listed', '?last=a0')).tags, ['aa', 'b']);
  t.deepEqual(await tagList('listed', '?n=0'), { tags: [], link: undefined });
  t.deepEqual(await tagList('listed', '?n=7'), { tags: sorted, link: undefined });
  const seen: string[] = [];
  let query = '?n=3';
  for (;;) {
    const { tags, link } = await tagList('listed', query);
    seen.push(...tags);
    const next = /^<\/v2\/listed\/tags\/list(\?[^>]+)>; rel="next"$/.exec(link ?? '')?.[1];
    if (next === undefined) break;
    query = next;
  }
  t.deepEqual(seen, sorted);
  for (const n of ['-1', 'x', '1e3', '', '9'.repeat(20)]) {
    const answer = await registry.send('GET', `/v2/listed/tags/list?n=${n}`);
    t.is(answer.status, 400);
    t.deepEqual(errorCodes(answer), ['PAGINATION_NUMBER_INVALID']);
  }
});

test('a repository that nobody pushed to has no tags to list', async (t) => {
  const answer = await registry.send('GET', '/v2/nobody/tags/list');
  t.is(answer.status, 404);
  t.deepEqual(errorCodes(answer), ['NAME_UNKNOWN']);
});

test('a tag moves to the manifest that was pushed last', async (t) => {
  const first = await tagged('moving', 'v', 'old');
  const { digest } = await registry.pushImage('moving', 'v', 'other');
  const of = async (tag: string) =>
    (await registry.send('HEAD', `/v2/moving/manifests/${tag}`)).headers['docker-content-digest'];
  t.is(await of('v'), digest);
  t.is(await of('old'), first);
});

test('referrers of a manifest, of one that is missing, and of none', async (t) => {
  const subject = await tagged('referred', 'image');
  const none = await referrers('referred', subject);
  t.is(none.answer.status, 200);
  t.is(none.answer.headers['content-type'], MEDIA_TYPE.index);
  t.deepEqual(none.index, { schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests: [] });
  t.is((await referrers('nowhere', subject)).answer.status, 200);

  const annotations = { 'org.example.note': 'hello' };
  const plain = await pushReferrer('referred', 'plain', subject);
  const typed = await pushReferrer('referred', 'typed', subject, {
    artifactType: 'application/x.sbom',
    annotations,
  });
  const { index } = await referrers('referred', subject);
  const byDigest = new Map(index.manifests.map((descriptor) => [descriptor.digest, descriptor]));
  t.deepEqual(byDigest.get(plain.digest), {
    mediaType: MEDIA_TYPE.manifest,
    digest: plain.digest,
    size: plain.bytes.length,
    artifactType: MEDIA_TYPE.config,
  });
  t.deepEqual(byDigest.get(typed.digest), {
    mediaType: MEDIA_TYPE.manifest,
    digest: typed.digest,
    size: typed.bytes.length,
    artifactType: 'application/x.sbom',
    annotations,
  });
  const filtered = await referrers('referred', subject, '?artifactType=application/x.sbom');
  t.is(filtered.answer.headers['oci-filters-applied'], 'artifactType');
  t.deepEqual(
    filtered.index.manifests.map(({ digest }) => digest),
    [typed.digest],
  );

  const missing = digestOf(Buffer.from('never pushed'));
  const pushed = await pushReferrer('referred', 'early', missing);
  t.deepEqual(
    (await referrers('referred', missing)).index.manifests.map(({ digest }) => digest),
    [pushed.digest],
  );
  const answer = await registry.pushManifest('referred', 'early', pushed.bytes);
  t.is(answer.headers['oci-subject'], missing);

  t.is((await registry.send('DELETE', `/v2/referred/manifests/${typed.digest}`)).status, 202);
  t.deepEqual(
    (await referrers('referred', subject)).index.manifests.map(({ digest }) => digest),
    [plain.digest],
  );
  t.is((await registry.send('GET', '/v2/referred/referrers/sha256:bad')).status, 400);
});

test('referrers that fill more than one response come in pages', async (t) => {
  const subject = await tagged('many', 'image');
  const annotations = { note: 'x'.repeat(1_500_000) };
  for (const tag of ['a', 'b', 'c', 'd']) await pushReferrer('many', tag, subject, { annotations });
  const found: string[] = [];
  let query = '?artifactType=application/vnd.oci.image.config.v1%2Bjson';
  let pages = 0;
  for (;;) {
    const { answer, index } = await referrers('many', subject, query);
    t.true(answer.body.length <= 4 << 20);
    t.is(answer.headers['oci-filters-applied'], 'artifactType');
    found.push(...index.manifests.map(({ digest }) => digest));
    pages++;
    const next = /^<[^?]+(\?[^>]+)>; rel="next"$/.exec(answer.headers.link?.toString() ?? '')?.[1];
    if (next === undefined) break;
    query = next;
  }
  t.is(pages, 2);
  t.is(new Set(found).size, 4);
});

test('a tag can be deleted without its manifest, and a manifest takes its tags along', async (t) => {
  const digest = await tagged('deleted', 'a', 'b', 'c');
  t.is((await registry.send('DELETE', '/v2/deleted/manifests/a')).status, 202);
  t.is((await registry.send('HEAD', '/v2/deleted/manifests/a')).status, 404);
  t.is((await registry.send('HEAD', `/v2/deleted/manifests/${digest}`)).status, 200);
  t.is((await registry.send('DELETE', '/v2/deleted/manifests/a')).status, 404);
  t.is((await registry.send('DELETE', `/v2/deleted/manifests/${digest}`)).status, 202);
  for (const reference of ['b', digest]) {
    const answer = await registry.send('GET', `/v2/deleted/manifests/${reference}`);
    t.is(answer.status, 404);
    t.deepEqual(errorCodes(answer), ['MANIFEST_UNKNOWN']);
  }
  t.deepEqual((await tagList('deleted')).tags, []);
});

test('a blob that one repository deletes stays in the others', async (t) => {
  const content = Buffer.from('shared by two');
  const digest = await registry.pushBlob('keep/one', content);
  await registry.pushBlob('keep/two', content);
  t.is((await registry.send('DELETE', `/v2/keep/one/blobs/${digest}`)).status, 202);
  t.is((await registry.send('DELETE', `/v2/keep/one/blobs/${digest}`)).status, 404);
  t.is((await registry.send('GET', `/v2/keep/one/blobs/${digest}`)).status, 404);
  t.deepEqual((await registry.send('GET', `/v2/keep/two/blobs/${digest}`)).body, content);
});

test('the catalog lists repositories with images, in pages', async (t) => {
  const own = await TestRegistry.start();
  try {
    for (const name of ['b/x', 'a', 'a/b', 'a-b', 'c']) await own.pushImage(name, 'v1');
    await own.pushBlob('only/blobs', Buffer.from('x'));
    const list = async (query: string) => {
      const answer = await own.send('GET', `/v2/_catalog${query}`);
      return { link: answer.headers.link, ...(json(answer) as { repositories: string[] }) };
    };
    t.deepEqual(await list(''), { repositories: ['a', 'a-b', 'a/b', 'b/x', 'c'], link: undefined });
    const first = await list('?n=3');
    t.deepEqual(first.repositories, ['a', 'a-b', 'a/b']);
    t.is(first.link, '</v2/_catalog?n=3&last=a%2Fb>; rel="next"');
    t.deepEqual((await list('?n=3&last=a%2Fb')).repositories, ['b/x', 'c']);
    await own.registry.context.storage.repository('c').setAttributes({ listEnabled: false });
    t.deepEqual((await list('?last=b')).repositories, ['b/x']);
  } finally {
    await own.stop();
  }
});

test('attributes forbid what they name', async (t) => {
  const { digest, bytes } = await registry.pushImage('locked', 'v1');
  const repository = registry.registry.context.storage.repository('locked');
  const status = async (method: string, path: string) =>
    (await registry.send(method, `/v2/locked/${path}`)).status;
  await repository.setAttributes({ writeEnabled: false, deleteEnabled: false });
  t.is((await registry.pushManifest('locked', 'v2', bytes)).status, 405);
  t.is(await status('POST', 'blobs/uploads/'), 405);
  t.is(await status('DELETE', `manifests/${digest}`), 405);
  t.is(await status('GET', 'manifests/v1'), 200);
  await repository.setAttributes({ readEnabled: false, deleteEnabled: true });
  t.is(await status('GET', 'manifests/v1'), 405);
  t.is(await status('DELETE', `manifests/${digest}`), 202);
});
