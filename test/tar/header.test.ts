import test from 'ava';
import {
  decodeDevice,
  decodeHeader,
  decodeNumber,
  encodeHeader,
  encodeNumber,
  isZeroBlock,
  sealHeader,
} from '../../src/tar/header.js';
import { TAR_BLOCK_SIZE, TarError } from '../../src/tar/tar.js';

function latin1(text: string): Uint8Array {
  return Buffer.from(text, 'latin1');
}

test('a header is decoded to what it was encoded from', (t) => {
  const fields = {
    name: 'a/b',
    linkname: 'c',
    mode: 0o4755,
    uid: 1000,
    gid: 100,
    size: 12345,
    mtime: 1_700_000_000,
    type: '2',
    isGnu: false,
  };
  const block = encodeHeader({ ...fields, major: 8, minor: 1 });
  t.is(block.length, TAR_BLOCK_SIZE);
  t.deepEqual(decodeHeader(block), fields);
  t.deepEqual(decodeDevice(block), { major: 8, minor: 1 });
});

test('numbers survive in octal and, beyond it or below zero, in base-256', (t) => {
  for (const value of [
    0,
    1,
    0o7777777,
    0o10000000,
    0xffffffff,
    2 ** 40,
    Number.MAX_SAFE_INTEGER,
    -1,
    -(2 ** 35),
  ]) {
    const bytes = new Uint8Array(12);
    encodeNumber(bytes, value);
    t.is(decodeNumber(bytes, 'n'), value);
  }
  const id = new Uint8Array(8);
  encodeNumber(id, 0xffffffff);
  t.is(id[0], 0x80);
  t.is(decodeNumber(id, 'n'), 0xffffffff);
});

test('octal numbers may be led and ended by spaces or NULs, and an empty field is zero', (t) => {
  t.is(decodeNumber(latin1('  755 \0'), 'n'), 0o755);
  t.is(decodeNumber(latin1('0000755\0'), 'n'), 0o755);
  t.is(decodeNumber(latin1('77777777'), 'n'), 0o77777777);
  t.is(decodeNumber(latin1('        '), 'n'), 0);
  t.is(decodeNumber(new Uint8Array(8), 'n'), 0);
});

test('what is no number, or one beyond 53 bits, is refused by name', (t) => {
  const error = t.throws(() => decodeNumber(latin1('12x4567\0'), 'uid'), { instanceOf: TarError });
  t.is(error.code, 'INVALID_HEADER');
  t.regex(error.message, /uid/);
  t.throws(() => decodeNumber(latin1('0000008\0'), 'uid'), { code: 'INVALID_HEADER' });
  t.throws(() => decodeNumber(new Uint8Array(12).fill(0x7f).fill(0x80, 0, 1), 'size'), { code: 'TOO_LARGE' });
});

test('the checksum may be the sum of signed or of unsigned bytes, and nothing else', (t) => {
  const block = encodeHeader({ name: 'caf\xe9' });
  t.is(decodeHeader(block).name, 'caf\xe9');
  const unsigned = Number.parseInt(Buffer.from(block).toString('latin1', 148, 154), 8);
  block.set(latin1((unsigned - 256).toString(8).padStart(6, '0')), 148);
  t.is(decodeHeader(block).name, 'caf\xe9');
  block.set(latin1((unsigned - 255).toString(8).padStart(6, '0')), 148);
  t.throws(() => decodeHeader(block), { code: 'INVALID_HEADER' });
});

test('the prefix of ustar leads the name, that of star is shorter, and GNU has times in its place', (t) => {
  const prefix = 'p'.repeat(140);
  t.is(decodeHeader(encodeHeader({ name: 'n', prefix })).name, `${prefix}/n`);

  const star = encodeHeader({ name: 'n', prefix });
  star.set(latin1('tar\0'), 508);
  sealHeader(star);
  t.is(decodeHeader(star).name, `${'p'.repeat(131)}/n`);

  const gnu = encodeHeader({ name: 'n', isGnu: true, prefix: '00000000000\x0000000000000\0' });
  t.is(decodeHeader(gnu).name, 'n');
  t.is(decodeHeader(encodeHeader({ name: 'n', isGnu: true, prefix: 'usr/lib' })).name, 'usr/lib/n');
  t.is(decodeHeader(encodeHeader({ name: 'n', magic: '', prefix })).name, 'n');
});

test('text that does not fit its field is not cut off', (t) => {
  t.throws(() => encodeHeader({ name: 'n'.repeat(101) }), { instanceOf: RangeError });
});

test('a zero block is all zeros', (t) => {
  const block = new Uint8Array(TAR_BLOCK_SIZE);
  t.true(isZeroBlock(block));
  block[511] = 1;
  t.false(isZeroBlock(block));
});
