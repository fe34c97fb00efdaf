import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { dockerCredentials } from '../../src/oci/docker-config.js';
import { OciError } from '../../src/oci/oci-error.js';

interface Context {
  directory: string;
  env: NodeJS.ProcessEnv;
}

const test = anyTest as TestFn<Context>;
const SECRET = 'hunter2:with colon';

const base64 = (text: string) => Buffer.from(text).toString('base64');
const basic = (user: string) => `Basic ${base64(user)}`;

test.beforeEach(async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'orca-docker-config-'));
  const env = { HOME: directory, PATH: `${join(directory, 'bin')}:/usr/bin:/bin` };
  await mkdir(join(directory, '.docker'));
  await mkdir(join(directory, 'bin'));
  t.context = { directory, env };
});

test.afterEach.always((t) => rm(t.context.directory, { recursive: true }));

async function configure(t: ExecutionContext<Context>, config: unknown): Promise<void> {
  const text = typeof config === 'string' ? config : JSON.stringify(config);
  await writeFile(join(t.context.directory, '.docker/config.json'), text);
}

async function addHelper(t: ExecutionContext<Context>, name: string, script: string): Promise<void> {
  const path = join(t.context.directory, 'bin', `docker-credential-${name}`);
  await writeFile(path, `#!/bin/sh\n${script}\n`);
  await chmod(path, 0o755);
}

function find(t: ExecutionContext<Context>, domain: string, path = 'library/app', timeout = 20_000) {
  return dockerCredentials({ env: t.context.env, helper: { timeout } })(domain, path);
}

async function failure(t: ExecutionContext<Context>, promise: Promise<unknown>): Promise<OciError> {
  const error = await t.throwsAsync(promise, { instanceOf: OciError });
  t.false(inspect(error, { depth: 9, showHidden: true }).includes('hunter2'));
  t.false(error!.message.includes('\n'));
  return error!;
}

test('without a file there are no credentials', async (t) => {
  t.is(await find(t, 'example.com'), undefined);
});

test('auths are found by host, by URL, and by the key that Docker Hub has', async (t) => {
  const auth = base64(`me:${SECRET}`);
  await configure(t, {
    auths: {
      'example.com:5000': { auth },
      'https://url.example.com/v1/': { auth },
      'https://index.docker.io/v1/': { auth },
      'plain.example.com': { username: 'me', password: SECRET },
      'empty.example.com': {},
    },
  });
  for (const domain of ['example.com:5000', 'url.example.com', 'docker.io', 'plain.example.com']) {
    t.is((await find(t, domain))?.basic, basic(`me:${SECRET}`), domain);
  }
  for (const domain of ['example.com', 'empty.example.com', 'index.docker.io.evil.example']) {
    t.is(await find(t, domain), undefined, domain);
  }
});

test('$DOCKER_CONFIG comes before the home directory', async (t) => {
  await configure(t, { auths: { a: { auth: base64('home:x') } } });
  const other = join(t.context.directory, 'other');
  await mkdir(other);
  await writeFile(join(other, 'config.json'), JSON.stringify({ auths: { a: { auth: base64('other:x') } } }));
  t.context.env['DOCKER_CONFIG'] = other;
  t.is((await find(t, 'a'))?.username, 'other');
});

test('tokens are told from passwords', async (t) => {
  await configure(t, {
    auths: { a: { auth: base64('x:y'), identitytoken: 'it' }, b: { registrytoken: 'rt' } },
  });
  t.is((await find(t, 'a'))?.identityToken, 'it');
  const b = await find(t, 'b');
  t.is(b?.registryToken, 'rt');
  t.is(b?.basic, undefined);
});

test("what Podman's file has for a part of a registry is used for that part", async (t) => {
  t.context.env['XDG_RUNTIME_DIR'] = t.context.directory;
  await mkdir(join(t.context.directory, 'containers'));
  const auths = { 'quay.io/team': { auth: base64('team:x') }, 'quay.io': { auth: base64('all:x') } };
  await writeFile(join(t.context.directory, 'containers/auth.json'), JSON.stringify({ auths }));
  t.is((await find(t, 'quay.io', 'team/app'))?.username, 'team');
  t.is((await find(t, 'quay.io', 'teamwork/app'))?.username, 'all');
  await configure(t, { auths: { 'quay.io': { auth: base64('docker:x') } } });
  t.is((await find(t, 'quay.io', 'team/app'))?.username, 'docker');
});

test('credentials print nothing secret', async (t) => {
  await configure(t, { auths: { a: { auth: base64(`me:${SECRET}`) } } });
  const found = await find(t, 'a');
  t.false(inspect(found, { depth: 9, showHidden: true }).includes('hunter2'));
  t.is(JSON.stringify(found), '{}');
});

test('a helper of the host is asked before the general one, on stdin', async (t) => {
  await configure(t, { credsStore: 'all', credHelpers: { 'a.example.com': 'one' } });
  const answer = (user: string) =>
    `read server; printf '{"ServerURL":"%s","Username":"${user} %s","Secret":"s"}' "$server" "$server $1"`;
  await addHelper(t, 'one', answer('one'));
  await addHelper(t, 'all', answer('all'));
  t.is((await find(t, 'a.example.com'))?.basic, basic('one a.example.com get:s'));
  t.is((await find(t, 'b.example.com'))?.basic, basic('all b.example.com get:s'));
  t.is((await find(t, 'docker.io'))?.basic, basic('all https://index.docker.io/v1/ get:s'));
});

test('a helper that answers <token> gives an identity token', async (t) => {
  await configure(t, { credsStore: 'x' });
  await addHelper(t, 'x', `echo '{"Username":"<token>","Secret":"refresh"}'`);
  t.is((await find(t, 'a'))?.identityToken, 'refresh');
});

test('where a helper has nothing, auths are asked', async (t) => {
  await configure(t, { credsStore: 'x', auths: { a: { auth: base64('file:x') } } });
  await addHelper(t, 'x', 'echo credentials not found in native keychain; exit 1');
  t.is((await find(t, 'a'))?.username, 'file');
  t.is(await find(t, 'b'), undefined);
});

const bad: [what: string, script: string, why: RegExp][] = [
  ['fails', 'echo the key ring is locked; echo more; exit 3', /the key ring is locked$/],
  ['fails silently', 'exit 3', /ended with 3/],
  ['answers no JSON', `echo 'hunter2 is the password'`, /not the JSON/],
  ['answers other JSON', `echo '{"Username":["hunter2"],"Secret":"hunter2"}'`, /not the JSON/],
  ['writes without end', 'while :; do echo hunter2hunter2hunter2hunter2; done', /more than 65536 bytes/],
];
for (const [what, script, why] of bad) {
  test(`a helper that ${what} is an error of one line without secrets`, async (t) => {
    await configure(t, { credsStore: 'x' });
    await addHelper(t, 'x', script);
    const error = await failure(t, find(t, 'a'));
    t.is(error.code, 'HELPER_FAILED');
    t.regex(error.message, why);
  });
}

test('a helper that hangs is ended', async (t) => {
  await configure(t, { credsStore: 'x' });
  await addHelper(t, 'x', 'sleep 600 & wait');
  const error = await failure(t, find(t, 'a', 'app', 100));
  t.regex(error.message, /no answer within 100 ms/);
});

test('a helper that is missing, or whose name is a path, is named', async (t) => {
  await configure(t, { credsStore: 'nowhere' });
  t.regex((await failure(t, find(t, 'a'))).message, /docker-credential-nowhere .*not installed/);
  await configure(t, { credsStore: '../../bin/sh' });
  t.regex((await failure(t, find(t, 'a'))).message, /malformed/);
});

test('a configuration that cannot be used is named, never quoted', async (t) => {
  for (const text of [
    '{"auths": hunter2',
    '["hunter2"]',
    '{"auths":{"a":{"auth":"aHVudGVyMg=="}}}',
    '{"auths":{"a":"hunter2"}}',
  ]) {
    await configure(t, text);
    const error = await failure(t, find(t, 'a'));
    t.is(error.code, 'INVALID_CONFIG', text);
    t.true(error.message.includes('config.json'), error.message);
  }
  await configure(t, '');
  t.is(await find(t, 'a'), undefined);
});
