import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { digestOf } from '../../src/oci/digest.js';
import { MEDIA_TYPE } from '../../src/oci/manifest.js';
import { addArtifact, enable, startGateway } from './gateway/gateway-fixture.js';
import { errorCodes, json, type TestRegistry } from './server-fixture.js';

const SECRET = 'a-secret-of-the-registry';
const digest = digestOf(Buffer.from('x'));
const push = { action: 'push', target: { mediaType: MEDIA_TYPE.manifest, repository: 'team/app', digest } };

let directory: string;
let gateway: TestRegistry;
let told: string[];
test.beforeEach(async () => {
  told = [];
  directory = mkdtempSync(join(tmpdir(), 'orca-notifications-'));
  writeFileSync(join(directory, 'token'), `${SECRET}\n`);
  gateway = await startGateway('http://127.0.0.1:1', {
    notificationsToken: join(directory, 'token'),
    teleportDefault: false,
    onManifest: (repository, manifest) => void told.push(`${repository}@${manifest}`),
  });
  await enable(gateway, 'team/app');
});
test.afterEach.always(async () => {
  await gateway.stop();
  rmSync(directory, { recursive: true });
});

function notify(body: unknown, authorization: string | undefined = `Bearer ${SECRET}`) {
  return gateway.send('POST', '/notifications', {
    body: typeof body === 'string' ? body : JSON.stringify(body),
    headers: {
      'content-type': 'application/vnd.docker.distribution.events.v1+json',
      ...(authorization === '' ? {} : { authorization }),
    },
  });
}

test.serial('a pushed manifest of an enabled repository is queued, and nothing else', async (t) => {
  const target = push.target;
  const events = [
    push,
    { ...push, target: { ...target, mediaType: MEDIA_TYPE.dockerManifestList, repository: 'disabled' } },
    { ...push, action: 'pull' },
    { ...push, target: { ...target, mediaType: 'application/octet-stream' } },
    { ...push, target: { ...target, digest: 'sha256:short' } },
    { ...push, target: { ...target, repository: '../up' } },
    { ...push, target: undefined },
    { action: 'push' },
    null,
    'text',
    [],
  ];
  const answer = await notify({ events });
  t.is(answer.status, 202);
  t.deepEqual(json(answer), { events: events.length, taken: 2 });
  t.deepEqual(told, [`team/app@${digest}`]);
});

test.serial('what is kept of a deleted image goes', async (t) => {
  const image = { digest, bytes: Buffer.from('x') };
  const artifact = await addArtifact(gateway, 'team/app', image);
  const answer = await notify({ events: [{ action: 'delete', target: { repository: 'team/app', digest } }] });
  t.is(answer.status, 202);
  const { storage } = gateway.registry.context;
  t.is(await storage.repository('team/app').manifest(artifact.digest), undefined);
});

test.serial('a tag that is deleted is taken, and a deletion of nothing is not', async (t) => {
  const targets = [
    { repository: 'team/app', tag: 'v1' },
    { repository: 'team/app', tag: '-' },
    { repository: 'team/app' },
  ];
  const answer = await notify({ events: targets.map((target) => ({ action: 'delete', target })) });
  t.is(answer.status, 202);
  t.deepEqual(json(answer), { events: 3, taken: 1 });
});

test.serial('only who has the secret is listened to, and it can be changed', async (t) => {
  for (const authorization of ['', 'Bearer wrong', `Basic ${SECRET}`, `Bearer ${SECRET}x`, 'Bearer ']) {
    const answer = await notify({ events: [push] }, authorization);
    t.is(answer.status, 401, authorization);
    t.is(answer.headers['www-authenticate'], 'Bearer realm="notifications"');
  }
  writeFileSync(join(directory, 'token'), 'another-secret-of-it');
  t.is((await notify({ events: [push] })).status, 401);
  t.is((await notify({ events: [push] }, 'Bearer another-secret-of-it')).status, 202);
  const closed = await startGateway('http://127.0.0.1:1');
  const refused = await closed.send('POST', '/notifications', { body: JSON.stringify({ events: [push] }) });
  t.is(refused.status, 403);
  await closed.stop();
  t.is(told.length, 1);
});

test.serial('what is no notification is refused in the words of the specification', async (t) => {
  for (const body of [
    '',
    '{',
    'null',
    '[]',
    '{"events":{}}',
    JSON.stringify({ events: Array(1001).fill(push) }),
  ]) {
    const answer = await notify(body);
    t.is(answer.status, 400, body.slice(0, 20));
    t.deepEqual(errorCodes(answer), ['UNSUPPORTED']);
  }
  t.is((await notify(`{"events":[${' '.repeat(1 << 20)}]}`)).status, 413);
  t.deepEqual(told, []);
});

test.serial('a secret that can be guessed, or is none, keeps the gateway from starting', async (t) => {
  for (const secret of [
    '',
    'short',
    'with spaces in the middle of it',
    'two-lines-of-a-file\nand-another-one',
  ]) {
    const file = join(directory, 'bad');
    writeFileSync(file, secret);
    const error = await t.throwsAsync(startGateway('http://127.0.0.1:1', { notificationsToken: file }));
    t.regex(error?.message ?? '', /notifications token/);
    if (secret !== '') t.false(error?.message.includes(secret));
  }
  await t.throwsAsync(startGateway('http://127.0.0.1:1', { notificationsToken: join(directory, 'none') }));
});
