import test from 'ava';
import { parseImageConfig } from '../../src/oci/image-config.js';
import {
  encodeIndex,
  encodeManifest,
  isLayerType,
  MAX_MANIFEST_BYTES,
  type Manifest,
  MEDIA_TYPE,
  parseIndex,
  parseManifest,
} from '../../src/oci/manifest.js';

const digest = (digit: string) => `sha256:${digit.repeat(64)}`;
const manifest: Manifest = {
  mediaType: MEDIA_TYPE.manifest,
  config: { mediaType: MEDIA_TYPE.config, digest: digest('1'), size: 10 },
  layers: [
    { mediaType: MEDIA_TYPE.layerGzip, digest: digest('2'), size: 20 },
    { mediaType: MEDIA_TYPE.layerTar, digest: digest('3'), size: 0, annotations: { a: 'b' } },
  ],
};
const bytes = (value: unknown) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));
const plain = () => JSON.parse(Buffer.from(encodeManifest(manifest)).toString());

test('a manifest is encoded and decoded', (t) => {
  t.deepEqual(parseManifest(encodeManifest(manifest)), manifest);
  const artifact = { ...manifest, artifactType: 'a/b', subject: manifest.config, annotations: { x: 'y' } };
  t.deepEqual(parseManifest(encodeManifest(artifact)), artifact);
});

test('a Docker manifest is decoded', (t) => {
  const docker = { ...plain(), mediaType: MEDIA_TYPE.dockerManifest };
  t.is(parseManifest(bytes(docker)).mediaType, MEDIA_TYPE.dockerManifest);
});

test('unknown fields are left out, also those that name a prototype', (t) => {
  const text = JSON.stringify({ ...plain(), extra: { deep: 1 } }).replace(
    '{',
    '{"__proto__":{"polluted":1},',
  );
  const decoded = parseManifest(bytes(text));
  t.deepEqual(decoded, manifest);
  t.is((decoded as unknown as { polluted?: unknown }).polluted, undefined);
  const odd = bytes(`{"schemaVersion":2,"manifests":[],"annotations":{"__proto__":"x"}}`);
  t.is(Object.getPrototypeOf(parseIndex(odd).annotations), Object.prototype);
});

const bad: [name: string, value: unknown, message: RegExp][] = [
  ['no JSON', '{', /m: not valid JSON/],
  ['no object', [], /must be an object/],
  ['not UTF-8', '\u00ff', /not valid JSON/],
  ['no version', { ...plain(), schemaVersion: undefined }, /schemaVersion/],
  ['schema 1', { ...plain(), schemaVersion: 1 }, /schema 1 is not supported/],
  ['an index inside', { ...plain(), manifests: [] }, /manifests: does not belong/],
  ['the type of an index', { ...plain(), mediaType: MEDIA_TYPE.index }, /mediaType/],
  ['no config', { ...plain(), config: null }, /config: is missing/],
  ['no layers', { ...plain(), layers: undefined }, /layers: is missing/],
  ['layers that are no list', { ...plain(), layers: {} }, /layers: must be a list/],
  ['too many layers', { ...plain(), layers: Array(1025).fill(plain().layers[0]) }, /more than 1024/],
  [
    'a bad digest',
    { ...plain(), layers: [{ ...plain().layers[0], digest: 'sha256:../x' }] },
    /m: layers\[0\]: digest/,
  ],
  ['a negative size', { ...plain(), config: { ...plain().config, size: -1 } }, /config: size/],
  ['a broken size', { ...plain(), config: { ...plain().config, size: 1.5 } }, /config: size/],
  ['a huge size', { ...plain(), config: { ...plain().config, size: 1e300 } }, /config: size/],
  ['a bad media type', { ...plain(), config: { ...plain().config, mediaType: 'x' } }, /config: mediaType/],
  ['annotations of numbers', { ...plain(), annotations: { a: 1 } }, /annotations: a: must be a string/],
];
for (const [name, value, message] of bad) {
  test(`a manifest with ${name} is refused`, (t) => {
    t.throws(
      () =>
        parseManifest(Buffer.from(bytes(value).toString(), name === 'not UTF-8' ? 'latin1' : 'utf8'), 'm'),
      { message },
    );
  });
}

test('more than 4 MiB are not parsed', (t) => {
  t.throws(() => parseManifest(Buffer.alloc(MAX_MANIFEST_BYTES + 1, ' ')), { code: 'TOO_LARGE' });
});

test('deep nesting in an unknown field is no problem', (t) => {
  const deep = `${'['.repeat(500_000)}${']'.repeat(500_000)}`;
  t.deepEqual(parseManifest(bytes(JSON.stringify(plain()).replace('{', `{"x":${deep},`))), manifest);
});

test('an index is encoded and decoded, with platforms', (t) => {
  const index = {
    mediaType: MEDIA_TYPE.index,
    manifests: [
      {
        mediaType: MEDIA_TYPE.manifest,
        digest: digest('1'),
        size: 5,
        platform: { os: 'linux', architecture: 'arm', variant: 'v7' },
      },
    ],
  };
  t.deepEqual(parseIndex(encodeIndex(index)), index);
  t.throws(() => parseIndex(bytes({ ...index, schemaVersion: 2, layers: [] })), {
    message: /does not belong/,
  });
});

test('layer types are known in all their forms', (t) => {
  for (const type of [
    MEDIA_TYPE.layerTar,
    MEDIA_TYPE.layerGzip,
    MEDIA_TYPE.layerZstd,
    MEDIA_TYPE.dockerLayerGzip,
    'application/vnd.docker.image.rootfs.diff.tar',
    'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
    'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  ]) {
    t.true(isLayerType(type), type);
  }
  t.false(isLayerType('application/vnd.cncf.helm.chart.content.v1.tar+gzip'));
});

test('an image config is decoded', (t) => {
  const config = {
    architecture: 'arm64',
    os: 'linux',
    variant: 'v8',
    created: '2024-01-01T00:00:00Z',
    config: {
      User: '1000:1000',
      Env: ['PATH=/bin'],
      Entrypoint: ['/bin/app'],
      Cmd: null,
      WorkingDir: '/srv',
      Volumes: { '/data': {} },
      ExposedPorts: { '80/tcp': {} },
      Labels: { a: 'b' },
      StopSignal: 'SIGQUIT',
    },
    rootfs: { type: 'layers', diff_ids: [digest('1')] },
    history: [{}],
  };
  t.deepEqual(parseImageConfig(bytes(config)), {
    platform: { os: 'linux', architecture: 'arm64', variant: 'v8' },
    created: '2024-01-01T00:00:00Z',
    process: {
      user: '1000:1000',
      env: ['PATH=/bin'],
      entrypoint: ['/bin/app'],
      workingDir: '/srv',
      stopSignal: 'SIGQUIT',
      volumes: ['/data'],
      exposedPorts: ['80/tcp'],
      labels: { a: 'b' },
    },
    diffIDs: [digest('1')],
  });
});

const badConfigs: [name: string, value: object, message: RegExp][] = [
  ['no rootfs', { os: 'linux', architecture: 'amd64' }, /rootfs: is missing/],
  ['another rootfs', { os: 'linux', architecture: 'amd64', rootfs: { type: 'x' } }, /rootfs: type/],
  [
    'a bad diffID',
    { os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: ['x'] } },
    /diff_ids\[0\]/,
  ],
  ['no os', { architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [] } }, /os: is missing/],
  [
    'an Env of numbers',
    { os: 'l', architecture: 'a', config: { Env: [1] }, rootfs: { type: 'layers' } },
    /config: Env\[0\]/,
  ],
];
for (const [name, value, message] of badConfigs) {
  test(`a config with ${name} is refused`, (t) => {
    t.throws(() => parseImageConfig(bytes(value), 'c'), { code: 'INVALID_CONFIG', message });
  });
}
