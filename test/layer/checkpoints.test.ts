import { createHash } from 'node:crypto';
import { deflateRawSync, gzipSync } from 'node:zlib';
import test from 'ava';
import fc from 'fast-check';
import { CheckpointRecorder } from '../../src/layer/checkpoint-recorder.js';
import {
  CHECKPOINTS_FIELDS,
  CHECKPOINTS_HEADER_SIZE,
  Checkpoints,
  MAX_CHECKPOINTS,
} from '../../src/layer/checkpoints.js';
import { decompress } from '../../src/layer/decompress.js';
import { LayerError } from '../../src/layer/layer-error.js';
import { Inflater } from '../../src/native/inflate.js';
import { chunksOf } from './layers.js';

/** Text that compresses about as programs do, and refers back as far as deflate can. */
function text(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  let state = seed;
  for (let at = 0; at < length; ) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    const back = 1 + (state % 32_000);
    const run = 3 + (state >>> 27);
    if (at > back && (state & 0x300) !== 0)
      for (let i = 0; i < run && at < length; i++, at++) bytes[at] = bytes[at - back] as number;
    else bytes[at++] = state >>> 24;
  }
  return bytes;
}

async function record(blob: Uint8Array, span: number, chunkSize = 10_000) {
  const recorder = new CheckpointRecorder(span);
  const pieces: Uint8Array[] = [];
  for await (const piece of decompress(chunksOf(blob, chunkSize), recorder)) pieces.push(piece);
  const digest = `sha256:${createHash('sha256').update(blob).digest('hex')}`;
  const out = Buffer.concat(pieces);
  const encoded = await recorder.finish({ digest, size: blob.length, tarSize: out.length });
  return { out, encoded, checkpoints: Checkpoints.decode(encoded), digest };
}

/** One segment, inflated from its checkpoint and its own range of the blob alone. */
async function inflateSegment(
  checkpoints: Checkpoints,
  index: number,
  blob: Uint8Array,
): Promise<Uint8Array> {
  const segment = checkpoints.segments[index];
  if (segment === undefined) throw new RangeError(`segment ${index}`);
  const start = { bits: segment.bits, byte: blob[segment.in - 1] ?? 0, window: checkpoints.window(index) };
  const inflater = new Inflater(segment.isBeginning ? undefined : start);
  const output = Buffer.alloc(segment.outEnd - segment.out);
  let input = blob.subarray(segment.in, segment.inEnd);
  for (let filled = 0; filled < output.length; ) {
    const step = await inflater.run(input, output.subarray(filled));
    filled += step.produced;
    input = input.subarray(step.consumed);
    if (step.needsInput && filled < output.length) throw new Error('the segment is not complete');
  }
  return output;
}

test('every segment comes out of its own range of the blob, in one member and in several', async (t) => {
  const data = text(1_500_000, 7);
  const members = [0, 200_000, 200_001, 900_000].map((from, i, all) =>
    gzipSync(data.subarray(from, all[i + 1]), { level: 1 + 2 * i }),
  );
  const blobs = [
    gzipSync(data),
    gzipSync(data, { level: 0 }),
    Buffer.concat(members),
    Buffer.concat([...members, Buffer.alloc(100)]),
  ];
  for (const blob of blobs) {
    for (const chunkSize of [777, blob.length]) {
      const { out, checkpoints, digest } = await record(blob, 100_000, chunkSize);
      t.true(out.equals(data));
      t.like(checkpoints, { digest, compression: 'gzip', blobSize: blob.length, tarSize: data.length });
      t.true(checkpoints.segments.length >= 8);
      t.is(checkpoints.segmentAt(0), 0);
      t.is(checkpoints.segmentAt(data.length - 1), checkpoints.segments.length - 1);
      for (const { index, out: from, outEnd } of checkpoints.segments) {
        t.true(data.subarray(from, outEnd).equals(await inflateSegment(checkpoints, index, blob)));
        t.is(checkpoints.segmentAt(from), index);
      }
    }
  }
});

test('a plain tar has one segment, and says so', async (t) => {
  const { checkpoints } = await record(Buffer.from('plain text'.repeat(10)), 10);
  t.is(checkpoints.compression, 'plain');
  t.is(checkpoints.segments.length, 1);
  t.is(checkpoints.window(0).length, 0);
  t.throws(() => checkpoints.segmentAt(100), { instanceOf: RangeError });
});

test('there are never too many checkpoints: they come to lie further apart', async (t) => {
  const recorder = new CheckpointRecorder(100);
  for (let i = 1; i <= 3 * MAX_CHECKPOINTS; i++) {
    recorder.add({ in: i, out: i * 100, bits: 0, member: true, window: new Uint8Array() });
  }
  t.true(recorder.span > 100);
  const encoded = await recorder.finish({ digest: `sha256:${'0'.repeat(64)}`, size: 1e6, tarSize: 1e7 });
  const { segments } = Checkpoints.decode(encoded);
  t.true(segments.length <= MAX_CHECKPOINTS + 1);
  t.is(segments.at(-1)?.outEnd, 1e7);
});

test('damaged and hostile checkpoints are CORRUPT, or give wrong bytes or InflateError, and nothing worse', async (t) => {
  const blob = gzipSync(text(200_000, 3));
  const { encoded } = await record(blob, 20_000);
  const corrupt = { instanceOf: LayerError, code: 'CORRUPT' };
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(encoded.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      fc.nat(CHECKPOINTS_HEADER_SIZE + 24 * 10),
      fc.nat(255),
      async (changes, early, value) => {
        const bytes = Buffer.from(encoded);
        for (const [at, byte] of changes) bytes[at] = byte;
        bytes[early] = value;
        try {
          const checkpoints = Checkpoints.decode(bytes);
          for (const { index, out, outEnd } of checkpoints.segments) {
            if (outEnd - out > 1e6) continue;
            await inflateSegment(checkpoints, index, blob).catch((error: Error & { code?: string }) => {
              if (error.code !== 'CORRUPT' && !/not complete/.test(error.message)) throw error;
            });
          }
        } catch (error) {
          if (!(error instanceof LayerError)) throw error;
        }
      },
    ),
    { numRuns: 150 },
  );
  for (const [field, value] of [
    ['magic', 0],
    ['version', 2],
    ['count', 0xffffffff],
    ['blobSize', 1],
    ['compression', 9],
  ] as const) {
    const bytes = Buffer.from(encoded);
    bytes.writeUInt32LE(value, CHECKPOINTS_FIELDS[field]);
    t.throws(() => Checkpoints.decode(bytes), corrupt, field);
  }
  t.throws(() => Checkpoints.decode(encoded.subarray(0, encoded.length - 1)), corrupt);
});

test('an inflater refuses what it cannot take, and goes on with nothing after damaged data', async (t) => {
  const window = new Uint8Array();
  for (const start of [
    { bits: 8, byte: 0, window },
    { bits: 0, byte: 256, window },
    { bits: 0, byte: 0, window: new Uint8Array(32769) },
  ]) {
    t.throws(() => new Inflater(start), { instanceOf: RangeError });
  }
  const inflater = new Inflater();
  const running = inflater.run(gzipSync('x'), Buffer.alloc(1));
  await t.throwsAsync(inflater.run(gzipSync('x'), Buffer.alloc(1)), { message: /running/ });
  await running;
  await t.throwsAsync(inflater.run(new Uint8Array(new SharedArrayBuffer(1)), Buffer.alloc(1)), {
    instanceOf: TypeError,
  });
  const damaged = new Inflater();
  await t.throwsAsync(damaged.run(Buffer.from('not gzip at all'), Buffer.alloc(10)), { code: 'CORRUPT' });
  await t.throwsAsync(damaged.run(gzipSync('x'), Buffer.alloc(10)), { code: 'CORRUPT' });
  const raw = new Inflater({ bits: 0, byte: 0, window });
  const output = Buffer.alloc(3);
  const step = await raw.run(Buffer.concat([deflateRawSync('abc'), Buffer.alloc(8), gzipSync('')]), output);
  t.like(step, { produced: 3, needsInput: false });
  t.is(output.toString(), 'abc');
});
