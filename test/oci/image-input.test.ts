import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import anyTest, { type TestFn } from 'ava';
import { digestOf } from '../../src/oci/digest.js';
import { type ImageInput, openImageInput } from '../../src/oci/image-input.js';
import { layoutBlobPath, WritableLayout } from '../../src/oci/layout.js';
import { type Descriptor, encodeIndex, encodeManifest, MEDIA_TYPE } from '../../src/oci/manifest.js';
import { type TarMember, tarOf } from './tar-file.js';

const test = anyTest as TestFn<{ dir: string }>;
test.beforeEach(async (t) => {
  t.context.dir = await mkdtemp(join(tmpdir(), 'orca-input-'));
});
test.afterEach.always((t) => rm(t.context.dir, { recursive: true }));

const layerTars = ['one', 'two'].map((name) => tarOf([{ name, content: name.repeat(1000) }]));

function configOf(tars: readonly Uint8Array[], architecture = 'amd64'): Buffer {
  const rootfs = { type: 'layers', diff_ids: tars.map((tar) => digestOf(tar)) };
  return Buffer.from(JSON.stringify({ os: 'linux', architecture, config: { Cmd: ['/one'] }, rootfs }));
}

/** A layout whose images have the two layers, gzipped; `edit` changes the entry of index.json. */
async function layoutOf(
  dir: string,
  ...entries: ((image: Descriptor) => Descriptor)[]
): Promise<WritableLayout> {
  const layout = await WritableLayout.create(dir);
  const manifests: Descriptor[] = [];
  for (const [i, edit] of entries.entries())
    manifests.push(edit(await addImage(layout, i === 0 ? 'amd64' : `cpu${i}`)));
  await layout.writeIndex({ mediaType: MEDIA_TYPE.index, manifests });
  return layout;
}

async function addImage(layout: WritableLayout, architecture: string): Promise<Descriptor> {
  const config = await layout.writeBlob(MEDIA_TYPE.config, configOf(layerTars, architecture));
  const layers: Descriptor[] = [];
  for (const tar of layerTars) layers.push(await layout.writeBlob(MEDIA_TYPE.layerGzip, gzipSync(tar)));
  return layout.writeBlob(
    MEDIA_TYPE.manifest,
    encodeManifest({ mediaType: MEDIA_TYPE.manifest, config, layers }),
  );
}

const named = (name: string) => (image: Descriptor) => ({
  ...image,
  annotations: { 'org.opencontainers.image.ref.name': name },
});
const forPlatform = (architecture: string) => (image: Descriptor) => ({
  ...image,
  platform: { os: 'linux', architecture },
});

async function openAndClose(spec: string, platform?: string): Promise<ImageInput> {
  const input = await openImageInput(spec, platform);
  await input.close();
  return input;
}

async function contents(input: ImageInput): Promise<Buffer[]> {
  try {
    const blobs: Buffer[] = [];
    for (const layer of input.layers) {
      const chunks: Uint8Array[] = [];
      for await (const chunk of layer.open()) chunks.push(chunk);
      blobs.push(Buffer.concat(chunks));
    }
    return blobs;
  } finally {
    await input.close();
  }
}

test('an image of a layout directory is opened, with and without its tag', async (t) => {
  const { dir } = t.context;
  const layout = await layoutOf(dir, named('v1'));
  const [entry] = (await layout.readIndex()).manifests;
  for (const spec of [`oci:${dir}`, `oci:${dir}:v1`, `oci:${dir}:${entry?.digest}`]) {
    const input = await openImageInput(spec);
    t.is(input.name, 'v1');
    t.is(input.manifestDigest, entry?.digest ?? '');
    t.is(digestOf(input.manifestBytes), input.manifestDigest);
    t.deepEqual(input.config.process.cmd, ['/one']);
    t.deepEqual(
      input.layers.map(({ diffID }) => diffID),
      layerTars.map((tar) => digestOf(tar)),
    );
    t.deepEqual(
      await contents(input),
      layerTars.map((tar) => gzipSync(tar)),
    );
  }
});

test('a path may have colons', async (t) => {
  const dir = join(t.context.dir, 'a:b');
  await layoutOf(dir, named('v1'));
  t.is((await openAndClose(`oci:${dir}`)).name, 'v1');
  t.is((await openAndClose(`oci:${dir}:v1`)).name, 'v1');
});

test('what the user mistyped is named in one line', async (t) => {
  const { dir } = t.context;
  await layoutOf(join(dir, 'layout'), named('v1'), named('v2'));
  await layoutOf(join(dir, 'empty'));
  await writeFile(join(dir, 'file'), 'not a tar at all, but long enough to be one'.repeat(100));
  await mkdir(join(dir, 'bare'));
  const bad: [spec: string, code: string, message: RegExp][] = [
    [`${dir}/layout`, 'UNSUPPORTED', /write oci:DIR/],
    [`ocis:${dir}/layout`, 'UNSUPPORTED', /write oci:DIR/],
    [`oci:${dir}/nothing:v1`, 'NOT_FOUND', /nothing": no such file/],
    ['oci:', 'NOT_FOUND', /no such file/],
    [`oci:${dir}/file`, 'UNSUPPORTED', /is not a directory; for a file write/],
    [`oci-archive:${dir}/layout`, 'UNSUPPORTED', /is not a file; for a directory write/],
    [`oci-archive:${dir}/file`, 'INVALID_ARCHIVE', /file: /],
    [`docker-archive:${dir}/file`, 'INVALID_ARCHIVE', /file: /],
    [`oci:${dir}/bare`, 'INVALID_LAYOUT', /no oci-layout/],
    [`oci:${dir}/empty`, 'NOT_FOUND', /no images/],
    [`oci:${dir}/layout`, 'AMBIGUOUS', /several images; .*: v1, v2$/],
    [`oci:${dir}/layout:v3`, 'NOT_FOUND', /no image "v3"; it has v1, v2/],
  ];
  for (const [spec, code, message] of bad) await t.throwsAsync(openImageInput(spec), { code, message }, spec);
});

test('a name in a layout may be a whole reference, spelled in any way', async (t) => {
  const { dir } = t.context;
  await layoutOf(dir, named('docker.io/library/python:3'), named('other:1'));
  t.is((await openAndClose(`oci:${dir}:python:3`)).name, 'docker.io/library/python:3');
});

test('the name that docker save and ctr export give comes before the bare tag', async (t) => {
  const { dir } = t.context;
  await layoutOf(dir, (image) => ({
    ...image,
    annotations: {
      'org.opencontainers.image.ref.name': '3',
      'io.containerd.image.name': 'docker.io/library/python:3',
    },
  }));
  t.is((await openAndClose(`oci:${dir}:3`)).name, 'docker.io/library/python:3');
});

test('one image for several platforms is chosen by platform, also through a nested index', async (t) => {
  const { dir } = t.context;
  const layout = await layoutOf(dir, forPlatform('amd64'), forPlatform('cpu1'));
  t.is((await openAndClose(`oci:${dir}`)).config.platform.architecture, 'amd64');
  t.is((await openAndClose(`oci:${dir}`, 'linux/cpu1')).config.platform.architecture, 'cpu1');
  await t.throwsAsync(openImageInput(`oci:${dir}`, 'linux/arm64'), {
    code: 'NOT_FOUND',
    message: /linux\/amd64, linux\/cpu1/,
  });

  const inner = await layout.writeBlob(MEDIA_TYPE.index, encodeIndex(await layout.readIndex()));
  await layout.writeIndex({ mediaType: MEDIA_TYPE.index, manifests: [named('nested')(inner)] });
  const input = await openImageInput(`oci:${dir}:nested`, 'linux/cpu1');
  t.is(input.config.platform.architecture, 'cpu1');
  t.is(input.name, 'nested');
});

test('an image that stands alone is taken whatever its platform, unless one is asked for', async (t) => {
  const { dir } = t.context;
  const layout = await WritableLayout.create(dir);
  const image = await addImage(layout, 'riscv64');
  await layout.writeIndex({ mediaType: MEDIA_TYPE.index, manifests: [forPlatform('riscv64')(image)] });
  t.is((await openAndClose(`oci:${dir}`)).config.platform.architecture, 'riscv64');
  await t.throwsAsync(openImageInput(`oci:${dir}`, 'linux/amd64'), {
    message: /is for linux\/riscv64, not for linux\/amd64/,
  });
});

test('an index that contains itself ends', async (t) => {
  const { dir } = t.context;
  const layout = await WritableLayout.create(dir);
  let nested = await addImage(layout, 'amd64');
  for (let i = 0; i < 6; i++) {
    nested = await layout.writeBlob(
      MEDIA_TYPE.index,
      encodeIndex({ mediaType: MEDIA_TYPE.index, manifests: [nested] }),
    );
  }
  await layout.writeIndex({ mediaType: MEDIA_TYPE.index, manifests: [nested] });
  await t.throwsAsync(openImageInput(`oci:${dir}`), { code: 'INVALID_INDEX', message: /nested too deeply/ });
});

test('artifacts and odd layers are refused, and the layer count must fit', async (t) => {
  const { dir } = t.context;
  const layout = await WritableLayout.create(dir);
  const config = await layout.writeBlob(MEDIA_TYPE.config, configOf(layerTars));
  const layer = await layout.writeBlob(MEDIA_TYPE.layerTar, layerTars[0] as Buffer);
  const open = async (manifest: { config: Descriptor; layers: Descriptor[] }) => {
    const bytes = encodeManifest({ mediaType: MEDIA_TYPE.manifest, ...manifest });
    const image = await layout.writeBlob(MEDIA_TYPE.manifest, bytes);
    await layout.writeIndex({ mediaType: MEDIA_TYPE.index, manifests: [image] });
    return openImageInput(`oci:${dir}`);
  };
  await t.throwsAsync(open({ config: { ...config, mediaType: MEDIA_TYPE.empty }, layers: [layer] }), {
    message: /artifact/,
  });
  await t.throwsAsync(open({ config, layers: [{ ...layer, mediaType: 'text/plain' }] }), {
    message: /is not a tar/,
  });
  await t.throwsAsync(open({ config, layers: [layer] }), {
    code: 'INVALID_CONFIG',
    message: /1 layers, the config 2/,
  });
});

test('a changed or missing blob is found', async (t) => {
  const { dir } = t.context;
  await layoutOf(dir, named('v1'));
  const input = await openImageInput(`oci:${dir}`);
  const path = join(dir, layoutBlobPath(input.layers[1]?.digest ?? ''));
  const blob = gzipSync(layerTars[1] as Buffer);
  blob[20] = (blob[20] as number) ^ 1;
  await writeFile(path, blob);
  await t.throwsAsync(contents(input), { code: 'DIGEST_MISMATCH', message: /layer sha256:/ });
  await rm(path);
  await t.throwsAsync(openImageInput(`oci:${dir}`), {
    code: 'NOT_FOUND',
    message: /blobs\/sha256\/.* is missing/,
  });
  await writeFile(
    join(dir, layoutBlobPath(input.manifestDigest)),
    Buffer.concat([input.manifestBytes, Buffer.from(' ')]),
  );
  await t.throwsAsync(openImageInput(`oci:${dir}`), { code: 'SIZE_MISMATCH', message: /manifest sha256:/ });
});

async function archive(dir: string, members: readonly TarMember[]): Promise<string> {
  const path = join(dir, `${members.length}.tar`);
  await writeFile(path, tarOf(members));
  return path;
}

const config = configOf(layerTars);
const configName = `${digestOf(config).slice(7)}.json`;
const saved = (more: object = {}) => ({
  Config: configName,
  RepoTags: ['python:numpy'],
  Layers: ['a/layer.tar', 'b/layer.tar'],
  ...more,
});
const classic = (images: object[] = [saved()]): TarMember[] => [
  { name: configName, content: config },
  { name: 'a/layer.tar', content: layerTars[0] as Buffer },
  { name: 'b/layer.tar', content: layerTars[1] as Buffer },
  { name: 'manifest.json', content: JSON.stringify(images) },
];

test('a classic archive of docker save is opened, and its manifest digest is made of its content', async (t) => {
  const path = await archive(t.context.dir, classic());
  const input = await openImageInput(`docker-archive:${path}`);
  t.is(input.name, 'python:numpy');
  t.is(digestOf(input.manifestBytes), input.manifestDigest);
  t.is(input.manifestDigest, 'sha256:79e81d860da324465cabdfee062415ce6a319daa71420d2d52f1f0a16ee71780');
  t.deepEqual(await contents(input), layerTars);
  t.is((await openAndClose(`docker-archive:${path}:docker.io/library/python:numpy`)).name, 'python:numpy');
  t.is((await openAndClose(`docker-archive:${path}:${digestOf(config)}`)).name, 'python:numpy');
});

test('the archive of docker save that is a layout too gives the same manifest', async (t) => {
  const blob = (bytes: Buffer) => ({ name: layoutBlobPath(digestOf(bytes)), content: bytes });
  const members = [
    { name: 'oci-layout', content: '{"imageLayoutVersion":"1.0.0"}' },
    { name: 'index.json', content: '{"schemaVersion":2,"manifests":[]}' },
    blob(config),
    ...layerTars.map(blob),
    {
      name: 'manifest.json',
      content: JSON.stringify([
        {
          Config: layoutBlobPath(digestOf(config)),
          RepoTags: null,
          Layers: layerTars.map((tar) => layoutBlobPath(digestOf(tar))),
        },
      ]),
    },
  ];
  const input = await openImageInput(`docker-archive:${await archive(t.context.dir, members)}`);
  const old = await openAndClose(`docker-archive:${await archive(t.context.dir, classic())}`);
  t.is(input.name, undefined);
  t.is(input.manifestDigest, old.manifestDigest);
  t.deepEqual(await contents(input), layerTars);
});

test('layers of an archive may be gzipped and may be links', async (t) => {
  const gz = layerTars.map((tar) => gzipSync(tar));
  const path = await archive(t.context.dir, [
    { name: configName, content: config },
    { name: 'x/layer.tar', content: gz[0] as Buffer },
    { name: 'a/layer.tar', symlink: '../x/layer.tar' },
    { name: 'b/layer.tar', content: gz[1] as Buffer },
    { name: 'manifest.json', content: JSON.stringify([saved()]) },
  ]);
  const input = await openImageInput(`docker-archive:${path}`);
  t.deepEqual(
    input.layers.map(({ mediaType, digest }) => [mediaType, digest]),
    gz.map((blob) => [MEDIA_TYPE.layerGzip, digestOf(blob)]),
  );
  t.deepEqual(await contents(input), gz);
});

test('several images in an archive are told apart by name', async (t) => {
  const path = await archive(t.context.dir, classic([saved(), saved({ RepoTags: ['b:1', 'c:1'] })]));
  await t.throwsAsync(openImageInput(`docker-archive:${path}`), {
    code: 'AMBIGUOUS',
    message: /: b:1, python:numpy$/,
  });
  t.is((await openAndClose(`docker-archive:${path}:c:1`)).name, 'c:1');
  await t.throwsAsync(openImageInput(`docker-archive:${path}:d`), {
    code: 'NOT_FOUND',
    message: /it has b:1, python:numpy/,
  });
});

const broken: [name: string, members: TarMember[], message: RegExp][] = [
  ['without manifest.json', classic().slice(0, 3), /no manifest.json/],
  ['without a layer', classic().filter(({ name }) => name !== 'b/layer.tar'), /"b\/layer.tar" is missing/],
  ['without its config', classic().slice(1), /is missing/],
  ['with a path out of it', classic([saved({ Config: '../../etc/passwd' })]), /is missing/],
  [
    'whose config is changed',
    [{ name: configName, content: config.toString().replace('one', 'two') }, ...classic().slice(1)],
    /config sha256:.*corrupt/,
  ],
  ['with a layer too few', classic([saved({ Layers: ['a/layer.tar'] })]), /1 layers, the config 2/],
  ['with no images', classic([]), /no images/],
  [
    'with a broken manifest.json',
    [...classic().slice(0, 3), { name: 'manifest.json', content: '{' }],
    /not valid JSON/,
  ],
];
for (const [name, members, message] of broken) {
  test(`an archive ${name} is refused`, async (t) => {
    const path = await archive(t.context.dir, members);
    await t.throwsAsync(openImageInput(`docker-archive:${path}`), { message });
  });
}

test('a layer of an archive that is not the one in the config is found when it is read', async (t) => {
  const members = classic().map((member) =>
    member.name === 'b/layer.tar' ? { name: member.name, content: layerTars[0] as Buffer } : member,
  );
  const input = await openImageInput(`docker-archive:${await archive(t.context.dir, members)}`);
  await t.throwsAsync(contents(input), { code: 'DIGEST_MISMATCH', message: /layer b\/layer.tar/ });
});

test('an OCI archive is read in place', async (t) => {
  const { dir } = t.context;
  await layoutOf(dir, named('v1'));
  const input = await openImageInput(`oci:${dir}`);
  const blobs = [input.manifestBytes, input.configBytes, ...(await contents(input))];
  const path = await archive(dir, [
    ...blobs.map((bytes) => ({ name: `./${layoutBlobPath(digestOf(bytes))}`, content: bytes })),
    { name: './oci-layout', content: '{"imageLayoutVersion":"1.0.0"}' },
    { name: './index.json', content: encodeIndex(await (await WritableLayout.create(dir)).readIndex()) },
  ]);
  const archived = await openImageInput(`oci-archive:${path}:v1`);
  t.is(archived.manifestDigest, input.manifestDigest);
  t.deepEqual(await contents(archived), blobs.slice(2));
});

test('a compressed or cut archive is refused with the remedy', async (t) => {
  const { dir } = t.context;
  const path = join(dir, 'a.tar.gz');
  await writeFile(path, gzipSync(tarOf(classic())));
  await t.throwsAsync(openImageInput(`docker-archive:${path}`), {
    code: 'INVALID_ARCHIVE',
    message: /decompress it first/,
  });
  const cut = join(dir, 'cut.tar');
  await writeFile(cut, tarOf(classic()).subarray(0, 5000));
  await t.throwsAsync(openImageInput(`docker-archive:${cut}`), { message: /cut.tar/ });
});
