import { createHash } from 'node:crypto';
import test from 'ava';
import { DISK_SIZE_MAX, footer, geometry, vhdChecksum } from '../../src/vhd/footer.js';
import { fixedFooter, VhdError } from '../../src/vhd/vhd.js';

const ID = Buffer.from('00112233445566778899aabbccddeeff', 'hex');

test('the footer has 512 bytes and a valid checksum', (t) => {
  const bytes = fixedFooter(8192, ID);
  t.is(bytes.length, 512);
  const values = footer.decode(new DataView(bytes.buffer), 0);
  t.is(Buffer.from(values.cookie).toString(), 'conectix');
  t.is(values.currentSize, 8192);
  t.is(values.originalSize, 8192);
  t.is(values.dataOffset, -1n);
  t.is(values.timestamp, 0);
  t.deepEqual(Buffer.from(values.uniqueId), ID);
  t.is(values.checksum, vhdChecksum(bytes, 64));
});

test('the footer is a function of size and id', (t) => {
  const digest = createHash('sha256')
    .update(fixedFooter(1 << 20, ID))
    .digest('hex');
  t.is(digest, '87b679d41d99942fb882e4954e58f2a3a1fc07032e74a9b0683b5a76679efa1f');
});

test('the geometry follows the specification', (t) => {
  t.deepEqual(geometry(8192), { cylinders: 0, heads: 4, sectorsPerTrack: 17 });
  t.deepEqual(geometry(64 << 20), { cylinders: 963, heads: 8, sectorsPerTrack: 17 });
  t.deepEqual(geometry(2 ** 30), { cylinders: 2080, heads: 16, sectorsPerTrack: 63 });
  t.deepEqual(geometry(DISK_SIZE_MAX), { cylinders: 65535, heads: 16, sectorsPerTrack: 255 });
});

test('what a VHD cannot hold is refused', (t) => {
  t.throws(() => fixedFooter(DISK_SIZE_MAX + 512, ID), { instanceOf: VhdError, code: 'TOO_LARGE' });
  t.throws(() => fixedFooter(100, ID), { instanceOf: RangeError });
  t.throws(() => fixedFooter(512, ID.subarray(1)), { instanceOf: RangeError });
});
