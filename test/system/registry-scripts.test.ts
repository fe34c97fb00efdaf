/**
 * What the scripts of Project Teleport do, with curl and the usual text tools, over TLS: a token with Basic credentials,
 * taken out of the answer with sed and awk; the digest of a tag by HEAD and grep; the mount API in a loop; PATCH of the
 * attribute. The host name is that of an Azure container registry, and leads here.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { layerOf, pushImage } from '../registry/expansion/images.js';
import { TestRegistry } from '../registry/server-fixture.js';
import { basic, PASSWORD, writeUsers } from '../registry/users-fixture.js';
import { run } from './command.js';

const NAME = 'orcatest';
const HOST = `${NAME}.azurecr.io`;

/** `curl` is configured as a machine on which the name resolves to the registry. */
const TOKEN = `
token() {
  curl -s -u "$ACR_USER:$ACR_PWD" "https://$HOST/oauth2/token?service=$HOST&scope=repository:$1:$2" |
    sed -e 's/[{}]//g' | awk -v RS=',"' -F: '/access_token/ {print $2}' | sed 's/^.//;s/.$//'
}
`;
const EDIT = `${TOKEN}
curl -sS -H 'Content-Type: application/json' -H "Authorization: Bearer $(token "$1" pull,push)" \\
  --request PATCH --data "$2" "https://$HOST/acr/v1/$1"
`;
const CHECK = `${TOKEN}
bearer="Authorization: Bearer $(token "$1" pull)"
digest=$(curl -s -L -I -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' -H "$bearer" \\
  "https://$HOST/v2/$1/manifests/$2" | grep ^Docker-Content-Digest | awk '{print $2}' | head -c 71)
echo "digest $digest"
while true; do
  status=$(curl -s -o /dev/null -w '%{http_code}' -H "$bearer" "https://$HOST/mount/v1/$1/_manifests/$digest")
  test "$status" -eq 409 || break
  sleep 0.1
done
echo "status $status"
`;
/** Older ones ask with Basic credentials, and by tag. */
const CHECK_TAG = `
while true; do
  status=$(curl -s -o /dev/null -w '%{http_code}' -u "$ACR_USER:$ACR_PWD" "https://$HOST/mount/v1/$1/_manifests/$2")
  test "$status" -eq 409 || break
  sleep 0.1
done
echo "status $status"
`;

test('an image is enabled, and its expansion waited for, as the scripts of Project Teleport do', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'orca-scripts-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const [cert, key] = [join(directory, 'cert.pem'), join(directory, 'key.pem')];
  const subject = ['-subj', `/CN=${HOST}`, '-addext', `subjectAltName=DNS:${HOST}`];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'];
  await run('openssl', [
    'req',
    '-x509',
    ...curve,
    '-nodes',
    '-days',
    '1',
    ...subject,
    '-keyout',
    key,
    '-out',
    cert,
  ]);
  const registry = await TestRegistry.start({
    tls: { cert, key },
    users: writeUsers(t, { teleport: 'team/*=pull,push', reader: 'team/*=pull' }),
    expansion: { workers: 1 },
    teleportDefault: false,
  });
  t.teardown(() => registry.stop());
  const port = new URL(registry.url).port;
  writeFileSync(
    join(directory, '.curlrc'),
    `connect-to = "${HOST}:443:127.0.0.1:${port}"\ncacert = "${cert}"\n`,
  );
  const bash = (script: string, args: readonly string[], user = 'teleport') =>
    run('bash', ['-c', script, 'script', ...args], {
      env: { ...process.env, CURL_HOME: directory, HOST, ACR_USER: user, ACR_PWD: PASSWORD },
    });

  registry.headers = basic('teleport');
  const digest = await pushImage(registry, 'team/app', 'v1', [layerOf('one')]);
  t.is(await bash(CHECK, ['team/app', 'v1']), `digest ${digest}\nstatus 404\n`);
  const enabled = JSON.parse(await bash(EDIT, ['/team/app', '{"teleportEnabled": true }']));
  t.is(enabled.changeableAttributes.teleportEnabled, true);
  t.is(enabled.registry, HOST);
  for (const name of ['team/app', '/team/app']) {
    t.is(await bash(CHECK, [name, 'v1'], 'reader'), `digest ${digest}\nstatus 200\n`);
    t.is(await bash(CHECK_TAG, [name, 'v1'], 'reader'), 'status 200\n');
    t.is(await bash(CHECK_TAG, [name, digest], 'reader'), 'status 200\n');
  }
  t.regex(await bash(EDIT, ['team/app', '{"teleportEnabled": false }'], 'reader'), /DENIED/);
  await bash(EDIT, ['team/app', '{"teleportEnabled": false }']);
  t.is(await bash(CHECK_TAG, ['team/app', 'v1']), 'status 404\n');

  // The same by --resolve, which keeps the port in the URL.
  const url = `https://${HOST}:${port}/acr/v1/team/app`;
  const resolve = ['--resolve', `${HOST}:${port}:127.0.0.1`, '--cacert', cert];
  const answer = await run('curl', ['-sS', ...resolve, '-u', `teleport:${PASSWORD}`, url]);
  t.is(JSON.parse(answer).imageName, 'team/app');
});
