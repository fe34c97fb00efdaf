/** The checks of the distribution-spec conformance suite for pushing and pulling, over loopback. */
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { Agent, type IncomingMessage, request } from 'node:http';
import test from 'ava';
import { digestOf } from '../../src/oci/digest.js';
import { MEDIA_TYPE } from '../../src/oci/manifest.js';
import { Random } from '../image/random.js';
import { errorCodes, json, TestRegistry } from './server-fixture.js';

let registry: TestRegistry;
test.before(async () => {
  registry = await TestRegistry.start();
});
test.after.always(() => registry.stop());

const random = new Random(20240601);
const blob = (length = 3000) => random.bytes(length);
const emptyDigest = digestOf(Buffer.alloc(0));

async function pulled(repository: string, digest: string): Promise<Buffer> {
  const { status, body } = await registry.send('GET', `/v2/${repository}/blobs/${digest}`);
  return status === 200 ? body : Buffer.from(`status ${status}`);
}

test('the base says that the API is there', async (t) => {
  const { status, headers } = await registry.send('GET', '/v2/');
  t.is(status, 200);
  t.is(headers['docker-distribution-api-version'], 'registry/2.0');
});

test('a blob that nobody pushed is unknown', async (t) => {
  for (const method of ['GET', 'HEAD']) {
    const answer = await registry.send(method, `/v2/never/pushed/blobs/${digestOf(blob())}`);
    t.is(answer.status, 404);
    if (method === 'GET') t.deepEqual(errorCodes(answer), ['BLOB_UNKNOWN']);
  }
});

test('a blob goes up in one POST', async (t) => {
  const content = blob();
  const digest = digestOf(content);
  const answer = await registry.send('POST', `/v2/one/post/blobs/uploads/?digest=${digest}`, {
    body: content,
  });
  t.is(answer.status, 201);
  t.is(answer.headers['docker-content-digest'], digest);
  t.is(answer.headers.location, `/v2/one/post/blobs/${digest}`);
  t.deepEqual(await pulled('one/post', digest), content);
  const head = await registry.send('HEAD', `/v2/one/post/blobs/${digest}`);
  t.is(head.status, 200);
  t.is(head.headers['content-length'], `${content.length}`);
  t.is(head.headers['docker-content-digest'], digest);
});

test('a blob goes up by POST and PUT', async (t) => {
  const content = blob();
  const location = await registry.startUpload('post/put');
  const answer = await registry.send('PUT', `${location}?digest=${digestOf(content)}`, { body: content });
  t.is(answer.status, 201);
  t.deepEqual(await pulled('post/put', digestOf(content)), content);
});

test('a blob of unknown length goes up in a stream', async (t) => {
  const content = blob(1_500_000);
  const location = await registry.startUpload('streamed');
  const patch = await registry.send('PATCH', location, { body: content, chunked: true });
  t.is(patch.status, 202);
  t.is(patch.headers.range, `0-${content.length - 1}`);
  const put = await registry.send('PUT', `${location}?digest=${digestOf(content)}`, { body: '' });
  t.is(put.status, 201);
  t.true(content.equals(await pulled('streamed', digestOf(content))));
});

test('a blob goes up in chunks, in order only, and says how far it is', async (t) => {
  const content = blob(2500);
  const location = await registry.startUpload('chunked');
  const chunk = (start: number, end: number) =>
    registry.send('PATCH', location, {
      body: content.subarray(start, end),
      headers: { 'content-range': `${start}-${end - 1}` },
    });
  t.is((await registry.send('GET', location)).headers.range, '0-0');
  t.is((await chunk(0, 1000)).headers.range, '0-999');
  for (const [start, end] of [
    [1500, 2500],
    [0, 1000],
    [999, 1500],
  ] as const) {
    const answer = await chunk(start, end);
    t.is(answer.status, 416);
    t.is(answer.headers.range, '0-999');
    t.deepEqual(errorCodes(answer), ['RANGE_INVALID']);
  }
  const status = await registry.send('GET', location);
  t.is(status.status, 204);
  t.is(status.headers.range, '0-999');
  t.is(status.headers.location, location);
  t.is((await chunk(1000, 2000)).status, 202);
  const last = await registry.send('PUT', `${location}?digest=${digestOf(content)}`, {
    body: content.subarray(2000),
    headers: { 'content-range': '2000-2499' },
  });
  t.is(last.status, 201);
  t.deepEqual(await pulled('chunked', digestOf(content)), content);
  t.is((await registry.send('GET', location)).status, 404);
});

test('a chunk must have the length of its Content-Range', async (t) => {
  const location = await registry.startUpload('lengths');
  for (const [range, body] of [
    ['0-9', 'short'],
    ['0-3', 'longer'],
  ] as const) {
    const declared = await registry.send('PATCH', location, { body, headers: { 'content-range': range } });
    t.is(declared.status, 400);
    const streamed = await registry.send('PATCH', location, {
      body,
      headers: { 'content-range': range },
      chunked: true,
    });
    t.is(streamed.status, 400);
    t.deepEqual([...errorCodes(declared), ...errorCodes(streamed)], ['SIZE_INVALID', 'SIZE_INVALID']);
  }
  for (const range of ['', 'x', '5-1', '0-', '-4', 'bytes', '0-4 5-6', `0-${'9'.repeat(30)}`]) {
    const answer = await registry.send('PATCH', location, {
      body: 'hello',
      headers: { 'content-range': range },
    });
    t.is(answer.status, 416, range);
  }
  t.is((await registry.send('GET', location)).headers.range, '0-0');
});

test('content of another digest is refused, and nothing of it stays', async (t) => {
  const wrong = digestOf(blob());
  const post = await registry.send('POST', `/v2/wrong/blobs/uploads/?digest=${wrong}`, { body: 'something' });
  const location = await registry.startUpload('wrong');
  const put = await registry.send('PUT', `${location}?digest=${wrong}`, { body: 'something' });
  for (const answer of [post, put]) {
    t.is(answer.status, 400);
    t.deepEqual(errorCodes(answer), ['DIGEST_INVALID']);
  }
  t.is((await registry.send('GET', location)).status, 404);
  t.is((await registry.send('HEAD', `/v2/wrong/blobs/${wrong}`)).status, 404);
});

test('an upload can be cancelled', async (t) => {
  const location = await registry.startUpload('cancelled');
  t.is((await registry.send('DELETE', location)).status, 204);
  for (const method of ['GET', 'DELETE', 'PATCH', 'PUT']) {
    const path = method === 'PUT' ? `${location}?digest=${emptyDigest}` : location;
    const answer = await registry.send(method, path);
    t.is(answer.status, 404);
    t.deepEqual(errorCodes(answer), ['BLOB_UPLOAD_UNKNOWN']);
  }
});

test('an upload belongs to one repository', async (t) => {
  const location = await registry.startUpload('mine');
  const other = location.replace('/mine/', '/yours/');
  t.is((await registry.send('PATCH', other, { body: 'x' })).status, 404);
  t.is((await registry.send('GET', location)).status, 204);
});

test('the empty blob and blobs by sha512 are blobs like others', async (t) => {
  t.is(await registry.pushBlob('odd', Buffer.alloc(0)), emptyDigest);
  t.deepEqual(await pulled('odd', emptyDigest), Buffer.alloc(0));
  const content = blob();
  const digest = digestOf(content, 'sha512');
  const answer = await registry.send('POST', `/v2/odd/blobs/uploads/?digest=${digest}`, { body: content });
  t.is(answer.status, 201);
  t.deepEqual(await pulled('odd', digest), content);
  t.is((await registry.send('HEAD', `/v2/odd/blobs/${digestOf(content)}`)).status, 404);
});

test('a blob of another repository is mounted, named or not; otherwise an upload begins', async (t) => {
  const digest = await registry.pushBlob('mount/source', blob());
  for (const [target, query] of [
    ['mount/named', '&from=mount/source'],
    ['mount/unnamed', ''],
  ] as const) {
    const answer = await registry.send('POST', `/v2/${target}/blobs/uploads/?mount=${digest}${query}`);
    t.is(answer.status, 201);
    t.is(answer.headers.location, `/v2/${target}/blobs/${digest}`);
    t.is((await registry.send('HEAD', `/v2/${target}/blobs/${digest}`)).status, 200);
  }
  const missing = digestOf(blob());
  for (const query of [
    `mount=${missing}&from=mount/source`,
    `mount=${digest}&from=mount/nobody`,
    `mount=${missing}`,
  ]) {
    const answer = await registry.send('POST', `/v2/mount/missing/blobs/uploads/?${query}`);
    t.is(answer.status, 202, query);
    t.regex(answer.headers.location ?? '', /^\/v2\/mount\/missing\/blobs\/uploads\/[0-9a-f-]{36}$/);
  }
});

test('parts of a blob', async (t) => {
  const content = blob(2048);
  const digest = await registry.pushBlob('ranges', content);
  const get = (range: string, headers: Record<string, string> = {}) =>
    registry.send('GET', `/v2/ranges/blobs/${digest}`, { headers: { range, ...headers } });
  for (const [range, start, end] of [
    ['bytes=500-1499', 500, 1500],
    ['bytes=500-', 500, 2048],
    ['bytes=-500', 1548, 2048],
    ['bytes=2000-5000', 2000, 2048],
    ['bytes=0-0', 0, 1],
    ['bytes=-9999', 0, 2048],
  ] as const) {
    const answer = await get(range);
    t.is(answer.status, 206, range);
    t.deepEqual(answer.body, content.subarray(start, end), range);
    t.is(answer.headers['content-range'], `bytes ${start}-${end - 1}/2048`);
    t.is(answer.headers['content-length'], `${end - start}`);
  }
  for (const range of [
    'bytes=500-0',
    'bytes=5000-10000',
    'bytes=2048-',
    'bytes=-0',
    'bytes=-',
    'bytes=x-1',
  ]) {
    const answer = await get(range);
    t.is(answer.status, 416, range);
    t.is(answer.headers['content-range'], 'bytes */2048');
    t.deepEqual(errorCodes(answer), ['RANGE_INVALID']);
  }
  for (const range of ['lines=1-2', 'bytes=0-1,5-6']) t.is((await get(range)).status, 200, range);
  t.is((await get('bytes=0-9', { 'if-range': `"${digest}"` })).status, 206);
  t.is((await get('bytes=0-9', { 'if-range': '"other"' })).status, 200);
  t.is(
    (
      await registry.send('GET', `/v2/ranges/blobs/${digest}`, {
        headers: { 'if-none-match': `"${digest}"` },
      })
    ).status,
    304,
  );
});

test('a manifest is stored under its tag and its digest, byte for byte', async (t) => {
  const { digest, bytes } = await registry.pushImage('team/app', 'v1');
  for (const reference of ['v1', digest]) {
    const answer = await registry.send('GET', `/v2/team/app/manifests/${reference}`);
    t.is(answer.status, 200);
    t.deepEqual(answer.body, bytes);
    t.is(answer.headers['content-type'], MEDIA_TYPE.manifest);
    t.is(answer.headers['docker-content-digest'], digest);
    const head = await registry.send('HEAD', `/v2/team/app/manifests/${reference}`);
    t.is(head.status, 200);
    t.is(head.headers['content-length'], `${bytes.length}`);
    t.is(head.headers['content-type'], MEDIA_TYPE.manifest);
    t.is(head.body.length, 0);
  }
});

test('a manifest by digest may bring its tags', async (t) => {
  const { digest, bytes } = await registry.pushImage('tagged', 'first');
  const answer = await registry.pushManifest('tagged', `${digest}?tag=a&tag=b`, bytes);
  t.is(answer.status, 201);
  t.is(answer.headers['oci-tag'], 'a, b');
  t.is(answer.headers.location, `/v2/tagged/manifests/${digest}`);
  const { tags } = json(await registry.send('GET', '/v2/tagged/tags/list')) as { tags: string[] };
  t.deepEqual(tags, ['a', 'b', 'first']);
});

test('what a manifest refers to must be there, except its subject and layers that are kept elsewhere', async (t) => {
  const config = {
    mediaType: MEDIA_TYPE.config,
    digest: await registry.pushBlob('refs', Buffer.from('{}')),
    size: 2,
  };
  const missing = { mediaType: MEDIA_TYPE.layerTar, digest: digestOf(blob()), size: 1 };
  const manifest = (fields: object) =>
    JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE.manifest, config, layers: [], ...fields });
  const refused = await registry.pushManifest(
    'refs',
    'x',
    manifest({ layers: [missing, { ...missing, digest: digestOf(blob()) }] }),
  );
  t.is(refused.status, 404);
  t.deepEqual(errorCodes(refused), ['MANIFEST_BLOB_UNKNOWN', 'MANIFEST_BLOB_UNKNOWN']);
  const index = JSON.stringify({
    schemaVersion: 2,
    mediaType: MEDIA_TYPE.index,
    manifests: [{ mediaType: MEDIA_TYPE.manifest, digest: missing.digest, size: 1 }],
  });
  t.is((await registry.pushManifest('refs', 'x', index, MEDIA_TYPE.index)).status, 404);
  t.is((await registry.send('HEAD', '/v2/refs/manifests/x')).status, 404);
  const elsewhere = 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip';
  const foreign = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip';
  const fine = manifest({
    layers: [
      { ...missing, mediaType: elsewhere },
      { ...missing, mediaType: foreign },
    ],
    subject: { mediaType: MEDIA_TYPE.manifest, digest: digestOf(blob()), size: 3 },
  });
  t.is((await registry.pushManifest('refs', 'y', fine)).status, 201);
  // A blob that the registry has in another repository only is not there.
  const other = await registry.pushBlob('refs/other', blob());
  t.is(
    (await registry.pushManifest('refs', 'z', manifest({ layers: [{ ...missing, digest: other }] }))).status,
    404,
  );
});

test('indexes of manifests and of indexes, and the Docker types', async (t) => {
  const { digest, bytes } = await registry.pushImage('nested', 'image');
  const entry = (mediaType: string, of: string, size: number) => ({ mediaType, digest: of, size });
  const index = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.index,
      manifests: [entry(MEDIA_TYPE.manifest, digest, bytes.length)],
    }),
  );
  t.is((await registry.pushManifest('nested', 'index', index, MEDIA_TYPE.index)).status, 201);
  const outer = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPE.dockerManifestList,
      manifests: [entry(MEDIA_TYPE.index, digestOf(index), index.length)],
    }),
  );
  t.is((await registry.pushManifest('nested', 'outer', outer, MEDIA_TYPE.dockerManifestList)).status, 201);
  const answer = await registry.send('GET', '/v2/nested/manifests/outer');
  t.is(answer.headers['content-type'], MEDIA_TYPE.dockerManifestList);
  t.deepEqual(answer.body, outer);
  const docker = JSON.parse(bytes.toString()) as Record<string, unknown>;
  docker['mediaType'] = MEDIA_TYPE.dockerManifest;
  const pushed = await registry.pushManifest(
    'nested',
    'docker',
    JSON.stringify(docker),
    MEDIA_TYPE.dockerManifest,
  );
  t.is(pushed.status, 201);
});

test('who is told of a manifest cannot fail the push', async (t) => {
  const told: string[] = [];
  const own = await TestRegistry.start({
    onManifest: (repository, digest) => {
      told.push(`${repository} ${digest}`);
      throw new Error('expansion is broken');
    },
  });
  try {
    const { digest } = await own.pushImage('app', 'v1');
    t.deepEqual(told, [`app ${digest}`]);
  } finally {
    await own.stop();
  }
});

test('everything is there after a restart', async (t) => {
  const own = await TestRegistry.start();
  try {
    const { bytes } = await own.pushImage('app', 'v1', 'layer');
    const location = await own.startUpload('app');
    await own.send('PATCH', location, { body: 'half ' });
    await own.restart();
    t.deepEqual((await own.send('GET', '/v2/app/manifests/v1')).body, bytes);
    t.is((await own.send('GET', `/v2/app/blobs/${digestOf(Buffer.from('layer'))}`)).body.toString(), 'layer');
    t.is((await own.send('GET', location)).headers.range, '0-4');
    const digest = digestOf(Buffer.from('half done'));
    t.is((await own.send('PUT', `${location}?digest=${digest}`, { body: 'done' })).status, 201);
  } finally {
    await own.stop();
  }
});

test('a registry that is closed does not wait for connections that nobody uses', async (t) => {
  const own = await TestRegistry.start();
  const digest = await own.pushBlob('app', Buffer.alloc(100));
  const agent = new Agent({ keepAlive: true });
  const get = request(`${own.url}/v2/app/blobs/${digest}`, { agent }).end();
  const [response] = (await once(get, 'response')) as [IncomingMessage];
  const closing = own.registry.close(600_000);
  response.resume();
  await once(response, 'end');
  await t.notThrowsAsync(closing);
  agent.destroy();
  rmSync(own.directory, { recursive: true });
});
