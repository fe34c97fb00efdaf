import { gunzipSync } from 'node:zlib';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { ErofsImage, readTree } from '../../src/erofs/reader.js';
import type { RegularFile } from '../../src/erofs/tree.js';
import { TOC_ANNOTATION } from '../../src/layer/estargz-toc.js';
import { openUnexpandedImage } from '../../src/mount/unexpanded-image.js';
import { digestOf } from '../../src/oci/digest.js';
import { encodeManifest, MEDIA_TYPE } from '../../src/oci/manifest.js';
import { readLayerMetadata } from '../../src/source/layer-metadata.js';
import type { Source } from '../../src/source/source.js';
import type { Logger } from '../../src/telemetry/logger.js';
import { openVhd } from '../../src/vhd/vhd.js';
import { Random } from '../image/random.js';
import { type Estargz, estargz } from '../layer/estargz.js';
import { contentOf, find } from '../layer/layers.js';
import { member } from '../tar/archive.js';
import { type Host, startHost, stopHost } from './host.js';

interface Context extends Host {
  warnings: string[];
}

const test = anyTest as TestFn<Context>;

test.beforeEach(async (t) => {
  t.context = { ...(await startHost()), warnings: [] };
});

test.afterEach.always((t) => stopHost(t.context));

const FIRST = new Random(1).bytes(700_000);
const SECOND = new Random(2).bytes(500_000);
const MEMBERS = [
  member({ name: 'first' }, FIRST),
  member({ name: 'dir/', type: '5' }),
  member({ name: 'dir/second' }, SECOND),
  member({ name: 'small' }, 'x'),
];
const MADE = estargz(MEMBERS, { chunkSize: 300_000 });

/** An image of one layer; returns the digest of its manifest. */
function addImage({ registry }: Context, { blob, tocDigest }: Estargz, diffID?: string): string {
  const config = { rootfs: { type: 'layers', diff_ids: [diffID ?? digestOf(gunzipSync(blob))] } };
  const layer = registry.addBlob(MEDIA_TYPE.layerGzip, blob);
  const bytes = encodeManifest({
    mediaType: MEDIA_TYPE.manifest,
    config: registry.addBlob(
      MEDIA_TYPE.config,
      Buffer.from(JSON.stringify({ os: 'linux', architecture: 'amd64', ...config })),
    ),
    layers: [{ ...layer, annotations: { [TOC_ANNOTATION]: tocDigest } }],
  });
  return registry.addManifest(MEDIA_TYPE.manifest, bytes).digest;
}

function open(t: ExecutionContext<Context>, manifestDigest: string) {
  const { client, registry, cache, warnings } = t.context;
  const logger = { warn: (message: string) => void warnings.push(message) } as unknown as Logger;
  const repository = client.repository(registry.app);
  return openUnexpandedImage({ repository, manifestDigest, cache, logger });
}

type Opened = Awaited<ReturnType<typeof open>>;

/** The files of the one layer as its source gives them. */
async function readFiles({ image, sources }: Opened): Promise<Record<string, Buffer>> {
  const [device] = image.devices;
  const handle = await (sources[0] as Source).openLayer(device?.diffID ?? '');
  const vhd = Buffer.from(await handle.read(0, handle.size));
  const payload = openVhd((offset, length) => vhd.subarray(offset, offset + length), vhd.length);
  const root = readTree(ErofsImage.open(payload.readAt, payload.size));
  const content = (path: string) => contentOf(vhd, find(root, path) as RegularFile);
  return { first: content('first'), second: content('dir/second'), small: content('small') };
}

test('the end of the blob is enough to open it, and its files are read by ranges', async (t) => {
  const digest = addImage(t.context, MADE);
  const opened = await open(t, digest);
  const blobDigest = digestOf(MADE.blob);
  const ranges = () => t.context.registry.seen(blobDigest).map(({ range }) => range);
  t.deepEqual(ranges(), [`bytes=${MADE.blob.length - 65_536}-${MADE.blob.length - 1}`]);
  t.regex(opened.served, /1 of 1 layers by their tables of contents/);
  t.deepEqual(t.context.warnings, []);
  t.deepEqual(await readFiles(opened), { first: FIRST, second: SECOND, small: Buffer.from('x') });
  t.true(ranges().every((range) => range !== undefined));
  // The daemon and the snapshotter read metadata from the source.
  const [device] = opened.image.devices;
  t.is(typeof (await readLayerMetadata(device as NonNullable<typeof device>, opened.sources)), 'function');
  await opened.close();
  // What is recorded needs the blob no more.
  const before = ranges().length;
  await (await open(t, digest)).close();
  t.is(ranges().length, before);
});

test('chunks within one gzip member are found by what is before them', async (t) => {
  const opened = await open(
    t,
    addImage(t.context, estargz(MEMBERS, { chunkSize: 300_000, isOneMember: true })),
  );
  t.regex(opened.served, /1 of 1 layers by their tables of contents/);
  t.deepEqual(await readFiles(opened), { first: FIRST, second: SECOND, small: Buffer.from('x') });
  await opened.close();
});

test('through the block cache, blocks come verified by their chunks, and from no source that does not do so', async (t) => {
  const opened = await open(t, addImage(t.context, MADE));
  const [device] = opened.image.devices;
  const { digests } = device as NonNullable<typeof device>;
  const { cache } = t.context;
  const [source] = opened.sources as [Source];
  const liar: Source = {
    kind: 'smb',
    location: 'elsewhere',
    readFile: (...args) => source.readFile(...args),
    openLayer: async () => ({
      size: digests.size,
      read: async (_, length) => Buffer.alloc(length, 'wrong'),
      close: async () => undefined,
    }),
    close: async () => undefined,
  };
  const lease = await cache.openLayer(digests, [liar, source]);
  await cache.scheduler.prefetch(lease.layer, 0, digests.count, { priority: 'read-ahead' });
  const [first, second] = lease.layer.sources;
  t.is(first?.lastProblem?.code, 'CORRUPT');
  t.is(first?.bytes, 0);
  // Who was refused once is passed over.
  await cache.scheduler.prefetch(lease.layer, 0, digests.count, { priority: 'read-ahead' });
  t.is(lease.layer.blockFile.count(), digests.count);
  t.is(second?.bytes, digests.size);
  const handle = await source.openLayer(digests.diffID);
  for (let block = 0; block < digests.count; block++) {
    const expected = await handle.read(block * digests.blockSize, digests.length(block));
    t.is(Buffer.compare(await lease.layer.blockFile.read(block), expected), 0, `block ${block}`);
  }
  await lease.close();
  await opened.close();
});

test('a chunk that is damaged on the way is CORRUPT, and the next read fetches it anew', async (t) => {
  const { registry } = t.context;
  const opened = await open(t, addImage(t.context, MADE));
  const key = digestOf(MADE.blob);
  const { offset } = MADE.toc.entries[0] as { offset: number };
  const damaged = Buffer.from(MADE.blob);
  damaged[offset + 1000] = (damaged[offset + 1000] as number) ^ 1;
  registry.blobs.set(key, damaged);
  t.is((await t.throwsAsync<Error & { code?: string }>(readFiles(opened)))?.code, 'CORRUPT');
  registry.blobs.set(key, MADE.blob);
  t.true((await readFiles(opened))['first']?.equals(FIRST));
  await opened.close();
});

test('a registry that sends no ranges makes the host expand the layer, and says so', async (t) => {
  const { registry, warnings } = t.context;
  const digest = addImage(t.context, MADE);
  registry.fault = (request, response) => {
    if (!request.url?.endsWith(digestOf(MADE.blob))) return false;
    response.writeHead(200, { 'content-length': MADE.blob.length }).end(MADE.blob);
    return true;
  };
  const opened = await open(t, digest);
  t.notRegex(opened.served, /tables of contents/);
  t.is(warnings.length, 1);
  t.regex(warnings[0] ?? '', /is downloaded as a whole .* does not send ranges/);
  await opened.close();
});

test('a table that lacks a digest, or is another than the manifest names, makes the host expand the layer', async (t) => {
  const { warnings } = t.context;
  const lacking = estargz([member({ name: 'a' }, FIRST)], {
    change: ([entry]) => void delete entry?.['chunkDigest'],
  });
  for (const [made, reason] of [
    [lacking, /has no digest for "a"/],
    [{ ...MADE, tocDigest: digestOf(Buffer.from('other')) }, /has the digest/],
    [{ ...MADE, tocDigest: 'none' }, /no sha256 digest/],
  ] as const) {
    const opened = await open(t, addImage(t.context, made));
    t.notRegex(opened.served, /tables of contents/);
    t.regex(warnings.pop() ?? '', reason);
    await opened.close();
  }
});

test('an image that claims the diffID of another layer does not stand in for it', async (t) => {
  const other = estargz([member({ name: 'other' }, SECOND)]);
  const diffID = digestOf(gunzipSync(other.blob));
  await (await open(t, addImage(t.context, MADE, diffID))).close();
  const opened = await open(t, addImage(t.context, other));
  const [device] = opened.image.devices;
  const handle = await (opened.sources[0] as Source).openLayer(device?.diffID ?? '');
  t.is(Buffer.compare(await handle.read(4096, SECOND.length), SECOND), 0);
  await opened.close();
});
