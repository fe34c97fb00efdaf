import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import type { Descriptor } from '../../src/oci/manifest.js';
import { RegistryClient } from '../../src/oci/registry-client.js';
import { type BlobLayer, BlobSource } from '../../src/source/blob-source.js';
import { type LayerHandle, SourceError } from '../../src/source/source.js';
import { Random } from '../image/random.js';
import { chunksOf, expand } from '../layer/layers.js';
import { FakeRegistry, sendBytes } from '../oci/fake-registry.js';
import { archive, gnuSparse, member } from '../tar/archive.js';

interface Context {
  registry: FakeRegistry;
  client: RegistryClient;
  cacheDir: string;
  source: BlobSource | undefined;
}

const test = anyTest as TestFn<Context>;

test.beforeEach(async (t) => {
  t.context = {
    registry: await FakeRegistry.start(),
    client: new RegistryClient({ credentials: async () => undefined }),
    cacheDir: await mkdtemp(join(tmpdir(), 'orca-blob-source-')),
    source: undefined,
  };
  await mkdir(join(t.context.cacheDir, 'blobs', 'sha256'), { recursive: true });
});

test.afterEach.always(async (t) => {
  const { registry, client, cacheDir, source } = t.context;
  await source?.close();
  await client.close();
  await registry.stop();
  await rm(cacheDir, { recursive: true });
});

/** Half of it compresses, as in programs. */
function content(random: Random, length: number): Buffer {
  const bytes = random.bytes(length);
  for (let at = 0; at < length; at += 64) bytes.fill(at >> 13, at, Math.min(at + 32, length));
  return bytes;
}

function tarOf(seed: number): Buffer {
  const random = new Random(seed);
  const files = Array.from({ length: 60 }, (_, i) =>
    member({ name: `file-${i}` }, content(random, random.below(200_000))),
  );
  const big = content(random, 3_000_000);
  return archive(
    ...files,
    member({ name: 'big' }, big),
    member({ name: 'copy' }, big),
    gnuSparse('sparse', 2_000_000, [[1_000_000, 'x']]),
    member({ name: 'last' }, 'end'),
  );
}

async function publish(
  t: ExecutionContext<Context>,
  tar: Buffer,
  blob: Uint8Array,
  { withCheckpoints = true } = {},
) {
  const { registry, client, cacheDir } = t.context;
  const { diffID, vhd, recipe, checkpoints } = await expand(chunksOf(blob));
  const add = (bytes: Uint8Array | undefined): Descriptor =>
    registry.addBlob('application/octet-stream', bytes ?? new Uint8Array());
  const layer: BlobLayer = {
    diffID,
    blob: add(blob),
    recipe: add(recipe),
    checkpoints: withCheckpoints ? add(checkpoints) : undefined,
  };
  const source = (layers: readonly BlobLayer[] = [layer]) => {
    t.context.source = new BlobSource({ repository: client.repository(registry.app), layers, cacheDir });
    return t.context.source;
  };
  return { tar, vhd, layer, source };
}

test('reads of any place, in any order and at once, give the bytes of the layer VHD', async (t) => {
  const tar = tarOf(1);
  const half = tar.length >> 1;
  const blobs = [
    gzipSync(tar),
    tar,
    Buffer.concat([gzipSync(tar.subarray(0, half)), gzipSync(tar.subarray(half))]),
  ];
  for (const [index, blob] of blobs.entries()) {
    const { vhd, layer, source } = await publish(t, tar, blob);
    const handle = await source().openLayer(layer.diffID);
    t.is(handle.size, vhd.length);
    const random = new Random(index);
    const places = Array.from({ length: 60 }, () => {
      const offset = random.below(vhd.length);
      return [offset, Math.min(vhd.length - offset, 1 + random.below(400_000))] as const;
    });
    const read = await Promise.all(places.map(([offset, length]) => handle.read(offset, length)));
    for (const [i, [offset, length]] of places.entries()) {
      t.true(
        (read[i] as Buffer).equals(vhd.subarray(offset, offset + length)),
        `blob ${index}, ${offset} + ${length}`,
      );
    }
    t.true(vhd.equals(await handle.read(0, vhd.length)));
    await handle.close();
    await t.context.source?.close();
  }
});

test('sequential reads fetch every byte once, and neighbours in one request', async (t) => {
  const tar = tarOf(2);
  const blob = gzipSync(tar);
  const { vhd, layer, source } = await publish(t, tar, blob);
  const opened = source();
  const handle = await opened.openLayer(layer.diffID);
  const documents = opened.bytesFetched;
  for (let at = 0; at < vhd.length; at += 131_072) {
    const length = Math.min(131_072, vhd.length - at);
    t.true(vhd.subarray(at, at + length).equals(await handle.read(at, length)));
  }
  t.true(
    opened.bytesFetched - documents <= blob.length + 20,
    `${opened.bytesFetched - documents} of ${blob.length}`,
  );
  // A second reader of the same host needs no documents any more.
  const again = source();
  await again.openLayer(layer.diffID);
  t.is(again.bytesFetched, 0);
});

test('a read of one block fetches a small part of the blob', async (t) => {
  const random = new Random(3);
  const tar = archive(
    ...Array.from({ length: 40 }, (_, i) => member({ name: `${i}` }, content(random, 500_000))),
  );
  const blob = gzipSync(tar);
  const { vhd, layer, source } = await publish(t, tar, blob);
  const opened = source();
  const handle = await opened.openLayer(layer.diffID);
  const before = opened.bytesFetched;
  const at = 10 << 20;
  t.true(vhd.subarray(at, at + 131_072).equals(await handle.read(at, 131_072)));
  t.true(opened.bytesFetched - before < 1_300_000);
  t.true(opened.bytesFetched - before < blob.length / 8);
});

test('what the registry damages or refuses is an error, and the next read is right again', async (t) => {
  const tar = tarOf(4);
  const blob = gzipSync(tar);
  const { vhd, layer, source } = await publish(t, tar, blob);
  const handle = await source().openLayer(layer.diffID);
  const { registry } = t.context;
  const at = 1 << 20;
  registry.fault = async ({ url, headers: { range } }, response) => {
    if (!url?.includes(layer.blob.digest)) return false;
    sendBytes(response, Buffer.alloc(blob.length, 0xff), range);
    return true;
  };
  const failed = await t.throwsAsync(handle.read(at, 1000), { instanceOf: SourceError, code: 'CORRUPT' });
  t.regex(failed?.message ?? '', /^blob sha256:/);
  registry.fault = undefined;
  t.true(vhd.subarray(at, at + 1000).equals(await handle.read(at, 1000)));
});

test('layers without documents, or with those of other layers, are refused', async (t) => {
  const one = await publish(t, tarOf(5), gzipSync(tarOf(5)));
  const other = await publish(t, tarOf(6), gzipSync(tarOf(6)));
  const open = (layer: BlobLayer) => one.source([layer]).openLayer(layer.diffID);
  const missing = { instanceOf: SourceError, code: 'NOT_FOUND' };
  await t.throwsAsync(open({ ...one.layer, recipe: undefined }), missing);
  await t.throwsAsync(one.source().openLayer(other.layer.diffID), missing);
  await t.throwsAsync(one.source().readFile('orca.json'), missing);
  const corrupt = { instanceOf: SourceError, code: 'CORRUPT' };
  await t.throwsAsync(open({ ...one.layer, recipe: other.layer.recipe }), corrupt);
  await t.throwsAsync(open({ ...one.layer, checkpoints: other.layer.checkpoints }), corrupt);
  await t.throwsAsync(open({ ...one.layer, recipe: one.layer.checkpoints }), corrupt);
  const closed = one.source();
  await closed.close();
  await t.throwsAsync(closed.openLayer(one.layer.diffID), { instanceOf: SourceError, code: 'CLOSED' });
});

/** Compressed by the zstd of the host, a frame each. */
function zstd(...frames: Uint8Array[]): Buffer {
  return Buffer.concat(
    frames.map((input) => execFileSync('zstd', ['-q', '-c', '-3'], { input, maxBuffer: 64 << 20 })),
  );
}

async function streamed(handle: LayerHandle, pieceSize: number): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const { offset, bytes } of handle.stream?.(pieceSize, AbortSignal.timeout(60_000)) ?? []) {
    if (bytes.length > 0) pieces[offset / pieceSize] = bytes;
  }
  return Buffer.concat(pieces);
}

test('a layer without checkpoints, or of one zstd frame, is the layer VHD as a stream', async (t) => {
  const tar = archive(
    member({ name: 'large' }, content(new Random(8), 9_000_000)),
    member({ name: 'b' }, 'b'),
  );
  for (const [blob, withCheckpoints] of [
    [gzipSync(tar), false],
    [zstd(tar), true],
    [tar, false],
  ] as const) {
    const { vhd, layer, source } = await publish(t, tar, blob, { withCheckpoints });
    const opened = source();
    const handle = await opened.openLayer(layer.diffID);
    t.is(handle.size, vhd.length);
    for (const pieceSize of [131_072, 1 << 20]) t.true(vhd.equals(await streamed(handle, pieceSize)));
    // What is read without the stream: literals at once, the rest by a stream of its own.
    const before = opened.bytesFetched;
    t.true(vhd.subarray(-5000).equals(await handle.read(vhd.length - 5000, 5000)));
    t.is(opened.bytesFetched, before);
    t.true(vhd.subarray(1_000_000, 2_000_000).equals(await handle.read(1_000_000, 1_000_000)));
    await opened.close();
  }
});

test('a stream whose connection is cut goes on where it was, also where no ranges are served', async (t) => {
  const tar = tarOf(9);
  const blob = gzipSync(tar);
  for (const ranges of [true, false]) {
    const { vhd, layer, source } = await publish(t, tar, blob, { withCheckpoints: false });
    const handle = await source().openLayer(layer.diffID);
    const { registry } = t.context;
    let cuts = 0;
    const sent: (string | undefined)[] = [];
    registry.fault = (request, response) => {
      if (!request.url?.includes(layer.blob.digest)) return false;
      sent.push(request.headers.range);
      if (!ranges) delete request.headers.range;
      if (cuts++ >= 2) return false;
      const start = Number(/\d+/.exec(request.headers.range ?? '0')?.[0]);
      response.writeHead(start === 0 ? 200 : 206, {
        'content-length': blob.length - start,
        ...(start === 0 ? {} : { 'content-range': `bytes ${start}-${blob.length - 1}/${blob.length}` }),
      });
      response.write(blob.subarray(start, start + blob.length / 3), () => response.destroy());
      return true;
    };
    t.true(vhd.equals(await streamed(handle, 131_072)));
    registry.fault = undefined;
    t.is(sent[0], undefined);
    t.true(sent.length >= 3);
    t.regex(sent[2] ?? '', /^bytes=[1-9]\d*-$/);
    await t.context.source?.close();
  }
});

test('a stream of a damaged blob, of a recipe of more than the tar, or that is aborted, ends with an error', async (t) => {
  const tar = tarOf(10);
  const blob = gzipSync(tar);
  const { layer, source } = await publish(t, tar, blob, { withCheckpoints: false });
  const { registry } = t.context;
  const damaged = Buffer.from(blob);
  damaged.fill(0xff, blob.length >> 1, (blob.length >> 1) + 100);
  registry.blobs.set(layer.blob.digest, damaged);
  const handle = await source().openLayer(layer.diffID);
  t.is(
    (await t.throwsAsync<SourceError>(streamed(handle, 131_072), { instanceOf: SourceError })).code,
    'CORRUPT',
  );
  registry.blobs.set(layer.blob.digest, gzipSync(tar.subarray(0, 100_000)));
  await t.throwsAsync(streamed(handle, 131_072), { instanceOf: SourceError });
  registry.blobs.set(layer.blob.digest, blob);
  const controller = new AbortController();
  const stream = handle.stream?.(131_072, controller.signal);
  await stream?.next();
  controller.abort(new Error('no longer'));
  await t.throwsAsync(async () => {
    while (!(await stream?.next())?.done);
  });
});

test('of a zstd blob with several frames, only the frames of a read are fetched', async (t) => {
  const random = new Random(11);
  const tar = archive(
    ...Array.from({ length: 12 }, (_, i) => member({ name: `${i}` }, content(random, 500_000))),
  );
  const frames: Buffer[] = [];
  for (let at = 0; at < tar.length; at += 300_000) frames.push(tar.subarray(at, at + 300_000));
  const blob = zstd(...frames);
  const { vhd, layer, source } = await publish(t, tar, blob);
  const opened = source();
  const handle = await opened.openLayer(layer.diffID);
  t.is(handle.stream, undefined);
  const before = opened.bytesFetched;
  const at = 3 << 20;
  t.true(vhd.subarray(at, at + 131_072).equals(await handle.read(at, 131_072)));
  t.true(opened.bytesFetched - before < blob.length / 3);
  t.true(vhd.equals(await handle.read(0, vhd.length)));
});
