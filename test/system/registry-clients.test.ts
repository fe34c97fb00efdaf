/** Real clients against `orca registry`, and its TLS. Needs root. */
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { hashSync } from 'bcryptjs';
import { declareClientTests, PASSWORD } from './client-matrix.js';
import { run } from './command.js';
import { testImage } from './images.js';
import { RegistryProcess } from './registry-process.js';

const START_MS = 20_000;

declareClientTests(test, {
  hasScopes: true,
  start: async (scratch) => {
    const users = join(scratch, 'users');
    const hash = hashSync(PASSWORD, 4);
    await writeFile(users, `pusher:${hash}:*=*\nreader:${hash}:images/*=pull\n`);
    return RegistryProcess.start(['--users', users]);
  },
});

test.serial('a registry speaks TLS, and takes a new certificate when it is told to', async (t) => {
  const scratch = await mkdtemp(join(tmpdir(), 'orca-registry-tls-'));
  const certificate = async () => {
    const request = [
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:prime256v1',
      '-nodes',
      '-days',
      '2',
    ];
    const files = ['-keyout', join(scratch, 'key.pem'), '-out', join(scratch, 'cert.pem')];
    await run('openssl', [
      ...request,
      ...files,
      '-subj',
      '/CN=orca',
      '-addext',
      'subjectAltName=IP:127.0.0.1',
    ]);
  };
  await certificate();
  const tls = ['--tls-cert', join(scratch, 'cert.pem'), '--tls-key', join(scratch, 'key.pem')];
  const secure = await RegistryProcess.start(tls);
  const get = () =>
    run('curl', [
      '--silent',
      '--show-error',
      '--cacert',
      join(scratch, 'cert.pem'),
      `https://${secure.host}/v2/`,
    ]);
  try {
    t.true(secure.url.startsWith('https://'));
    t.is(await get(), '{}');
    await mkdir(join(scratch, 'certs'));
    await writeFile(join(scratch, 'certs', 'ca.crt'), await readFile(join(scratch, 'cert.pem')));
    const image = await testImage('nginx');
    await run('skopeo', [
      'copy',
      '--dest-cert-dir',
      join(scratch, 'certs'),
      `oci:${image.directory}:${image.tag}`,
      `docker://${secure.host}/tls/nginx:1`,
    ]);
    await certificate();
    await t.throwsAsync(get(), { message: /certificate/ });
    secure.signal('SIGHUP');
    const deadline = Date.now() + START_MS;
    while ((await get().catch(() => '')) !== '{}' && Date.now() < deadline) await sleep(20);
    t.is(await get(), '{}');
  } finally {
    await secure.stop();
    await rm(scratch, { recursive: true });
  }
  t.false(existsSync(secure.directory));
});
