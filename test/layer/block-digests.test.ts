import { createHash } from 'node:crypto';
import test from 'ava';
import { BlockDigests, isBlockSize } from '../../src/layer/block-digests.js';
import { LayerError } from '../../src/layer/layer-error.js';

const DIFF_ID = `sha256:${'ab'.repeat(32)}`;
const CONTENT = Buffer.from(Array.from({ length: 9000 }, (_, i) => i % 251));

function digestsOf(content: Buffer, blockSize: number): BlockDigests {
  const digests: Buffer[] = [];
  for (let at = 0; at < content.length; at += blockSize) {
    digests.push(
      createHash('sha256')
        .update(content.subarray(at, at + blockSize))
        .digest(),
    );
  }
  return new BlockDigests({
    diffID: DIFF_ID,
    blockSize,
    size: content.length,
    digests: Buffer.concat(digests),
  });
}

test('block digests survive encoding, in the form of FORMAT.md', (t) => {
  const digests = digestsOf(CONTENT, 4096);
  const encoded = Buffer.from(digests.encode());
  t.is(encoded.length, 64 + 3 * 32);
  t.is(encoded.toString('latin1', 0, 8), 'ORCADGST');
  t.is(encoded.readUInt32LE(8), 1);
  t.is(encoded.readUInt32LE(12), 4096);
  t.is(encoded.readBigUInt64LE(16), 9000n);
  t.is(encoded.toString('hex', 24, 56), 'ab'.repeat(32));
  const decoded = BlockDigests.decode(encoded);
  t.deepEqual(Buffer.from(decoded.encode()), encoded);
  t.is(decoded.diffID, DIFF_ID);
  t.is(decoded.blockSize, 4096);
  t.is(decoded.size, 9000);
  t.is(decoded.count, 3);
});

test('a block verifies only as a whole and in its place', (t) => {
  const digests = digestsOf(CONTENT, 4096);
  t.is(digests.length(2), 808);
  for (let i = 0; i < 3; i++)
    t.true(digests.verify(i, CONTENT.subarray(i * 4096, i * 4096 + digests.length(i))));
  t.false(digests.verify(0, CONTENT.subarray(0, 4095)));
  t.false(digests.verify(0, CONTENT.subarray(1, 4097)));
  t.false(digests.verify(1, CONTENT.subarray(0, 4096)));
  t.throws(() => digests.verify(3, CONTENT), { instanceOf: RangeError });
  t.throws(() => digests.digest(-1), { instanceOf: RangeError });
});

test('damaged block digests are CORRUPT, at any length and any byte of the header', (t) => {
  const encoded = Buffer.from(digestsOf(CONTENT, 4096).encode());
  for (let length = 0; length < encoded.length; length++) {
    const error = t.throws(() => BlockDigests.decode(encoded.subarray(0, length)), {
      instanceOf: LayerError,
    });
    t.is(error.code, 'CORRUPT');
  }
  for (const at of [0, 8, 12, 13, 18, 21, 60]) {
    const damaged = Buffer.from(encoded);
    damaged[at] = (damaged[at] as number) ^ 0x55;
    t.throws(() => BlockDigests.decode(damaged), { code: 'CORRUPT' }, `${at}`);
  }
});

test('the block size is a power of two from 4 KiB to 16 MiB', (t) => {
  t.deepEqual([4096, 131072, 16 << 20].map(isBlockSize), [true, true, true]);
  t.deepEqual([0, 2048, 4097, 12288, 32 << 20, 1.5, Number.NaN].map(isBlockSize), Array(7).fill(false));
});
