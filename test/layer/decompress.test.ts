import { gzipSync } from 'node:zlib';
import test from 'ava';
import { decompress, decompressZstdInScript, detectCompression } from '../../src/layer/decompress.js';
import { LayerError } from '../../src/layer/layer-error.js';
import { rawFrame, rleFrame, skippableFrame, ZSTD_FIXTURE, ZSTD_TEXT } from './zstd-streams.js';

async function* chunksOf(bytes: Uint8Array, chunkSize: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += chunkSize) yield bytes.subarray(at, at + chunkSize);
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<string> {
  const pieces: Uint8Array[] = [];
  for await (const chunk of chunks) pieces.push(new Uint8Array(chunk));
  return Buffer.concat(pieces).toString('latin1');
}

function decompressed(bytes: Uint8Array, chunkSize = bytes.length): Promise<string> {
  return collect(decompress(chunksOf(bytes, Math.max(chunkSize, 1))));
}

const TEXT = 'some text '.repeat(1000);
const GZIP = gzipSync(TEXT);

test('the compression is told by the first bytes', (t) => {
  t.is(detectCompression(GZIP), 'gzip');
  t.is(detectCompression(ZSTD_FIXTURE), 'zstd');
  t.is(detectCompression(skippableFrame(0)), 'zstd');
  t.is(detectCompression(Buffer.from('name')), 'plain');
  t.is(detectCompression(Buffer.alloc(0)), 'plain');
  t.throws(() => detectCompression(Buffer.from('BZh9')), { code: 'UNSUPPORTED_COMPRESSION' });
  t.throws(() => detectCompression(Buffer.from('fd377a585a00', 'hex')), { code: 'UNSUPPORTED_COMPRESSION' });
});

test('plain, gzip and zstd come out the same, whole or byte by byte', async (t) => {
  for (const chunkSize of [1, 1000, 1 << 20]) {
    t.is(await decompressed(Buffer.from(TEXT), chunkSize), TEXT);
    t.is(await decompressed(GZIP, chunkSize), TEXT);
    t.is(await decompressed(ZSTD_FIXTURE, chunkSize), ZSTD_TEXT);
  }
  t.is(await decompressed(Buffer.alloc(0)), '');
});

test('gzip members in a row are one stream, and zeros after them are ignored', async (t) => {
  for (const chunkSize of [1, GZIP.length, GZIP.length - 1, GZIP.length + 1, 1 << 20]) {
    t.is(await decompressed(Buffer.concat([GZIP, GZIP, gzipSync('end')]), chunkSize), `${TEXT}${TEXT}end`);
    t.is(await decompressed(Buffer.concat([GZIP, Buffer.alloc(1000)]), chunkSize), TEXT);
  }
});

test('zstd frames in a row are one stream, with Node and in script', async (t) => {
  const stream = Buffer.concat([
    skippableFrame(5),
    ZSTD_FIXTURE,
    rawFrame([]),
    rawFrame(['a', 'b']),
    skippableFrame(9),
    rleFrame('x', 5000),
  ]);
  const expected = `${ZSTD_TEXT}ab${'x'.repeat(5000)}`;
  for (const chunkSize of [1, 300, stream.length]) {
    t.is(await decompressed(stream, chunkSize), expected);
    t.is(await collect(decompressZstdInScript(chunksOf(stream, chunkSize))), expected);
  }
});

test('truncated and damaged data is CORRUPT', async (t) => {
  const corrupt = { instanceOf: LayerError, code: 'CORRUPT' };
  for (const bytes of [GZIP, ZSTD_FIXTURE]) {
    await t.throwsAsync(decompressed(bytes.subarray(0, bytes.length - 1)), corrupt);
    await t.throwsAsync(decompressed(bytes.subarray(0, bytes.length / 2)), corrupt);
  }
  const damaged = Buffer.from(GZIP);
  damaged.fill(0xff, 20, 40);
  await t.throwsAsync(decompressed(damaged), corrupt);
  await t.throwsAsync(decompressed(Buffer.concat([GZIP, Buffer.from('garbage')])), corrupt);
  const damagedZstd = Buffer.from(ZSTD_FIXTURE);
  damagedZstd.fill(0xff, 20, 40);
  await t.throwsAsync(collect(decompressZstdInScript(chunksOf(damagedZstd, 1000))), corrupt);
});

test('an error of the blob comes through as it is, and the blob is closed when nobody reads on', async (t) => {
  const failure = new Error('connection lost');
  async function* failing(): AsyncGenerator<Uint8Array> {
    yield GZIP.subarray(0, 20);
    throw failure;
  }
  t.is(await t.throwsAsync(collect(decompress(failing()))), failure);

  for (const start of [GZIP, ZSTD_FIXTURE, Buffer.from(TEXT)]) {
    let closed = false;
    async function* endless(): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield start;
      } finally {
        closed = true;
      }
    }
    for await (const _ of decompress(endless())) break;
    t.true(closed);
  }
});
