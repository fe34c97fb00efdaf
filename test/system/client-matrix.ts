/**
 * Real clients against a registry: skopeo, umoci, buildah, containerd's ctr and curl. The tests are declared by the
 * test files of the registries that they are to run against. Needs root.
 */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestFn } from 'ava';
import { run } from './command.js';
import { ContainerdProcess } from './containerd-process.js';
import { testImage } from './images.js';

export const PASSWORD = 'correct horse';
const CREDENTIALS = `pusher:${PASSWORD}`;

export interface RegistryUnderTest {
  /** `127.0.0.1:PORT`, plain http. The users are pusher and reader, both with PASSWORD. */
  host: string;
  stop(): Promise<unknown>;
}

export interface ClientTestOptions {
  /** `scratch` is a directory for its files. */
  start(scratch: string): Promise<RegistryUnderTest>;
  /** The registry has a token service, and reader may only pull, and only from `images/`. */
  hasScopes: boolean;
}

export function declareClientTests(test: TestFn, { start, hasScopes }: ClientTestOptions): void {
  let scratch: string;
  let registry: RegistryUnderTest;

  test.before(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'orca-clients-'));
    registry = await start(scratch);
  });
  test.after.always(async () => {
    await registry?.stop();
    await rm(scratch, { recursive: true, force: true });
  });

  function skopeo(...args: string[]): Promise<string> {
    return run('skopeo', args);
  }

  /** Manifest digest and blobs of an OCI layout with one image. */
  async function contentOf(layout: string): Promise<{ digest: string; blobs: string[] }> {
    const index = JSON.parse(await readFile(join(layout, 'index.json'), 'utf8')) as {
      manifests: { digest: string }[];
    };
    return {
      digest: index.manifests[0]?.digest ?? '',
      blobs: (await readdir(join(layout, 'blobs/sha256'))).sort(),
    };
  }

  async function pushWithSkopeo(
    name: 'nginx' | 'node',
  ): Promise<{ reference: string; directory: string; digest: string }> {
    const image = await testImage(name);
    const reference = `${registry.host}/images/${name}:1`;
    const options = ['--dest-tls-verify=false', '--dest-creds', CREDENTIALS, '--preserve-digests'];
    await skopeo('copy', ...options, `oci:${image.directory}:${image.tag}`, `docker://${reference}`);
    return { reference, directory: image.directory, digest: (await contentOf(image.directory)).digest };
  }

  for (const name of ['nginx', 'node'] as const) {
    test.serial(`skopeo pushes ${name} and pulls the same`, async (t) => {
      const { reference, directory, digest } = await pushWithSkopeo(name);
      const copy = join(scratch, `copy-${name}`);
      const options = ['--src-tls-verify=false', '--src-creds', 'reader:correct horse', '--preserve-digests'];
      await skopeo('copy', ...options, `docker://${reference}`, `oci:${copy}:copy`);
      t.deepEqual(await contentOf(copy), await contentOf(directory));
      for (const blob of (await contentOf(copy)).blobs) {
        const content = await readFile(join(copy, 'blobs/sha256', blob));
        t.is(createHash('sha256').update(content).digest('hex'), blob);
      }
      const tags = await skopeo(
        'list-tags',
        '--tls-verify=false',
        '--creds',
        CREDENTIALS,
        `docker://${reference.replace(/:1$/, '')}`,
      );
      t.deepEqual((JSON.parse(tags) as { Tags: string[] }).Tags, ['1']);
      const inspected = await skopeo(
        'inspect',
        '--tls-verify=false',
        '--creds',
        CREDENTIALS,
        `docker://${reference}`,
      );
      t.is((JSON.parse(inspected) as { Digest: string }).Digest, digest);
    });
  }

  test.serial('skopeo copies between repositories, converts to Docker types, and deletes', async (t) => {
    const both = [
      '--src-tls-verify=false',
      '--dest-tls-verify=false',
      '--src-creds',
      CREDENTIALS,
      '--dest-creds',
      CREDENTIALS,
    ];
    const source = `docker://${registry.host}/images/nginx:1`;
    await skopeo('copy', ...both, '--format', 'v2s2', source, `docker://${registry.host}/copies/nginx:v2s2`);
    const remote = [
      '--tls-verify=false',
      '--creds',
      CREDENTIALS,
      `docker://${registry.host}/copies/nginx:v2s2`,
    ];
    const raw = JSON.parse(await skopeo('inspect', '--raw', ...remote)) as { mediaType: string };
    t.is(raw.mediaType, 'application/vnd.docker.distribution.manifest.v2+json');
    await skopeo('delete', ...remote);
    await t.throwsAsync(skopeo('inspect', ...remote), { message: /manifest unknown/ });
  });

  test.serial('skopeo is refused what its user may not', async (t) => {
    const image = await testImage('nginx');
    const push = (...options: string[]) =>
      skopeo(
        'copy',
        '--dest-tls-verify=false',
        ...options,
        `oci:${image.directory}:${image.tag}`,
        `docker://${registry.host}/images/refused:1`,
      );
    await t.throwsAsync(push(), { message: /unauthorized|authentication required/ });
    await t.throwsAsync(push('--dest-creds', 'pusher:wrong'), { message: /unauthorized|wrong user name/ });
    if (!hasScopes) return;
    await t.throwsAsync(push('--dest-creds', 'reader:correct horse'), { message: /denied|may not push/ });
  });

  test.serial('an image of umoci goes through the registry', async (t) => {
    const layout = join(scratch, 'umoci');
    await mkdir(join(scratch, 'files'));
    await writeFile(join(scratch, 'files', 'hello'), 'from umoci\n');
    await run('umoci', ['init', '--layout', layout]);
    await run('umoci', ['new', '--image', `${layout}:made`]);
    await run('umoci', ['insert', '--image', `${layout}:made`, join(scratch, 'files'), '/data']);
    const reference = `docker://${registry.host}/umoci/made:1`;
    const copy = join(scratch, 'umoci-copy');
    await skopeo(
      'copy',
      '--dest-tls-verify=false',
      '--dest-creds',
      CREDENTIALS,
      `oci:${layout}:made`,
      reference,
    );
    await skopeo('copy', '--src-tls-verify=false', '--src-creds', CREDENTIALS, reference, `oci:${copy}:made`);
    await run('umoci', ['unpack', '--image', `${copy}:made`, join(scratch, 'umoci-bundle')]);
    t.is(await readFile(join(scratch, 'umoci-bundle/rootfs/data/hello'), 'utf8'), 'from umoci\n');
  });

  test.serial('buildah builds, pushes and pulls', async (t) => {
    const buildah = (...args: string[]) =>
      run(
        'buildah',
        [
          '--root',
          join(scratch, 'buildah'),
          '--runroot',
          join(scratch, 'buildah-run'),
          '--storage-driver',
          'vfs',
          ...args,
        ],
        {
          env: {
            ...process.env,
            REGISTRY_AUTH_FILE: join(scratch, 'auth.json'),
            BUILDAH_ISOLATION: 'chroot',
          },
        },
      );
    const reference = `${registry.host}/built/image:1`;
    await buildah(
      'login',
      '--tls-verify=false',
      '--username',
      'pusher',
      '--password',
      'correct horse',
      registry.host,
    );
    const container = (await buildah('from', 'scratch')).trim();
    await writeFile(join(scratch, 'content'), 'from buildah\n');
    await buildah('copy', container, join(scratch, 'content'), '/content');
    await buildah('config', '--label', 'made=here', container);
    await buildah('commit', container, 'image');
    await buildah('push', '--tls-verify=false', 'image', `docker://${reference}`);
    await buildah('rm', '--all');
    await buildah('rmi', '--all');
    await buildah('pull', '--tls-verify=false', `docker://${reference}`);
    const copy = (await buildah('from', '--tls-verify=false', '--pull-never', reference)).trim();
    const mounted = (await buildah('mount', copy)).trim();
    t.is(await readFile(join(mounted, 'content'), 'utf8'), 'from buildah\n');
    await buildah('umount', '--all');
    await buildah('rm', '--all');
  });

  test.serial('containerd pulls and pushes', async (t) => {
    const { reference, digest } = await pushWithSkopeo('nginx');
    const containerd = new ContainerdProcess(await mkdtemp(join(scratch, 'containerd-')));
    const ctr = (...args: string[]) => containerd.ctr(...args);
    try {
      await containerd.start();
      await ctr(
        'images',
        'pull',
        '--plain-http',
        '--user',
        CREDENTIALS,
        '--snapshotter',
        'native',
        reference,
      );
      const listed = await ctr('images', 'list');
      t.true(listed.includes(digest), listed);
      const pushed = `${registry.host}/images/by-containerd:2`;
      await ctr('images', 'push', '--plain-http', '--user', CREDENTIALS, pushed, reference);
      const inspected = await skopeo(
        'inspect',
        '--tls-verify=false',
        '--creds',
        CREDENTIALS,
        `docker://${pushed}`,
      );
      t.is((JSON.parse(inspected) as { Digest: string }).Digest, digest);
      await t.throwsAsync(
        ctr('images', 'pull', '--plain-http', '--user', 'reader:wrong', reference.replace(':1', ':2')),
      );
    } finally {
      await containerd.stop();
    }
  });

  test.serial('curl uploads in chunks and reads a range', async (t) => {
    const curl = (...args: string[]) =>
      run('curl', ['--silent', '--show-error', '--fail-with-body', ...args]);
    const url = `http://${registry.host}`;
    const authorization = hasScopes
      ? ['--header', `Authorization: Bearer ${await curlToken(curl, url, registry.host)}`]
      : ['--user', CREDENTIALS];
    const content = 'x'.repeat(100_000);
    const file = join(scratch, 'chunk');
    const started = await curl(
      ...authorization,
      '--request',
      'POST',
      '--dump-header',
      '-',
      `${url}/v2/by/curl/blobs/uploads/`,
    );
    let location = locationIn(started);
    for (const [start, end] of [
      [0, 60_000],
      [60_000, 100_000],
    ] as const) {
      await writeFile(file, content.slice(start, end));
      const range = [
        '--header',
        `Content-Range: ${start}-${end - 1}`,
        '--header',
        'Content-Type: application/octet-stream',
      ];
      const answer = await curl(
        ...authorization,
        '--request',
        'PATCH',
        '--dump-header',
        '-',
        ...range,
        '--data-binary',
        `@${file}`,
        `${url}${location}`,
      );
      // Some registries keep what they know of the upload in it.
      location = locationIn(answer);
    }
    const digest = `sha256:${createHash('sha256').update(content).digest('hex')}`;
    await curl(
      ...authorization,
      '--request',
      'PUT',
      `${url}${location}${separator(location)}digest=${digest}`,
    );
    t.is(
      await curl(...authorization, '--range', '10-19', `${url}/v2/by/curl/blobs/${digest}`),
      'x'.repeat(10),
    );
    await t.throwsAsync(curl(`${url}/v2/by/curl/blobs/${digest}`), { message: /UNAUTHORIZED/ });
  });
}

async function curlToken(
  curl: (...args: string[]) => Promise<string>,
  url: string,
  service: string,
): Promise<string> {
  const scope = 'repository:by/curl:pull,push';
  const answer = await curl('--user', CREDENTIALS, `${url}/oauth2/token?service=${service}&scope=${scope}`);
  return (JSON.parse(answer) as { access_token: string }).access_token;
}

/** The Location among dumped headers. */
function locationIn(headers: string): string {
  return /^location: (\S+)/im.exec(headers)?.[1] ?? '';
}

function separator(url: string): string {
  return url.includes('?') ? '&' : '?';
}
