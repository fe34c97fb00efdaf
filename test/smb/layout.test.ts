import test from 'ava';
import fc from 'fast-check';
import {
  bytes,
  constant,
  Layout,
  length64,
  reserved,
  slice,
  u8,
  u16,
  u32,
  u64,
} from '../../src/smb/layout.js';

const EXAMPLE = new Layout('example', {
  magic: constant(u32, 0x1234, 'magic'),
  small: u8,
  pad: reserved(1),
  short: u16,
  length: length64,
  wide: u64,
  raw: bytes(4),
});

test('what is encoded decodes to the same values, wherever it lies', (t) => {
  const values = fc.record({
    small: fc.nat(255),
    short: fc.nat(65535),
    length: fc.maxSafeNat(),
    wide: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    raw: fc.uint8Array({ minLength: 4, maxLength: 4 }).map((b) => Buffer.from(b)),
  });
  fc.assert(
    fc.property(values, fc.nat(20), (value, at) => {
      const buffer = Buffer.alloc(at + EXAMPLE.size + 3, 0xee);
      EXAMPLE.encode(value, buffer, at);
      t.deepEqual(EXAMPLE.decode(buffer, at), value);
      t.is(buffer[at + EXAMPLE.offsets.pad], 0);
    }),
  );
});

test('a buffer that is short, a wrong constant and a length beyond 2^53 are protocol errors', (t) => {
  const good = EXAMPLE.encode({ small: 1, short: 2, length: 3, wide: 4n, raw: Buffer.alloc(4) });
  t.throws(() => EXAMPLE.decode(good, 1), {
    code: 'PROTOCOL',
    message: /example: 27 bytes where 28 are due/,
  });
  t.throws(() => EXAMPLE.decode(good, -1), { code: 'PROTOCOL' });
  t.throws(() => EXAMPLE.decode(Buffer.concat([Buffer.alloc(4), good.subarray(4)])), {
    code: 'PROTOCOL',
    message: /magic/,
  });
  const long = Buffer.from(good);
  long[EXAMPLE.offsets.length + 7] = 1;
  t.throws(() => EXAMPLE.decode(long), { code: 'PROTOCOL' });
});

test('a slice outside its buffer is a protocol error', (t) => {
  const buffer = Buffer.alloc(10);
  t.is(slice(buffer, 4, 6, 'x').length, 6);
  for (const [offset, length] of [
    [5, 6],
    [11, 0],
    [-1, 2],
    [0, -1],
  ] as const) {
    t.throws(() => slice(buffer, offset, length, 'x'), { code: 'PROTOCOL' });
  }
});
