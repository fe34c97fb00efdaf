/** `orca expand` with input that is damaged or hostile: one line, exit code 1, and a store without a trace of it. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import { orca, startOrca } from './orca.js';

let scratch: string;

test.before(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'orca-expand-'));
});
test.after.always(() => rm(scratch, { recursive: true, force: true }));

const sha256 = (bytes: Uint8Array | string) => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** One ustar header (POSIX pax(1), "ustar Interchange Format") and its content. */
function member(name: string, type: '0' | '1' | '2' | '5', content = '', link = ''): Buffer {
  const header = Buffer.alloc(512);
  header.write(name, 0);
  header.write('0000644\x000000000\x000000000\x00', 100);
  header.write(`${content.length.toString(8).padStart(11, '0')}\0`, 124);
  header.write('00000000000\0', 136);
  header.write('        ', 148);
  header.write(type, 156);
  header.write(link, 157);
  header.write('ustar\x0000', 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  const body = Buffer.alloc(Math.ceil(content.length / 512) * 512);
  body.write(content, 'latin1');
  return Buffer.concat([header, body]);
}

const END = Buffer.alloc(1024);

interface Layout {
  directory: string;
  layerBlob: string;
}

/** A layout with one layer; `diffID` and the blob may be lies. */
async function layout(name: string, tar: Buffer, diffID = sha256(tar)): Promise<Layout> {
  const directory = join(scratch, name);
  const blobs = join(directory, 'blobs/sha256');
  await mkdir(blobs, { recursive: true });
  const put = async (bytes: Uint8Array | string) => {
    const digest = sha256(bytes);
    await writeFile(join(blobs, digest.slice(7)), bytes);
    return { digest, size: bytes.length };
  };
  const layer = await put(gzipSync(tar));
  const config = {
    architecture: 'amd64',
    os: 'linux',
    rootfs: { type: 'layers', diff_ids: [diffID] },
    config: {},
  };
  const type = 'application/vnd.oci.image';
  const manifest = await put(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: `${type}.manifest.v1+json`,
      config: { mediaType: `${type}.config.v1+json`, ...(await put(JSON.stringify(config))) },
      layers: [{ mediaType: `${type}.layer.v1.tar+gzip`, ...layer }],
    }),
  );
  const annotations = { 'org.opencontainers.image.ref.name': 'bad' };
  const manifests = [{ mediaType: `${type}.manifest.v1+json`, ...manifest, annotations }];
  await writeFile(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
  await writeFile(join(directory, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
  return { directory, layerBlob: join(blobs, layer.digest.slice(7)) };
}

async function refused(
  t: ExecutionContext,
  image: string,
  message: RegExp,
  ...more: string[]
): Promise<void> {
  const store = join(scratch, `store-${Math.random().toString(36).slice(2)}`);
  const { code, stdout, stderr } = await orca(['expand', image, '--store', store, ...more]);
  t.is(code, 1);
  t.is(stdout, '');
  t.regex(stderr, /^orca: [^\n]+\n$/);
  t.regex(stderr, message);
  t.notRegex(stderr, /unexpected/);
  for (const name of await readdir(store, { recursive: true }).catch(() => [])) {
    t.notRegex(name, /^layers\/sha256\/.|^tmp\/./, 'nothing half-written is left');
  }
  const index = await readFile(join(store, 'images/index.json'), 'utf8').catch(() => '{"manifests":[]}');
  t.deepEqual((JSON.parse(index) as { manifests: unknown[] }).manifests, []);
}

const fine = Buffer.concat([member('etc/', '5'), member('etc/file', '0', 'content'.repeat(10_000)), END]);

test('a good layout of the same making is expanded, and again without work', async (t) => {
  const { directory } = await layout('good', fine);
  const args = ['expand', `oci:${directory}:bad`, '--store', join(scratch, 'store-good'), '--name', 'good'];
  const first = await orca(args);
  t.is(first.code, 0, first.stderr);
  t.regex(first.stdout, /^sha256:[0-9a-f]{64}\n$/);
  t.regex(first.stderr, /^layer [0-9a-f]{12}: .* expanded to .*\n$/);
  const second = await orca(args);
  t.is(second.stdout, first.stdout);
  t.regex(second.stderr, /in the store already/);
});

test('a blob that is cut short', async (t) => {
  const { directory, layerBlob } = await layout('short-blob', fine);
  await truncate(layerBlob, 100);
  await refused(t, `oci:${directory}`, /sha256:[0-9a-f]{64}/);
});

test('a blob whose bytes are not those of its digest', async (t) => {
  const { directory, layerBlob } = await layout('corrupt-blob', fine);
  const bytes = await readFile(layerBlob);
  bytes[bytes.length - 20] = (bytes[bytes.length - 20] ?? 0) ^ 1;
  await writeFile(layerBlob, bytes);
  await refused(t, `oci:${directory}`, /sha256:[0-9a-f]{64}/);
});

test('a blob that is missing', async (t) => {
  const { directory, layerBlob } = await layout('missing-blob', fine);
  await rename(layerBlob, `${layerBlob}.gone`);
  await refused(t, `oci:${directory}`, /sha256\/[0-9a-f]{64}" is missing/);
});

test('a layer that is not what the config says', async (t) => {
  const { directory } = await layout('wrong-diffid', fine, sha256('something else'));
  await refused(t, `oci:${directory}`, /sha256:[0-9a-f]{64}/);
});

test('a tar that ends in the middle of a file', async (t) => {
  const { directory } = await layout('short-tar', fine.subarray(0, 10_000));
  await refused(t, `oci:${directory}`, /etc\/file|truncated|cut|end/i);
});

test('a tar with a name that leads out of the image', async (t) => {
  const { directory } = await layout('dot-dot', Buffer.concat([member('../../x', '0', 'x'), END]));
  await refused(t, `oci:${directory}`, /\.\.\/\.\.\/x/);
});

test('a hard link that leads out of the image', async (t) => {
  const { directory } = await layout('link', Buffer.concat([member('x', '1', '', '../../etc/shadow'), END]));
  await refused(t, `oci:${directory}`, /"x" leads out of the layer/);
});

test('what is no tar at all', async (t) => {
  const { directory } = await layout('no-tar', Buffer.alloc(4096, 'not a tar'));
  await refused(t, `oci:${directory}`, /tar/);
});

test('inputs that are not there or of no known kind', async (t) => {
  await refused(t, 'oci:/no/such/layout', /\/no\/such\/layout/);
  await refused(t, 'docker-archive:/no/such/file', /\/no\/such\/file/);
  await refused(t, 'python:3', /oci:DIR/);
  await refused(t, 'vhd:/no/such/layer.vhd', /give --name/);
  await refused(t, 'vhd:/no/such/layer.vhd', /\/no\/such\/layer\.vhd/, '--name', 'x');
  const { directory } = await layout('tagged', fine);
  await refused(t, `oci:${directory}:other`, /other/);
  await refused(t, `oci:${directory}`, /lower case/, '--name', 'UPPER');
});

test('a store that is a share, or a directory with other things', async (t) => {
  const { directory } = await layout('for-store', fine);
  const share = await orca(['expand', `oci:${directory}`, '--store', 'smb://host/share']);
  t.is(share.code, 1);
  t.regex(share.stderr, /^orca: orca expand writes into a directory/);
  const other = join(scratch, 'other');
  await mkdir(other);
  await writeFile(join(other, 'precious'), 'data');
  const occupied = await orca(['expand', `oci:${directory}`, '--store', other, '--name', 'x']);
  t.is(occupied.code, 1);
  t.regex(occupied.stderr, /^orca: [^\n]*other[^\n]*\n$/);
  t.deepEqual(await readdir(other), ['precious']);
});

test('interrupted in the middle, it ends with 130 and leaves nothing', async (t) => {
  const big = Buffer.concat([member('big', '0', randomBytes(24 << 20).toString('latin1')), END]);
  const { directory } = await layout('interrupted', big);
  const store = join(scratch, 'store-interrupted');
  const { process: child, ended } = startOrca(['expand', `oci:${directory}`, '--store', store]);
  while (!(await readdir(join(store, 'tmp')).catch(() => [])).length && child.exitCode === null)
    await sleep(5);
  child.kill('SIGINT');
  const { code, stdout, stderr } = await ended;
  t.is(code, 130, stderr);
  t.is(stdout, '');
  t.regex(stderr, /^orca: [^\n]*interrupted by SIGINT\n$/);
  t.deepEqual(await readdir(join(store, 'tmp')), []);
  t.deepEqual(await readdir(join(store, 'layers/sha256')), []);
});
