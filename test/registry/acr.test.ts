/** The ACR API of repository attributes, and what the scripts of Project Teleport do with it. */
import test from 'ava';
import { errorCodes, json, TestRegistry } from './server-fixture.js';
import { basic, bearer, writeUsers } from './users-fixture.js';

const ALL = {
  deleteEnabled: true,
  writeEnabled: true,
  readEnabled: true,
  listEnabled: true,
  teleportEnabled: false,
};

function disableTeleport(registry: TestRegistry, repository: string) {
  return registry.send('PATCH', `/acr/v1/${repository}`, { body: '{"teleportEnabled":false}' });
}

test('the properties of a repository are those that ACR answers', async (t) => {
  const registry = await TestRegistry.start();
  t.teardown(() => registry.stop());
  const before = Date.now();
  await disableTeleport(registry, 'team/app');
  await registry.pushImage('team/app', 'v1');
  await registry.pushImage('team/app', 'v2', 'another layer');
  const answer = await registry.send('GET', '/acr/v1/team/app');
  t.is(answer.status, 200);
  t.regex(answer.headers['content-type'] ?? '', /^application\/json/);
  const { createdTime, lastUpdateTime, ...rest } = json(answer) as Record<string, string>;
  t.deepEqual(rest as object, {
    registry: registry.host,
    imageName: 'team/app',
    manifestCount: 2,
    tagCount: 2,
    changeableAttributes: ALL,
  });
  // File times are those of the last tick of the kernel's clock.
  t.true(Date.parse(createdTime!) >= before - 100);
  t.true(Date.parse(lastUpdateTime!) >= Date.parse(createdTime!));
});

test('a name may be percent-encoded, and may begin with a slash', async (t) => {
  const registry = await TestRegistry.start();
  t.teardown(() => registry.stop());
  await registry.pushImage('team/app', 'v1');
  for (const name of ['team%2Fapp', 'team%2fapp', '/team/app']) {
    const answer = await registry.send('GET', `/acr/v1/${name}`);
    t.is(answer.status, 200, name);
    t.is((json(answer) as { imageName: string }).imageName, 'team/app');
  }
  const redirected = await registry.send('HEAD', '/v2//team/app/manifests/v1');
  t.is(redirected.status, 308);
  t.is(redirected.headers.location, '/v2/team/app/manifests/v1');
  t.is((await registry.send('PUT', '/v2//team/app/manifests/v1', { body: '{}' })).status, 400);
});

test('attributes are changed one by one, outlive a restart, and are obeyed', async (t) => {
  const registry = await TestRegistry.start();
  t.teardown(() => registry.stop());
  await registry.pushImage('team/app', 'v1');
  const patch = (body: string) => registry.send('PATCH', '/acr/v1/team/app', { body });
  const changed = await patch('{"teleportEnabled": true }');
  t.is(changed.status, 200);
  t.deepEqual((json(changed) as { changeableAttributes: unknown }).changeableAttributes, {
    ...ALL,
    teleportEnabled: true,
  });
  await patch('{"readEnabled":false,"writeEnabled":false}');
  await registry.restart();
  const { changeableAttributes } = json(await registry.send('GET', '/acr/v1/team/app')) as {
    changeableAttributes: unknown;
  };
  t.deepEqual(changeableAttributes, {
    ...ALL,
    teleportEnabled: true,
    readEnabled: false,
    writeEnabled: false,
  });
  t.is((await registry.send('GET', '/v2/team/app/manifests/v1')).status, 405);
  t.is((await registry.send('POST', '/v2/team/app/blobs/uploads/')).status, 405);
});

test('a repository can be enabled before the first push', async (t) => {
  const registry = await TestRegistry.start();
  t.teardown(() => registry.stop());
  t.is((await registry.send('GET', '/acr/v1/new/app')).status, 404);
  const enabled = await registry.send('PATCH', '/acr/v1/new/app', { body: '{"teleportEnabled":true}' });
  t.is(enabled.status, 200);
  t.is((json(enabled) as { manifestCount: number }).manifestCount, 0);
  t.deepEqual(json(await registry.send('GET', '/acr/v1/_catalog')), { repositories: [] });
});

test('bodies that are no attributes are refused, and nothing is changed', async (t) => {
  const registry = await TestRegistry.start();
  t.teardown(() => registry.stop());
  await disableTeleport(registry, 'app');
  await registry.pushImage('app', 'v1');
  for (const [body, status] of [
    ['', 400],
    ['{', 400],
    ['[]', 400],
    ['null', 400],
    ['{}', 400],
    ['{"teleportEnabled":"yes"}', 400],
    ['{"teleportEnabled":1}', 400],
    ['{"teleportEnabled":true,"other":true}', 400],
    ['{"__proto__":true}', 400],
    [Buffer.from([0x22, 0xff, 0x22]), 400],
    [`{"teleportEnabled":true${' '.repeat(5000)}}`, 413],
  ] as const) {
    const answer = await registry.send('PATCH', '/acr/v1/app', { body });
    t.is(answer.status, status, body.toString().slice(0, 50));
    t.is(errorCodes(answer).length, 1);
  }
  const { changeableAttributes } = json(await registry.send('GET', '/acr/v1/app')) as {
    changeableAttributes: unknown;
  };
  t.deepEqual(changeableAttributes, ALL);
});

test('names that are none, and other methods and resources, are refused', async (t) => {
  const registry = await TestRegistry.start();
  t.teardown(() => registry.stop());
  for (const [method, path, status, code] of [
    ['GET', '/acr/v1/UPPER', 400, 'NAME_INVALID'],
    ['PATCH', '/acr/v1/a/../b', 400, 'NAME_INVALID'],
    ['PATCH', '/acr/v1/a%2F..%2Fb', 400, 'NAME_INVALID'],
    ['PATCH', '/acr/v1/a%00b', 400, 'NAME_INVALID'],
    ['GET', '/acr/v1/_attributes.json', 400, 'NAME_INVALID'],
    ['DELETE', '/acr/v1/app', 405, 'UNSUPPORTED'],
    ['GET', '/acr/v1/app/_tags', 404, 'UNSUPPORTED'],
    ['GET', '/acr/v1/app', 404, 'NAME_UNKNOWN'],
  ] as const) {
    const answer = await registry.send(method, path, { body: '{"teleportEnabled":true}' });
    t.is(answer.status, status, `${method} ${path}`);
    t.deepEqual(errorCodes(answer), [code], `${method} ${path}`);
  }
});

test('attributes are seen by who may pull, and changed by who may push', async (t) => {
  const users = writeUsers(t, {
    admin: '*=*',
    reader: 'app=pull',
    pusher: 'app=push',
    keeper: 'app=metadata',
    other: 'other=*',
  });
  const registry = await TestRegistry.start({ users });
  t.teardown(() => registry.stop());
  registry.headers = basic('admin');
  await registry.pushImage('app', 'v1');
  const status = async (method: string, headers: Record<string, string>) =>
    (await registry.send(method, '/acr/v1/app', { headers, body: '{"listEnabled":true}' })).status;
  const withToken = async (user: string, scope: string) => {
    const answer = await registry.send('GET', `/oauth2/token?scope=${scope}`, { headers: basic(user) });
    return bearer((json(answer) as { access_token: string }).access_token);
  };
  t.is(await status('GET', basic('reader')), 200);
  t.is(await status('PATCH', basic('reader')), 403);
  t.is(await status('PATCH', basic('pusher')), 200);
  t.is(await status('PATCH', basic('keeper')), 200);
  t.is(await status('GET', basic('other')), 403);
  t.is(await status('PATCH', basic('other')), 403);
  t.is(await status('PATCH', { authorization: 'Bearer x.y.z' }), 401);
  t.is(await status('GET', await withToken('reader', 'repository:app:metadata_read')), 200);
  t.is(await status('GET', await withToken('reader', 'repository:app:pull')), 200);
  t.is(await status('PATCH', await withToken('pusher', 'repository:app:pull,push')), 200);
  t.is(await status('PATCH', await withToken('pusher', 'repository:/app:pull,push')), 200);
  t.is(await status('PATCH', await withToken('keeper', 'repository:app:metadata_write')), 200);
  // What a user does not have is not in the token, whatever it asks for.
  t.is(await status('PATCH', await withToken('reader', 'repository:app:metadata_write,pull')), 403);
  t.is(await status('PATCH', await withToken('pusher', 'repository:app:metadata_read,pull')), 401);
  t.is(await status('PATCH', await withToken('pusher', 'repository:other:push')), 401);
  const refused = await registry.send('PATCH', '/acr/v1/app', {
    headers: { authorization: 'Bearer x.y.z' },
    body: '{}',
  });
  t.regex(refused.headers['www-authenticate'] ?? '', /scope="repository:app:metadata_read,metadata_write"/);
});
