import test from 'ava';
import { type FramePiece, startsZstdFrame, ZstdFrameSplitter } from '../../src/layer/zstd-frames.js';
import { rawFrame, rleFrame, skippableFrame } from './zstd-streams.js';

function split(bytes: Uint8Array, chunkSize = bytes.length, cutBlocks = false): FramePiece[] {
  const splitter = new ZstdFrameSplitter(cutBlocks);
  const pieces: FramePiece[] = [];
  for (let at = 0; at < bytes.length; at += chunkSize) {
    pieces.push(...splitter.push(bytes.subarray(at, at + chunkSize)));
  }
  splitter.finish();
  return pieces;
}

function frames(pieces: readonly FramePiece[]): Buffer[] {
  const found: Buffer[] = [Buffer.alloc(0)];
  for (const { bytes, isLast } of pieces) {
    found.push(Buffer.concat([found.pop() as Buffer, bytes]));
    if (isLast) found.push(Buffer.alloc(0));
  }
  return found;
}

const A = rawFrame(['hello ', 'world'], { checksum: true });
const B = rleFrame('x', 100_000);
const C = rawFrame([]);

test('frames are told apart and skippable ones left out, however the bytes are cut', (t) => {
  const stream = Buffer.concat([skippableFrame(70), A, B, skippableFrame(0), C, skippableFrame(3)]);
  for (const chunkSize of [stream.length, 1, 2, 3, 7, 50]) {
    t.deepEqual(frames(split(stream, chunkSize)), [A, B, C, Buffer.alloc(0)], `${chunkSize}`);
    t.deepEqual(frames(split(stream, chunkSize, true)), [A, B, C, Buffer.alloc(0)], `${chunkSize}`);
  }
});

test('with cut blocks, no piece goes beyond a block', (t) => {
  t.true(
    split(rawFrame(['a'.repeat(99), 'b'.repeat(99)]), 1000, true).every(({ bytes }) => bytes.length < 120),
  );
  t.true(split(rawFrame(['a'.repeat(99), 'b'.repeat(99)]), 1000).some(({ bytes }) => bytes.length > 200));
});

test('a stream cut anywhere but between frames is CORRUPT', (t) => {
  const stream = Buffer.concat([A, skippableFrame(2), C]);
  const ends = [0, A.length, A.length + 10, stream.length];
  for (let length = 1; length <= stream.length; length++) {
    if (ends.includes(length)) t.notThrows(() => split(stream.subarray(0, length)));
    else t.throws(() => split(stream.subarray(0, length)), { code: 'CORRUPT' }, `${length}`);
  }
});

test('garbage, reserved values, huge windows and dictionaries are refused', (t) => {
  t.throws(() => split(Buffer.concat([A, Buffer.from('garbage')])), { code: 'CORRUPT' });
  t.throws(() => split(Buffer.from('28b52ffd0800', 'hex')), { code: 'CORRUPT' });
  t.throws(() => split(Buffer.from('28b52ffd0000070000', 'hex')), { code: 'CORRUPT' });
  t.throws(() => split(Buffer.from('28b52ffd00f8000000', 'hex')), { code: 'TOO_LARGE' });
  t.throws(() => split(Buffer.from('28b52ffde0ffffffffffffffff', 'hex')), { code: 'TOO_LARGE' });
  t.throws(() => split(Buffer.from('28b52ffd0100050100', 'hex')), { code: 'UNSUPPORTED_COMPRESSION' });
});

test('a zstd stream is known by its first bytes', (t) => {
  t.true(startsZstdFrame(A));
  t.true(startsZstdFrame(skippableFrame(1)));
  t.false(startsZstdFrame(A.subarray(0, 3)));
  t.false(startsZstdFrame(Buffer.from('ustar')));
});
