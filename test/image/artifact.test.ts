import test from 'ava';
import {
  BLOCK_DIGESTS_TYPE,
  DIGEST_SET_TYPE,
  encodeTeleportArtifact,
  IMAGE_INDEX_TYPE,
  MAX_IMAGE_INDEX_BYTES,
  PACKED_INDEX_TYPE,
  parseTeleportArtifact,
  type TeleportArtifact,
} from '../../src/image/artifact.js';
import { digestOf } from '../../src/oci/digest.js';
import { MEDIA_TYPE } from '../../src/oci/manifest.js';

const digest = (digit: string) => `sha256:${digit.repeat(64)}`;
const artifact: TeleportArtifact = {
  subject: { mediaType: MEDIA_TYPE.dockerManifest, digest: digest('1'), size: 500 },
  imageIndex: { mediaType: IMAGE_INDEX_TYPE, digest: digest('2'), size: 8192 },
  digests: [
    { diffID: digest('a'), descriptor: { mediaType: BLOCK_DIGESTS_TYPE, digest: digest('3'), size: 96 } },
    { diffID: digest('b'), descriptor: { mediaType: BLOCK_DIGESTS_TYPE, digest: digest('4'), size: 128 } },
  ],
};
type Json = {
  artifactType: unknown;
  subject: unknown;
  layers: { annotations?: object; [key: string]: unknown }[];
};

function edited(edit: (json: Json) => void): Uint8Array {
  const json = JSON.parse(Buffer.from(encodeTeleportArtifact(artifact)).toString()) as Json;
  edit(json);
  return Buffer.from(JSON.stringify(json));
}

test('what is encoded is decoded', (t) => {
  const decoded = parseTeleportArtifact(encodeTeleportArtifact(artifact));
  t.like(decoded, { subject: artifact.subject, imageIndex: artifact.imageIndex });
  t.deepEqual(
    decoded.digests.map(({ diffID, descriptor }) => [diffID, descriptor.digest, descriptor.size]),
    artifact.digests.map(({ diffID, descriptor }) => [diffID, descriptor.digest, descriptor.size]),
  );
});

test('the bytes are pinned: a change of them is a change of format', (t) => {
  t.is(
    digestOf(encodeTeleportArtifact(artifact)),
    'sha256:1338b433b2c707fb78f1e7e63f149c325bcfe395ec9556efa6b895646da68c8d',
  );
});

test('a packed image index is optional, single, and no larger than the image index', (t) => {
  t.is(parseTeleportArtifact(encodeTeleportArtifact(artifact)).packedIndex, undefined);
  const packed = (size: number) => ({ mediaType: PACKED_INDEX_TYPE, digest: digest('6'), size });
  const encoded = encodeTeleportArtifact({ ...artifact, packedIndex: packed(8192) });
  t.like(parseTeleportArtifact(encoded).packedIndex, packed(8192));
  const large = encodeTeleportArtifact({ ...artifact, packedIndex: packed(8193) });
  t.throws(() => parseTeleportArtifact(large), { message: /packed image index has 8193 bytes/ });
  const json = JSON.parse(Buffer.from(encoded).toString()) as Json;
  json.layers.push(...json.layers.filter(({ mediaType }) => mediaType === PACKED_INDEX_TYPE));
  t.throws(() => parseTeleportArtifact(Buffer.from(JSON.stringify(json))), {
    message: /more than one packed/,
  });
});

test('a set of block digests is optional, single, and as long as they are together', (t) => {
  t.is(parseTeleportArtifact(encodeTeleportArtifact(artifact)).digestSet, undefined);
  const set = (size: number) => ({ mediaType: DIGEST_SET_TYPE, digest: digest('5'), size });
  const encoded = encodeTeleportArtifact({ ...artifact, digestSet: set(96 + 128) });
  t.like(parseTeleportArtifact(encoded).digestSet, { digest: digest('5'), size: 224 });
  const short = encodeTeleportArtifact({ ...artifact, digestSet: set(223) });
  t.throws(() => parseTeleportArtifact(short), { message: /set of block digests has 223 bytes/ });
  const json = JSON.parse(Buffer.from(encoded).toString()) as Json;
  json.layers.push(...json.layers.filter(({ mediaType }) => mediaType === DIGEST_SET_TYPE));
  t.throws(() => parseTeleportArtifact(Buffer.from(JSON.stringify(json))), { message: /more than one set/ });
});

test('layers of unknown types are left out', (t) => {
  const bytes = edited((json) =>
    json.layers.push({ ...json.layers[1], mediaType: 'application/vnd.orca.later.v1' }),
  );
  t.is(parseTeleportArtifact(bytes).digests.length, 2);
});

const bad: [name: string, pattern: RegExp, edit: (json: Json) => void][] = [
  ['another artifactType', /artifactType/, (json) => Object.assign(json, { artifactType: 'text/plain' })],
  ['no subject', /no subject/, (json) => Object.assign(json, { subject: undefined })],
  ['no image index', /first layer/, (json) => json.layers.shift()],
  ['two image indexes', /more than one/, (json) => json.layers.push({ ...json.layers[0] })],
  ['a diffID twice', /twice/, (json) => json.layers.push({ ...json.layers[1] })],
  [
    'a missing diffID',
    /not a sha256/,
    (json) => Object.assign(json.layers[1] as object, { annotations: {} }),
  ],
  [
    'an oversized index',
    /more than/,
    (json) => Object.assign(json.layers[0] as object, { size: MAX_IMAGE_INDEX_BYTES + 1 }),
  ],
];
for (const [name, pattern, edit] of bad) {
  test(`an artifact with ${name} is refused`, (t) => {
    t.throws(() => parseTeleportArtifact(edited(edit)), { message: pattern });
  });
}
