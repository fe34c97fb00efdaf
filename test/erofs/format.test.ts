import test from 'ava';
import * as format from '../../src/erofs/format.js';
import { type Field, littleEndian, recordType, viewOf } from '../../src/erofs/record.js';

test('the structures have the sizes of erofs_fs.h', (t) => {
  t.is(format.superblock.size, 128);
  t.is(format.deviceSlot.size, 128);
  t.is(format.compactInode.size, 32);
  t.is(format.extendedInode.size, 64);
  t.is(format.xattrHeader.size, 12);
  t.is(format.xattrEntry.size, 4);
  t.is(format.chunkIndex.size, 8);
  t.is(format.dirent.size, 12);
});

test('every field of a structure keeps its value and touches no other', (t) => {
  for (const type of [format.superblock, format.extendedInode, format.compactInode, format.deviceSlot]) {
    const fields = type.fields as unknown as Record<string, Field<never>>;
    for (const [name, field] of Object.entries(fields)) {
      const record = new Uint8Array(type.size);
      const ones = new Uint8Array(field.width).fill(0xff);
      record.set(ones, field.offset);
      const value = field.get(viewOf(record), 0);
      const copy = new Uint8Array(type.size);
      if (field.width === 8 && typeof value === 'number') continue;
      field.set(viewOf(copy), 0, value);
      t.deepEqual(copy, record, name);
    }
  }
});

test('64-bit numbers are exact up to 2^53', (t) => {
  const record = recordType(8, { value: littleEndian.u64(0) });
  const bytes = new Uint8Array(8);
  for (const value of [0, 1, 0xffffffff, 2 ** 32, 2 ** 53 - 1]) {
    record.encode(viewOf(bytes), 0, { value });
    t.is(record.decode(viewOf(bytes), 0).value, value);
    t.is(viewOf(bytes).getBigUint64(0, true), BigInt(value));
  }
});

test('a record with overlapping fields is refused', (t) => {
  const { u32 } = littleEndian;
  t.throws(() => recordType(8, { a: u32(0), b: u32(2) }), { instanceOf: RangeError });
  t.throws(() => recordType(4, { a: u32(0), b: u32(4) }), { instanceOf: RangeError });
});

test('device numbers survive the encoding of new_encode_dev', (t) => {
  for (const [major, minor] of [
    [0, 0],
    [8, 1],
    [259, 70000],
    [0xfff, 0xfffff],
  ] as const) {
    t.deepEqual(format.decodeDevice(format.encodeDevice(major, minor)), { major, minor });
  }
  t.is(format.encodeDevice(259, 70000), 0x11110370);
});

test('the checksum is CRC32C without the final inversion', (t) => {
  // The check value of CRC32C, 0xe3069283, is that of "123456789" with the inversion.
  t.is(~format.superblockChecksum(Buffer.from('123456789')) >>> 0, 0xe3069283);
});
