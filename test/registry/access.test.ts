import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { hashSync } from 'bcryptjs';
import { decodeJwt, SignJWT } from 'jose';
import { digestOf } from '../../src/oci/digest.js';
import { Tokens } from '../../src/registry/tokens.js';
import { type Answer, errorCodes, json, TestRegistry } from './server-fixture.js';

const PASSWORD = 'pass:word ü';
const directory = mkdtempSync(join(tmpdir(), 'orca-access-'));
const usersFile = join(directory, 'users');
const hash = hashSync(PASSWORD, 4);
let registry: TestRegistry;

test.before(async () => {
  writeFileSync(
    usersFile,
    `writer:${hash}:team/*=pull,push public/*=pull,push\nreader:${hash}:team/app=pull\nadmin:${hash}:*=*\nnobody:${hash}\nanonymous::public/*=pull\n`,
  );
  registry = await TestRegistry.start({ users: usersFile });
  await registry.pushBlob('team/app', Buffer.from('layer'), basic('admin'));
  await registry.pushBlob('team/other', Buffer.from('other'), basic('admin'));
  await registry.pushBlob('public/app', Buffer.from('public'), basic('admin'));
});
test.after.always(async () => {
  await registry.stop();
  rmSync(directory, { recursive: true });
});

function basic(name: string, password = PASSWORD): Record<string, string> {
  return { authorization: `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}` };
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const layer = digestOf(Buffer.from('layer'));
const appBlob = `/v2/team/app/blobs/${layer}`;

async function token(name: string | undefined, ...scopes: string[]): Promise<Record<string, unknown>> {
  const query = new URLSearchParams([
    ['service', 'orca-registry'],
    ...scopes.map((scope) => ['scope', scope] as [string, string]),
  ]);
  const answer = await registry.send('GET', `/oauth2/token?${query}`, {
    headers: name === undefined ? {} : basic(name),
  });
  return { status: answer.status, ...(json(answer) as object) };
}

async function accessToken(name: string | undefined, ...scopes: string[]): Promise<string> {
  return String((await token(name, ...scopes))['access_token']);
}

/** Parameters of the challenge. */
function challenge(answer: Answer): Record<string, string> {
  const header = answer.headers['www-authenticate'] ?? '';
  const found = [...header.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key, value]);
  return { scheme: header.split(' ')[0] ?? '', ...(Object.fromEntries(found) as Record<string, string>) };
}

test('without credentials there is a challenge that says what to ask for', async (t) => {
  const realm = `http://${registry.host}/oauth2/token`;
  const base = await registry.send('GET', '/v2/');
  t.is(base.status, 401);
  t.deepEqual(errorCodes(base), ['UNAUTHORIZED']);
  t.deepEqual(challenge(base), { scheme: 'Bearer', realm, service: 'orca-registry' });
  for (const [method, path, scope] of [
    ['GET', appBlob, 'repository:team/app:pull'],
    ['HEAD', '/v2/team/app/manifests/latest', 'repository:team/app:pull'],
    ['GET', '/v2/team/app/tags/list', 'repository:team/app:pull'],
    ['GET', `/v2/team/app/referrers/${layer}`, 'repository:team/app:pull'],
    ['POST', '/v2/team/app/blobs/uploads/', 'repository:team/app:pull,push'],
    ['PUT', '/v2/team/app/manifests/latest', 'repository:team/app:pull,push'],
    [
      'POST',
      `/v2/a/blobs/uploads/?mount=${layer}&from=team/app`,
      'repository:a:pull,push repository:team/app:pull',
    ],
    ['DELETE', appBlob, 'repository:team/app:delete'],
    ['GET', '/v2/_catalog', 'registry:catalog:*'],
  ] as const) {
    const answer = await registry.send(method, path);
    const expected = method === 'GET' && path === '/v2/_catalog' ? 200 : 401;
    t.is(answer.status, expected, `${method} ${path}`);
    if (expected === 401) t.is(challenge(answer)['scope'], scope, `${method} ${path}`);
  }
});

test('basic credentials do what their user may', async (t) => {
  const status = async (method: string, path: string, name: string) =>
    (await registry.send(method, path, { headers: basic(name) })).status;
  t.is(await status('GET', '/v2/', 'nobody'), 200);
  t.is(await status('GET', appBlob, 'reader'), 200);
  t.is(await status('GET', appBlob, 'writer'), 200);
  t.is(await status('GET', appBlob, 'nobody'), 403);
  t.is(await status('POST', '/v2/team/app/blobs/uploads/', 'reader'), 403);
  t.is(await status('POST', '/v2/team/app/blobs/uploads/', 'writer'), 202);
  t.is(await status('DELETE', appBlob, 'writer'), 403);
  t.is(await status('GET', `/v2/team/other/blobs/${layer}`, 'reader'), 403);
  const denied = await registry.send('GET', '/v2/team/other/tags/list', { headers: basic('reader') });
  t.deepEqual(errorCodes(denied), ['DENIED']);
});

test('wrong credentials are no credentials', async (t) => {
  for (const headers of [
    basic('reader', 'wrong'),
    basic('stranger'),
    basic('anonymous', ''),
    { authorization: 'Basic ???' },
    { authorization: 'Basic' },
    { authorization: `Basic ${Buffer.from('nocolon').toString('base64')}` },
    { authorization: 'Digest x' },
    { authorization: 'Bearer' },
    bearer('x.y.z'),
  ]) {
    for (const path of ['/v2/', appBlob, '/v2/_catalog']) {
      const answer = await registry.send('GET', path, { headers });
      t.is(answer.status, 401, `${headers.authorization} ${path}`);
      t.is(challenge(answer)['scheme'], 'Bearer');
    }
  }
});

test('everybody may what anonymous may', async (t) => {
  const path = `/v2/public/app/blobs/${digestOf(Buffer.from('public'))}`;
  t.is((await registry.send('GET', path)).status, 200);
  t.is((await registry.send('DELETE', path)).status, 401);
  const headers = bearer(await accessToken(undefined, 'repository:public/app:pull,push'));
  t.is((await registry.send('GET', '/v2/', { headers })).status, 200);
  t.is((await registry.send('GET', path, { headers })).status, 200);
  t.is((await registry.send('GET', appBlob, { headers })).status, 403);
});

test('a token has what was asked for, as far as the user has it', async (t) => {
  const answer = await token(
    'reader',
    'repository:team/app:pull,push,delete repository:team/other:pull',
    'repository:team/app:pull',
  );
  t.is(answer['status'], 200);
  t.is(answer['token'], answer['access_token']);
  t.is(answer['expires_in'], 300);
  t.is(answer['refresh_token'], undefined);
  t.is(answer['scope'], 'repository:team/app:pull repository:team/app:pull');
  const headers = bearer(String(answer['access_token']));
  t.is((await registry.send('GET', appBlob, { headers })).status, 200);
  t.is((await registry.send('POST', '/v2/team/app/blobs/uploads/', { headers })).status, 403);
});

test('a token that is too narrow says so, to a user who may more', async (t) => {
  const headers = bearer(await accessToken('writer', 'repository:team/app:pull'));
  t.is((await registry.send('GET', appBlob, { headers })).status, 200);
  for (const [method, path, scope] of [
    ['POST', '/v2/team/app/blobs/uploads/', 'repository:team/app:pull,push'],
    ['GET', '/v2/team/other/tags/list', 'repository:team/other:pull'],
  ] as const) {
    const answer = await registry.send(method, path, { headers });
    t.is(answer.status, 401);
    t.like(challenge(answer), { error: 'insufficient_scope', scope });
  }
});

test('scopes that are none, or for names that are none, are left out', async (t) => {
  for (const scope of [
    'repository:team/app',
    'repository::pull',
    'repository:../x:pull',
    'repository:TEAM:pull',
    'plugin:team/app:pull',
    'registry:other:*',
    'repository:team/app:constructor,__proto__,toString',
    'pull',
    ':::',
  ]) {
    t.is((await token('admin', scope))['scope'], '', scope);
  }
  t.is(
    (await token('admin', 'repository:team/app:*'))['scope'],
    'repository:team/app:pull,push,delete,metadata_read,metadata_write',
  );
  t.is((await token('admin', 'registry:catalog:*'))['scope'], 'registry:catalog:*');
});

test('a token for another service is not given', async (t) => {
  const ask = async (service: string) =>
    (await registry.send('GET', `/oauth2/token?service=${service}`, { headers: basic('reader') })).status;
  t.is(await ask('other.example'), 400);
  t.is(await ask('orca-registry'), 200);
  t.is(await ask(registry.host), 200);
  t.is(await ask('127.0.0.1'), 200);
});

async function post(form: Record<string, string>): Promise<Answer> {
  return registry.send('POST', '/oauth2/token', {
    headers: { 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({ service: 'orca-registry', ...form }).toString(),
  });
}

test('a refresh token stands for the password, until the password is another', async (t) => {
  const own = join(directory, 'refresh');
  writeFileSync(own, `alice:${hash}:*=pull\n`);
  const server = await TestRegistry.start({ users: own });
  const form = (fields: Record<string, string>) =>
    server.send('POST', '/oauth2/token', { body: new URLSearchParams(fields).toString() });
  try {
    const first = await form({
      grant_type: 'password',
      username: 'alice',
      password: PASSWORD,
      access_type: 'offline',
      scope: 'repository:x:pull',
    });
    t.is(first.status, 200);
    const { refresh_token: refresh, access_token: access } = json(first) as Record<string, string>;
    const again = () =>
      form({ grant_type: 'refresh_token', refresh_token: refresh ?? '', scope: 'repository:x:pull,push' });
    t.is((json(await again()) as Record<string, string>)['scope'], 'repository:x:pull');
    // Neither token does for the other.
    t.is((await server.send('GET', '/v2/', { headers: bearer(refresh ?? '') })).status, 401);
    t.is((await form({ grant_type: 'refresh_token', refresh_token: access ?? '' })).status, 401);
    writeFileSync(own, `alice:${hashSync('another', 4)}:*=pull\n`);
    await new Promise((resolve) => setTimeout(resolve, 1100));
    t.is((await again()).status, 401);
    // An access token lives on, but the rights of its user are looked up each time.
    t.is((await server.send('GET', '/v2/', { headers: bearer(access ?? '') })).status, 200);
    writeFileSync(own, `bob:${hash}:*=pull\n`);
    await new Promise((resolve) => setTimeout(resolve, 1100));
    t.is((await server.send('GET', '/v2/', { headers: bearer(access ?? '') })).status, 401);
  } finally {
    await server.stop();
  }
});

test('tokens by form need a grant that is right', async (t) => {
  t.is((await post({ grant_type: 'password', username: 'reader', password: 'wrong' })).status, 401);
  t.is((await post({ grant_type: 'password' })).status, 401);
  t.is((await post({ grant_type: 'refresh_token', refresh_token: 'x' })).status, 401);
  t.is((await post({ grant_type: 'client_credentials' })).status, 400);
  t.is((await post({})).status, 400);
  t.is((await post({ x: 'y'.repeat(70_000) })).status, 413);
  t.is((await token('reader'))['status'], 200);
  const { status } = await registry.send('GET', '/oauth2/token?service=orca-registry', {
    headers: basic('reader', 'x'),
  });
  t.is(status, 401);
});

test('tokens that are forged, expired or for somebody else are refused', async (t) => {
  const { tokens } = registry.registry.context.access.options;
  const claims = { access: [{ type: 'repository', name: 'team/app', actions: ['pull'] }] };
  const now = Math.floor(Date.now() / 1000);
  const sign = (change: (jwt: SignJWT) => SignJWT, key: Uint8Array = tokens.key, header: object = {}) =>
    change(
      new SignJWT(claims)
        .setProtectedHeader({ alg: 'HS256', typ: 'at+jwt', ...header })
        .setIssuer('orca-registry')
        .setAudience('orca-registry')
        .setSubject('reader')
        .setIssuedAt(now)
        .setExpirationTime(now + 60),
    ).sign(key);
  const status = async (text: string) =>
    (await registry.send('GET', appBlob, { headers: bearer(text) })).status;
  const good = await sign((jwt) => jwt);
  t.is(await status(good), 200);
  const [head, body, signature] = good.split('.') as [string, string, string];
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  for (const [why, text] of [
    ['another key', await sign((jwt) => jwt, new Uint8Array(32))],
    ['expired', await sign((jwt) => jwt.setExpirationTime(now - 1))],
    ['not valid yet', await sign((jwt) => jwt.setNotBefore(now + 600))],
    ['another audience', await sign((jwt) => jwt.setAudience('other'))],
    ['another issuer', await sign((jwt) => jwt.setIssuer('other'))],
    ['a user who is gone', await sign((jwt) => jwt.setSubject('gone'))],
    ['another type', await sign((jwt) => jwt, tokens.key, { typ: 'JWT' })],
    ['another algorithm', await sign((jwt) => jwt, new Uint8Array(64), { alg: 'HS512' })],
    ['no signature', `${encode({ alg: 'none', typ: 'at+jwt' })}.${body}.`],
    ['a changed body', `${head}.${encode({ ...decodeJwt(good), sub: 'admin' })}.${signature}`],
    ['a cut signature', good.slice(0, -4)],
  ] as const) {
    t.is(await status(text), 401, why);
  }
  t.is(
    (
      await registry.send('POST', '/v2/team/app/blobs/uploads/', {
        headers: bearer(await sign((jwt) => jwt.setSubject('admin'))),
      })
    ).status,
    401,
  );
  t.true(tokens instanceof Tokens);
});

test('the catalog shows what one may pull', async (t) => {
  await registry.registry.context.storage.repository('team/app').exists();
  const own = await TestRegistry.start({ users: usersFile });
  try {
    const headers = basic('admin');
    for (const name of ['team/app', 'team/other', 'public/app']) {
      const digest = await own.pushBlob(name, Buffer.from('{}'), headers);
      const config = { mediaType: 'application/vnd.oci.image.config.v1+json', digest, size: 2 };
      const body = JSON.stringify({ schemaVersion: 2, config, layers: [] });
      await own.send('PUT', `/v2/${name}/manifests/v1`, { headers, body });
    }
    const list = async (sent: Record<string, string>) =>
      (json(await own.send('GET', '/v2/_catalog', { headers: sent })) as { repositories: string[] })
        .repositories;
    t.deepEqual(await list(basic('admin')), ['public/app', 'team/app', 'team/other']);
    t.deepEqual(await list(basic('reader')), ['team/app']);
    t.deepEqual(await list({}), ['public/app']);
    const narrow = await own.send('GET', '/oauth2/token?scope=repository:team/app:pull', { headers });
    const { access_token: text } = json(narrow) as { access_token: string };
    t.is((await own.send('GET', '/v2/_catalog', { headers: bearer(text) })).status, 401);
  } finally {
    await own.stop();
  }
});

test('a blob is mounted only from where one may pull it', async (t) => {
  await registry.pushBlob('secret/app', Buffer.from('secret'), basic('admin'));
  const secret = digestOf(Buffer.from('secret'));
  const mount = async (query: string, headers: Record<string, string>) =>
    (await registry.send('POST', `/v2/team/copy/blobs/uploads/?mount=${query}`, { headers })).status;
  t.is(await mount(`${secret}&from=secret/app`, basic('writer')), 202);
  t.is(await mount(secret, basic('writer')), 202);
  t.is(
    await mount(
      `${layer}&from=team/app`,
      bearer(await accessToken('writer', 'repository:team/copy:pull,push')),
    ),
    202,
  );
  t.is(
    (await registry.send('HEAD', `/v2/team/copy/blobs/${secret}`, { headers: basic('writer') })).status,
    404,
  );
  const both = await accessToken('writer', 'repository:team/copy:pull,push repository:team/app:pull');
  t.is(await mount(`${layer}&from=team/app`, bearer(both)), 201);
  t.is(await mount(`${digestOf(Buffer.from('public'))}`, basic('writer')), 201);
  t.is(await mount(secret, basic('admin')), 201);
});

test('what is no repository name does not come into the challenge of a mount', async (t) => {
  for (const from of ['%0d%0aX-Other:1', 'x%22,error=%22y', '../up', '']) {
    const url = `/v2/team/copy/blobs/uploads/?mount=${layer}&from=${from}`;
    const answer = await registry.send('POST', url);
    t.is(answer.status, 400, from);
    t.deepEqual(errorCodes(answer), ['NAME_INVALID']);
  }
});

test('behind a proxy the challenge names the public address', async (t) => {
  const own = await TestRegistry.start({ users: usersFile, publicUrl: 'https://registry.example:8443/' });
  try {
    t.is(challenge(await own.send('GET', '/v2/'))['realm'], 'https://registry.example:8443/oauth2/token');
  } finally {
    await own.stop();
  }
  for (const publicUrl of ['registry.example', 'ftp://x', 'https://x/path', 'https://u@x']) {
    await t.throwsAsync(TestRegistry.start({ publicUrl }), {
      code: 'INVALID_OPTION',
      message: /write https:/,
    });
  }
});

test('a host name that is none does not come into the challenge', async (t) => {
  const answer = await registry.send('GET', '/v2/', { headers: { host: 'x"y/z' } });
  t.is(challenge(answer)['realm'], `http://${registry.host}/oauth2/token`);
});
