import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { digestOf } from '../../src/oci/digest.js';
import { DirectoryFiles } from '../../src/oci/input-files.js';
import { layoutBlobPath, OciLayout, WritableLayout } from '../../src/oci/layout.js';
import { MEDIA_TYPE } from '../../src/oci/manifest.js';

const test = anyTest as TestFn<{ dir: string }>;
test.beforeEach(async (t) => {
  t.context.dir = await mkdtemp(join(tmpdir(), 'orca-layout-'));
});
test.afterEach.always((t) => rm(t.context.dir, { recursive: true }));

test('a new layout is empty and valid, and opening it again keeps what it has', async (t) => {
  const { dir } = t.context;
  const layout = await WritableLayout.create(dir);
  t.deepEqual((await layout.readIndex()).manifests, []);
  const blob = await layout.writeBlob(MEDIA_TYPE.config, Buffer.from('{}'));
  await layout.writeIndex({ mediaType: MEDIA_TYPE.index, manifests: [blob] });
  const again = await OciLayout.open(new DirectoryFiles((await WritableLayout.create(dir)).dir));
  t.deepEqual((await again.readIndex()).manifests, [blob]);
  t.is(Buffer.from(await again.readBlob(blob, 'config')).toString(), '{}');
  t.deepEqual((await readdir(dir)).sort(), ['blobs', 'index.json', 'oci-layout']);
});

test('a directory without the marker, or with one of another version, is no layout', async (t) => {
  const { dir } = t.context;
  await t.throwsAsync(OciLayout.open(new DirectoryFiles(dir)), {
    code: 'INVALID_LAYOUT',
    message: /no oci-layout file/,
  });
  await writeFile(join(dir, 'oci-layout'), '{"imageLayoutVersion":"2.0.0"}');
  await t.throwsAsync(OciLayout.open(new DirectoryFiles(dir)), {
    code: 'INVALID_LAYOUT',
    message: /2\.0\.0/,
  });
});

test('a blob of another digest than declared is not stored', async (t) => {
  const { dir } = t.context;
  const layout = await WritableLayout.create(dir);
  const descriptor = { mediaType: MEDIA_TYPE.config, digest: digestOf(Buffer.from('a')), size: 1 };
  await t.throwsAsync(layout.writeBlobStream(descriptor, [Buffer.from('b')]), { code: 'DIGEST_MISMATCH' });
  t.deepEqual(await readdir(join(dir, 'blobs', 'sha256')), []);
});

test('a blob that is missing, cut or changed is refused by name', async (t) => {
  const { dir } = t.context;
  const layout = await WritableLayout.create(dir);
  const blob = await layout.writeBlob(MEDIA_TYPE.config, Buffer.from('content'));
  const path = join(dir, layoutBlobPath(blob.digest));
  const drain = async () => {
    for await (const _ of layout.streamBlob(blob, 'layer'));
  };
  await t.notThrowsAsync(layout.checkBlob(blob, 'layer'));

  await writeFile(path, 'Content');
  await t.throwsAsync(layout.readBlob(blob, 'config'), {
    code: 'DIGEST_MISMATCH',
    message: new RegExp(`config ${blob.digest}`),
  });
  await t.throwsAsync(drain(), { code: 'DIGEST_MISMATCH' });

  await truncate(path, 3);
  await t.throwsAsync(layout.checkBlob(blob, 'layer'), {
    code: 'SIZE_MISMATCH',
    message: /7 bytes are declared, 3/,
  });
  await t.throwsAsync(layout.readBlob(blob, 'config'), { code: 'SIZE_MISMATCH' });
  await t.throwsAsync(drain(), { code: 'SIZE_MISMATCH' });

  await rm(path);
  await t.throwsAsync(layout.checkBlob(blob, 'layer'), { code: 'NOT_FOUND', message: /incomplete/ });
  await t.throwsAsync(layout.readBlob(blob, 'config'), { code: 'NOT_FOUND' });
  await t.throwsAsync(drain(), { code: 'NOT_FOUND' });
});

test('a blob larger than its cap is not read', async (t) => {
  const layout = await WritableLayout.create(t.context.dir);
  const blob = await layout.writeBlob(MEDIA_TYPE.config, Buffer.alloc(100));
  await t.throwsAsync(layout.readBlob(blob, 'config', 99), { code: 'TOO_LARGE' });
});

test('a blob that is there already is not written again', async (t) => {
  const layout = await WritableLayout.create(t.context.dir);
  const blob = await layout.writeBlob(MEDIA_TYPE.config, Buffer.from('x'));
  await layout.writeBlob(MEDIA_TYPE.config, Buffer.from('x'));
  t.is((await readFile(join(t.context.dir, layoutBlobPath(blob.digest)))).toString(), 'x');
});
