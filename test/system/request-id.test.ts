/** One id from a client of the daemon through the daemon's log to the registry's. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import test from 'ava';
import { DaemonFixture } from '../daemon/daemon-fixture.js';
import { run } from './command.js';
import { packLayer, writeLayout } from './layout-writer.js';
import { RegistryProcess } from './registry-process.js';

const ID = 'from-the-outside-1';

interface LogRecord {
  msg: string;
  request?: string;
  path?: string;
}

function recordsOf(text: string): LogRecord[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as LogRecord)
    .filter((record) => record.request === ID);
}

/** What the daemon answers, line by line, to a request of this id. */
function put(socketPath: string, path: string, order: object): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'x-request-id': ID };
    const asked = request({ socketPath, method: 'PUT', path, headers }, async (response) => {
      let body = '';
      for await (const chunk of response.setEncoding('utf8')) body += chunk as string;
      if (response.headers['x-request-id'] === ID) resolve(body);
      else reject(new Error(`answered as ${response.headers['x-request-id']}`));
    });
    asked.on('error', reject);
    asked.end(JSON.stringify(order));
  });
}

test('a mount and what is asked of the registry for it have one id in both logs', async (t) => {
  const fixture = await DaemonFixture.open(t);
  const registry = await RegistryProcess.start(['--log-level', 'debug', '--log-format', 'json']);
  t.teardown(() => registry.stop());
  const [layout, root] = [join(fixture.directory, 'image'), join(fixture.directory, 'root')];
  await mkdir(join(layout, 'blobs/sha256'), { recursive: true });
  await mkdir(root);
  await writeFile(join(root, 'file'), 'content');
  const layer = await packLayer(root, join(layout, 'blobs/sha256'), 'gzip', 'layer');
  await writeLayout(layout, 'app', {}, [layer]);
  const image = `${registry.host}/app:1`;
  await run('skopeo', ['copy', '--dest-tls-verify=false', `oci:${layout}:app`, `docker://${image}`]);

  await fixture.start({ logLevel: 'debug', logFormat: 'json' });
  const mountpoint = join(fixture.directory, 'mnt');
  await mkdir(mountpoint);
  const answer = await put(fixture.client.socket, '/v1/mounts/one', { image, mountpoint, wait: 60_000 });
  t.regex(answer, /"mount"/);
  t.is(await readFile(join(mountpoint, 'file'), 'utf8'), 'content');

  const ofDaemon = recordsOf(fixture.log).map(({ msg }) => msg);
  t.true(
    ofDaemon.some((message) => message.startsWith('mounted ')),
    fixture.log,
  );
  const ended = await registry.end('SIGTERM');
  const paths = recordsOf(ended?.stderr ?? '').map(({ path }) => path);
  t.true(
    paths.includes('/v2/app/manifests/1') || paths.some((path) => path?.startsWith('/mount/v1/app/')),
    ended?.stderr,
  );
});
