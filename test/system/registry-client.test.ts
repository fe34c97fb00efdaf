/** The registry client against registries that others wrote, and against our own; images pushed by skopeo. */
import { createHash } from 'node:crypto';
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { hashSync } from 'bcryptjs';
import { blobPath } from '../../src/image/catalog.js';
import { digestOf } from '../../src/oci/digest.js';
import { dockerCredentials } from '../../src/oci/docker-config.js';
import { openImageInput } from '../../src/oci/image-input.js';
import { encodeManifest, MEDIA_TYPE } from '../../src/oci/manifest.js';
import { OciError } from '../../src/oci/oci-error.js';
import { parseReference } from '../../src/oci/reference.js';
import { RegistryClient, type RegistryClientOptions } from '../../src/oci/registry-client.js';
import { openRegistryInput } from '../../src/oci/registry-input.js';
import { openRegistryImage } from '../../src/source/registry-image.js';
import { CERTIFICATES, FakeRegistry, startProxy } from '../oci/fake-registry.js';
import { layoutOf } from '../oci/layout-of.js';
import { TestRegistry } from '../registry/server-fixture.js';
import { addImage, content } from '../source/store-fixture.js';
import { run } from './command.js';
import { DockerRegistry } from './docker-registry.js';
import { Samba } from './samba.js';

const USER = { username: 'me', password: 'correct horse: battery' };
const CREDS = `${USER.username}:${USER.password}`;
const LAYERS = [content('lower', 3_000_000), content('upper', 200_000)];

let scratch: string;
let layout: string;
let digest: string;

test.before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'orca-registry-client-'));
  layout = await layoutOf(join(scratch, 'layout'), LAYERS);
  digest = (await openImageInput(`oci:${layout}`)).manifestDigest;
});
test.after.always(() => rm(scratch, { recursive: true }));

async function push(host: string, ...options: string[]): Promise<void> {
  const target = `docker://${host}/team/app:1`;
  await run('skopeo', ['copy', '--dest-tls-verify=false', ...options, `oci:${layout}:app:1`, target]);
}

/** Docker's configuration in a directory of its own. */
async function dockerConfig(name: string, config: object): Promise<NodeJS.ProcessEnv> {
  const directory = join(scratch, name);
  await mkdir(directory);
  await writeFile(join(directory, 'config.json'), JSON.stringify(config));
  return { ...process.env, DOCKER_CONFIG: directory };
}

async function pull(
  options: RegistryClientOptions,
  host: string,
): Promise<{ manifestDigest: string; layers: string[] }> {
  const client = new RegistryClient(options);
  try {
    const input = await openRegistryInput(client, parseReference(`${host}/team/app:1`));
    const layers: string[] = [];
    for (const layer of input.layers) {
      const hash = createHash('sha256');
      for await (const chunk of layer.open()) hash.update(chunk);
      layers.push(`sha256:${hash.digest('hex')}`);
    }
    return { manifestDigest: input.manifestDigest, layers };
  } finally {
    await client.close();
  }
}

async function expected(): Promise<{ manifestDigest: string; layers: string[] }> {
  const input = await openImageInput(`oci:${layout}`);
  return { manifestDigest: digest, layers: input.layers.map((layer) => layer.digest) };
}

test.serial(
  'docker-registry with Basic: credentials of the configuration, of a helper, wrong ones, none',
  async (t) => {
    const registry = await DockerRegistry.start({ user: USER });
    try {
      await push(registry.host, '--dest-creds', CREDS);
      const auth = (text: string) => ({
        auths: { [registry.host]: { auth: Buffer.from(text).toString('base64') } },
      });
      const config = await dockerConfig('basic', auth(CREDS));
      t.deepEqual(await pull({ env: config }, registry.host), await expected());

      const helper = await dockerConfig('helper', { credHelpers: { [registry.host]: 'test' } });
      const program = join(scratch, 'helper', 'docker-credential-test');
      await writeFile(
        program,
        `#!/bin/sh\necho '${JSON.stringify({ Username: USER.username, Secret: USER.password })}'\n`,
      );
      await chmod(program, 0o755);
      const env = { ...helper, PATH: `${join(scratch, 'helper')}:${process.env['PATH']}` };
      t.deepEqual(await pull({ env }, registry.host), await expected());

      const none = await dockerConfig('none', {});
      const missing = await t.throwsAsync(pull({ env: none }, registry.host), { instanceOf: OciError });
      t.is(missing?.code, 'UNAUTHORIZED');
      const wrong = await dockerConfig('wrong', auth('me:other'));
      const refused = await t.throwsAsync(pull({ env: wrong }, registry.host), { instanceOf: OciError });
      t.is(refused?.code, 'UNAUTHORIZED');
    } finally {
      await registry.stop();
    }
  },
);

test.serial('docker-registry: ranges, what is missing, and referrers by the tag schema', async (t) => {
  const registry = await DockerRegistry.start();
  const client = new RegistryClient({ env: await dockerConfig('open', {}) });
  try {
    await push(registry.host);
    const app = client.repository({ domain: registry.host, path: 'team/app' });
    t.is((await app.resolve('1')).digest, digest);
    const input = await openRegistryInput(client, parseReference(`${registry.host}/team/app@${digest}`));
    const [layer] = input.layers;
    const blob = app.blob(layer!);
    const chunks: Uint8Array[] = [];
    for await (const chunk of layer!.open()) chunks.push(chunk);
    const whole = Buffer.concat(chunks);
    for (const [offset, length] of [
      [0, 1],
      [1000, 70_000],
      [whole.length - 5, 5],
    ] as const) {
      t.true(whole.subarray(offset, offset + length).equals(await blob.read(offset, length)));
    }
    const unknown = await t.throwsAsync(app.resolve('other'), { instanceOf: OciError });
    t.is(unknown?.code, 'MANIFEST_UNKNOWN');
    const nobody = client.repository({ domain: registry.host, path: 'no/body' });
    await t.throwsAsync(nobody.manifest('1'), {
      instanceOf: OciError,
      message: /NAME_UNKNOWN|MANIFEST_UNKNOWN/,
    });
    t.deepEqual(await app.referrers(digest), []);
    const opened = await openRegistryImage({
      client,
      reference: parseReference(`${registry.host}/team/app:1`),
      cacheDir: join(scratch, 'cache-plain'),
    });
    t.is(opened.state, 'not-enabled');
    t.is(opened.manifestDigest, digest);
  } finally {
    await client.close();
    await registry.stop();
  }
});

test.serial(
  'docker-registry with TLS by name: the CA of certs.d, of an option, none; as a mirror',
  async (t) => {
    const tls = { certificate: join(CERTIFICATES, 'server.crt'), key: join(CERTIFICATES, 'server.key') };
    const registry = await DockerRegistry.start({ tls });
    const proxy = await startProxy(registry.port);
    try {
      await push(registry.host);
      const certsDirectory = join(scratch, 'certs.d');
      await mkdir(join(certsDirectory, 'registry.test'), { recursive: true });
      const ca = join(CERTIFICATES, 'ca.crt');
      await copyFile(ca, join(certsDirectory, 'registry.test/ca.crt'));
      const env = { ...(await dockerConfig('tls', {})), https_proxy: proxy.url, no_proxy: '' };
      t.deepEqual(await pull({ env, certsDirectory }, 'registry.test'), await expected());
      t.deepEqual(
        await pull({ env, caFile: ca, certsDirectory: '/none' }, 'registry.test'),
        await expected(),
      );
      t.deepEqual(
        await pull({ env, insecure: ['registry.test'], certsDirectory: '/none' }, 'registry.test'),
        await expected(),
      );
      const untrusted = pull({ env, certsDirectory: '/none' }, 'registry.test');
      t.is((await t.throwsAsync(untrusted, { instanceOf: OciError }))?.code, 'CERTIFICATE');
      const mirrors = { 'nowhere.test': [`https://${registry.host}`] };
      t.deepEqual(await pull({ env, mirrors, certsDirectory: '/none' }, 'nowhere.test'), await expected());
    } finally {
      await proxy.stop();
      await registry.stop();
    }
  },
);

test.serial('our registry with tokens: pulls, ranges and the referrers API', async (t) => {
  const users = join(scratch, 'users');
  await writeFile(users, `me:${hashSync(USER.password, 4)}:*=*\n`);
  const registry = await TestRegistry.start({ users });
  const auth = Buffer.from(CREDS).toString('base64');
  const env = await dockerConfig('tokens', { auths: { [registry.host]: { auth } } });
  const client = new RegistryClient({ credentials: dockerCredentials({ env }) });
  try {
    await push(registry.host, '--dest-creds', CREDS);
    t.deepEqual(await pull({ env }, registry.host), await expected());
    const app = client.repository({ domain: registry.host, path: 'team/app' });
    const [layer] = (await openRegistryInput(client, parseReference(`${registry.host}/team/app:1`))).layers;
    t.is((await app.blob(layer!).read(1000, 5000)).length, 5000);

    const { descriptor } = await app.manifest('1');
    const empty = { mediaType: MEDIA_TYPE.empty, digest: digestOf(Buffer.from('{}')), size: 2 };
    const artifact = encodeManifest({
      mediaType: MEDIA_TYPE.manifest,
      artifactType: 'test/artifact',
      config: empty,
      layers: [],
      subject: descriptor,
    });
    const url = `http://${registry.host}`;
    const upload = await run('curl', [
      ...[
        '-sS',
        '--fail',
        '-u',
        CREDS,
        '-X',
        'POST',
        '-H',
        'Content-Type: application/octet-stream',
        '--data',
        '{}',
      ],
      `${url}/v2/team/app/blobs/uploads/?digest=${empty.digest}`,
    ]);
    t.is(upload, '');
    await run(
      'curl',
      [
        ...[
          '-sS',
          '--fail',
          '-u',
          CREDS,
          '-X',
          'PUT',
          '-H',
          `Content-Type: ${MEDIA_TYPE.manifest}`,
          '--data-binary',
          '@-',
        ],
        `${url}/v2/team/app/manifests/${digestOf(artifact)}`,
      ],
      { input: Buffer.from(artifact).toString() },
    );
    const referrers = await app.referrers(digest, 'test/artifact');
    t.deepEqual(
      referrers.map((entry) => entry.digest),
      [digestOf(artifact)],
    );
    t.deepEqual(await app.referrers(digest, 'test/other'), []);
  } finally {
    await client.close();
    await registry.stop();
  }
});

test.serial('a mount description leads to a share, with its own account', async (t) => {
  const shared = join(scratch, 'share');
  const image = await addImage(join(shared, 'app'), 'app:1', [{ 'bin/one': content('one', 300_000) }]);
  const samba = await Samba.start({ shares: { images: { path: shared } } });
  const registry = await FakeRegistry.start();
  const client = new RegistryClient({ credentials: async () => undefined });
  try {
    const blob = (one: string) => readFile(join(shared, 'app', blobPath(one)));
    for (const one of [image.manifestDigest, image.artifact.digest]) {
      registry.addManifest(
        MEDIA_TYPE.manifest,
        await blob(one),
        one === image.manifestDigest ? '1' : undefined,
      );
    }
    const { bytes } = registry.manifests.get('1')!;
    const { config } = JSON.parse(bytes.toString()) as { config: { digest: string } };
    for (const one of [
      config.digest,
      image.imageIndex.digest,
      ...image.digests.map((entry) => entry.digest),
    ]) {
      registry.blobs.set(one, await blob(one));
    }
    registry.fault = (request, response) => {
      if (!request.url?.startsWith('/mount/')) return false;
      const { username, password } = samba;
      const transports = [{ kind: 'smb', url: samba.url('images', 'app'), username, password }];
      const manifest = { mediaType: MEDIA_TYPE.manifest, digest: image.manifestDigest, size: bytes.length };
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ manifest, artifact: image.artifact, transports, layers: [] }));
      return true;
    };
    const reference = parseReference(`${registry.host}/app:1`);
    const opened = await openRegistryImage({ client, reference, cacheDir: join(scratch, 'cache-smb') });
    if (opened.state !== 'ready') throw new Error(opened.state);
    t.is(opened.sources.length, 1);
    const [source] = opened.sources;
    const layer = await source!.openLayer(image.layers[0]!.digests.diffID);
    t.deepEqual(Buffer.from(await layer.read(4096, 100_000)), image.layers[0]!.bytes.subarray(4096, 104_096));
    await source!.close();
  } finally {
    await client.close();
    await registry.stop();
    await samba.stop();
  }
});
