import test from 'ava';
import {
  blobPath,
  blockDigestsPath,
  checkMarker,
  emptyCatalog,
  encodeMarker,
  layerPath,
  listImages,
  resolveName,
  teleportOf,
  withImage,
} from '../../src/image/catalog.js';
import { encodeIndex, type ImageIndex, MEDIA_TYPE } from '../../src/oci/manifest.js';

const digest = (digit: string) => `sha256:${digit.repeat(64)}`;
const manifest = (digit: string) => ({ mediaType: MEDIA_TYPE.manifest, digest: digest(digit), size: 100 });

function catalogOf(...images: [digit: string, name: string | undefined][]): ImageIndex {
  return images.reduce(
    (catalog, [digit, name]) =>
      withImage(catalog, manifest(digit), manifest(digit === '9' ? '8' : 'f'), name),
    emptyCatalog(),
  );
}

test('paths of a store are made of digests only', (t) => {
  t.is(blobPath(digest('a')), `images/blobs/sha256/${'a'.repeat(64)}`);
  t.is(layerPath(digest('b')), `layers/sha256/${'b'.repeat(64)}.vhd`);
  t.is(blockDigestsPath(digest('b')), `layers/sha256/${'b'.repeat(64)}.digests`);
  for (const bad of [
    '',
    'sha256:',
    'sha256:../../etc',
    `sha256:${'A'.repeat(64)}`,
    `sha512:${'a'.repeat(128)}`,
  ]) {
    t.throws(() => layerPath(bad), { message: /digest|sha256/ }, bad);
  }
});

test('an image is found by name, with and without tag, by full name and by digest', (t) => {
  const index = encodeIndex(catalogOf(['1', 'python:latest'], ['2', 'python:numpy'], ['3', undefined]));
  t.is(resolveName(index, 'python').digest, digest('1'));
  t.is(resolveName(index, 'docker.io/library/python:latest').digest, digest('1'));
  t.is(resolveName(index, 'python:numpy').digest, digest('2'));
  t.is(resolveName(index, digest('3')).digest, digest('3'));
  t.is(resolveName(index, `other@${digest('3')}`).digest, digest('3'));
});

test('an image that is not there is reported with the names that are', (t) => {
  const index = catalogOf(['1', 'python:latest'], ['2', 'node:20']);
  t.throws(() => resolveName(index, 'pyhton'), {
    code: 'NOT_FOUND',
    message: /"pyhton:latest".*node:20, python:latest/,
  });
  t.throws(() => resolveName(emptyCatalog(), digest('1')), { code: 'NOT_FOUND', message: /no named images/ });
  t.throws(() => resolveName(index, 'Bad Name'), { code: 'INVALID_REFERENCE' });
});

test('a name moves to the image that takes it, and the old one stays known by its digest', (t) => {
  const catalog = catalogOf(['1', 'app:1'], ['2', 'app:1']);
  t.is(resolveName(catalog, 'app:1').digest, digest('2'));
  t.is(resolveName(catalog, digest('1')).digest, digest('1'));
  t.deepEqual(listImages(catalog), [
    { manifestDigest: digest('1'), names: [] },
    { manifestDigest: digest('2'), names: ['app:1'] },
  ]);
});

test('an image may have several names, and adding it again changes nothing', (t) => {
  const catalog = catalogOf(['1', 'b:1'], ['1', 'a:1']);
  t.deepEqual(listImages(catalog), [{ manifestDigest: digest('1'), names: ['a:1', 'b:1'] }]);
  t.deepEqual(listImages(withImage(catalog, manifest('1'), manifest('f'), undefined)), listImages(catalog));
  t.is(withImage(catalog, manifest('1'), manifest('f'), 'a:1').manifests.length, catalog.manifests.length);
});

test('the teleport artifact is found by its subject, and the newest replaces an older one', (t) => {
  const first = withImage(emptyCatalog(), manifest('1'), manifest('e'), 'a:1');
  const second = withImage(first, manifest('1'), manifest('f'), 'a:1');
  t.is(teleportOf(second, digest('1')).digest, digest('f'));
  t.is(second.manifests.length, 2);
  t.throws(() => teleportOf(second, digest('2')), { code: 'NOT_EXPANDED', message: /expand again/ });
  t.throws(() => resolveName(second, digest('f')), { code: 'NOT_FOUND' });
});

test('entries of other programs are kept', (t) => {
  const foreign = { ...manifest('7'), artifactType: 'application/spdx+json' };
  const catalog = withImage(
    { ...emptyCatalog(), manifests: [foreign] },
    manifest('1'),
    manifest('f'),
    undefined,
  );
  t.deepEqual(catalog.manifests[1], foreign);
});

test('a store of another version is refused', (t) => {
  t.notThrows(() => checkMarker(encodeMarker(), '/store'));
  t.throws(() => checkMarker(Buffer.from('{"version":2}'), '/store'), {
    code: 'INVALID_STORE',
    message: /version 2/,
  });
  t.throws(() => checkMarker(Buffer.from('{'), '/store'), { message: /\/store\/orca.json: not valid JSON/ });
});
