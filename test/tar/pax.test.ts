import test from 'ava';
import { encodePaxRecord, parsePax, paxInteger, paxText, paxTime, paxXattrs } from '../../src/tar/pax.js';
import { paxRecords } from './archive.js';

function bytes(text: string): Uint8Array {
  return Buffer.from(text, 'latin1');
}

test('records are taken as bytes, with newlines, NULs and equals signs in the value', (t) => {
  const value = Buffer.from('ff00fe0a803d0a', 'hex');
  const header = parsePax(
    paxRecords([
      ['path', 'caf\xe9'],
      ['SCHILY.xattr.user.bin', value],
    ]),
  );
  t.deepEqual([...header.values.keys()], ['path', 'SCHILY.xattr.user.bin']);
  t.is(paxText('path', header.values.get('path') as Uint8Array), 'caf\xe9');
  t.deepEqual(Buffer.from(header.values.get('SCHILY.xattr.user.bin') as Uint8Array), value);
});

test('the length of a record counts its own digits', (t) => {
  for (const length of [0, 1, 2, 86, 87, 88, 89, 90, 985, 986, 987, 99_990]) {
    const record = encodePaxRecord('key', 'v'.repeat(length));
    t.is(Number.parseInt(Buffer.from(record).toString('latin1'), 10), record.length);
    t.is(parsePax(record).values.get('key')?.length, length);
  }
});

test('the last record of a key counts', (t) => {
  t.is(
    paxText(
      'path',
      parsePax(
        paxRecords([
          ['path', 'a'],
          ['path', 'b'],
        ]),
      ).values.get('path') as Uint8Array,
    ),
    'b',
  );
});

test('malformed records are refused', (t) => {
  for (const text of [
    '6 a=b',
    '7 a=b\n',
    '5 a=b\n',
    '0 a=b\n',
    'x a=b\n',
    ' a=b\n',
    '6a=b\n',
    '5 =b\n',
    '5 ab\n',
    '99999999999999999999999 a=b\n',
    '\n',
    '6 a=b\n\0',
  ]) {
    t.throws(() => parsePax(bytes(text)), { code: 'INVALID_PAX' }, JSON.stringify(text));
  }
});

test('times have nanoseconds and may lie before 1970', (t) => {
  t.is(paxTime('mtime', bytes('1234567890.123456789')), 1_234_567_890_123_456_789n);
  t.is(paxTime('mtime', bytes('1.5')), 1_500_000_000n);
  t.is(paxTime('mtime', bytes('-1.5')), -1_500_000_000n);
  t.is(paxTime('mtime', bytes('-0.000000001')), -1n);
  t.is(paxTime('mtime', bytes('7')), 7_000_000_000n);
  t.is(paxTime('mtime', bytes('7.')), 7_000_000_000n);
  t.is(paxTime('mtime', bytes('0.1234567899')), 123_456_789n);
  for (const text of ['', '-', '.5', '1e9', '1.2.3', '1'.repeat(19), ' 1']) {
    t.throws(() => paxTime('mtime', bytes(text)), { code: 'INVALID_PAX' }, text);
  }
});

test('integers are decimal and within 53 bits', (t) => {
  t.is(paxInteger('size', bytes('9007199254740991')), Number.MAX_SAFE_INTEGER);
  t.throws(() => paxInteger('size', bytes('9007199254740992')), { code: 'TOO_LARGE' });
  for (const text of ['', '-1', '0x1', '1 ']) {
    t.throws(() => paxInteger('size', bytes(text)), { code: 'INVALID_PAX' }, text);
  }
});

test('a path with a NUL in it is refused', (t) => {
  t.throws(() => paxText('path', bytes('a\0b')), { code: 'INVALID_PAX' });
});

test('xattrs come from SCHILY records as they are and from LIBARCHIVE records decoded', (t) => {
  const { values } = parsePax(
    paxRecords([
      ['LIBARCHIVE.xattr.user.both', 'AAAA'],
      ['SCHILY.xattr.user.both', '\xff\0'],
      ['LIBARCHIVE.xattr.user.a%3Db%25', '//4='],
      ['SCHILY.xattr.user.empty', ''],
    ]),
  );
  const xattrs = [...paxXattrs(values)].map(([name, value]) => [name, Buffer.from(value).toString('hex')]);
  t.deepEqual(Object.fromEntries(xattrs), { 'user.both': 'ff00', 'user.a=b%': 'fffe', 'user.empty': '' });
});

test('an xattr without a name is refused', (t) => {
  t.throws(() => paxXattrs(new Map([['SCHILY.xattr.', bytes('x')]])), { code: 'INVALID_PAX' });
  t.throws(() => paxXattrs(new Map([['LIBARCHIVE.xattr.a%00', bytes('x')]])), { code: 'INVALID_PAX' });
});
