/** From `skopeo copy` to `orca run`: the registry expands, and the container starts without its layers. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { unmountImage } from '../../src/mount/mount.js';
import { readMountTable } from '../../src/mount/mount-table.js';
import { TestRegistry } from '../registry/server-fixture.js';
import { run } from './command.js';
import { CountingProxy } from './counting-proxy.js';
import { freePort } from './free-port.js';
import { type TestImage, testImage } from './images.js';
import { orca } from './orca-command.js';
import { ShareServer } from './share-server.js';

const COMMAND = ['-c', 'import numpy; print("sum", numpy.arange(10).sum())'];

let directory: string;
let image: TestImage;
let registry: TestRegistry;
let shares: ShareServer;
let proxy: CountingProxy;
/** Digests of the blobs of the image's layers. */
let layers: string[];

test.before(async (t) => {
  t.timeout(20 * 60_000);
  directory = await mkdtemp(join(tmpdir(), 'orca-registry-run-'));
  image = await testImage('python');
  const port = await freePort();
  registry = await TestRegistry.start({
    region: 'here',
    expansion: { workers: 2 },
    share: { url: `smb://127.0.0.1:${port}/orca-` },
  });
  shares = await ShareServer.start(registry.data, port);
  proxy = await CountingProxy.start(registry.url);
  const source = `oci:${image.directory}:${image.tag}`;
  const manifest = JSON.parse(await run('skopeo', ['inspect', '--raw', source])) as {
    layers: { digest: string }[];
  };
  layers = manifest.layers.map(({ digest }) => digest);
  await run('skopeo', ['copy', '--dest-tls-verify=false', source, `docker://${registry.host}/python:numpy`]);
});
test.after.always(async () => {
  await proxy?.stop();
  await shares?.stop();
  await registry?.stop();
  for (const { mountPoint } of await readMountTable()) {
    if (mountPoint.startsWith(`${directory}/`)) await unmountImage(mountPoint, { lazy: true });
  }
  await rm(directory, { recursive: true, force: true });
});

function environment(name: string): NodeJS.ProcessEnv {
  const at = join(directory, name);
  return { ORCA_CACHE: join(at, 'cache'), ORCA_RUN_DIR: join(at, 'run'), ORCA_CONFIG: '/dev/null' };
}

/** Runs the command in a container of the image; returns what was said on stderr. */
async function start(
  t: ExecutionContext,
  env: NodeJS.ProcessEnv,
  options: string[] = [],
  host = proxy.host,
): Promise<string> {
  const args = ['run', ...options, `${host}/python:numpy`, ...COMMAND];
  const { code, stdout, stderr } = await orca(args, env);
  t.is(code, 0, stderr);
  t.is(stdout, 'sum 45\n', stderr);
  return stderr;
}

const layerBytes = () => layers.reduce((sum, digest) => sum + proxy.bytes(digest), 0);

test.serial(
  'a container starts from the share while the registry has only just been pushed to',
  async (t) => {
    t.timeout(10 * 60_000);
    await start(t, environment('smb'), ['--region', 'here', '--transports', 'smb']);
    t.is(layerBytes(), 0);
    t.is(proxy.bytes('/teleport/v1/'), 0);
  },
);

test.serial('and from ranges of its web server, by https', async (t) => {
  t.timeout(5 * 60_000);
  const said = await start(t, environment('https'), ['--transports', 'https']);
  t.notRegex(said, /is not served by/, 'what was asked for is no news');
  t.is(layerBytes(), 0);
  t.true(proxy.bytes('/teleport/v1/') > 1_000_000);
});

test.serial('the best is taken, and told', async (t) => {
  t.timeout(5 * 60_000);
  const env = environment('mount');
  const point = await mkdtemp(join(directory, 'mnt-'));
  const name = `${proxy.host}/python:numpy`;
  const args = ['mount', '--region', 'here', name, point];
  const { code, stdout, stderr } = await orca(args, env);
  t.is(code, 0, stderr);
  t.regex(stdout, / served by smb:.* \(smb, because it is the best that the registry offers\)\n$/);
  t.is((await orca(['umount', point], env)).code, 0);

  // Of another region: ranges of the blobs, or nothing at all.
  const away = ['mount', '--region', 'elsewhere'];
  const reason = 'smb, because the share is in here, and it is in elsewhere';
  const there = await orca([...away, name, point], env);
  t.is(there.code, 0, there.stderr);
  t.regex(there.stdout, new RegExp(` served by blobs of .* \\(blob, .*; not by ${reason}; not by https, `));
  t.is((await orca(['umount', point], env)).code, 0);
  const refused = await orca([...away, '--transports', 'smb,https', name, point], env);
  t.is(refused.code, 1);
  t.regex(refused.stderr, /cannot be read from its registry: smb: the share is in here/);
});

test.serial('pull prints the digest, and what was pulled runs with the registry gone', async (t) => {
  t.timeout(5 * 60_000);
  const env = environment('pulled');
  const pulled = await orca(['pull', '--region', 'here', `${proxy.host}/python:numpy`], env);
  t.is(pulled.code, 0, pulled.stderr);
  const digest = await run('skopeo', [
    'inspect',
    '--format',
    '{{.Digest}}',
    `oci:${image.directory}:${image.tag}`,
  ]);
  t.is(pulled.stdout.trim(), digest.trim());
  t.is(layerBytes(), 0);
  const { host } = proxy;
  await start(t, env, ['--region', 'here', '--transports', 'smb']);
  await proxy.stop();
  const said = await start(t, env, ['--transports', 'smb'], host);
  t.regex(said, /is used as it was resolved on 20.*: the registry cannot be reached/);
  await start(t, env, ['--pull', 'never', '--transports', 'smb'], host);
  const refused = await orca(['run', '--pull', 'never', `${host}/python:other`], env);
  t.is(refused.code, 125);
  t.regex(refused.stderr, /python:other is not on this host: run orca pull/);
  t.false((await readFile('/proc/self/mounts', 'utf8')).includes(directory), 'nothing stays mounted');
});
