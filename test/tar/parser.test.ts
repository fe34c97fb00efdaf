import { Readable } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import { encodeHeader, sealHeader } from '../../src/tar/header.js';
import { parseTar } from '../../src/tar/parser.js';
import { MAX_LONG_NAME_SIZE, MAX_PAX_SIZE, TarError } from '../../src/tar/tar.js';
import { archive, END, gnuSparse, long, member, type ParsedArchive, padded, parse, pax } from './archive.js';

/** Parses whole, byte by byte, and in pieces of 511 bytes: all must give the same. */
function parseAnyhow(t: ExecutionContext, bytes: Uint8Array): ParsedArchive {
  const whole = parse(bytes);
  t.deepEqual(parse(bytes, 1), whole);
  t.deepEqual(parse(bytes, 511), whole);
  return whole;
}

function only(t: ExecutionContext, bytes: Uint8Array): ParsedArchive['entries'][number] {
  const { entries, warnings } = parseAnyhow(t, bytes);
  t.deepEqual(warnings, []);
  t.is(entries.length, 1);
  return entries[0] as ParsedArchive['entries'][number];
}

function refused(t: ExecutionContext, code: string, bytes: Uint8Array): TarError {
  for (const chunkSize of [bytes.length, 1]) {
    t.is(t.throws(() => parse(bytes, chunkSize), { instanceOf: TarError }).code, code);
  }
  return t.throws(() => parse(bytes), { instanceOf: TarError });
}

test('each type of entry is told apart', (t) => {
  const { entries } = parseAnyhow(
    t,
    archive(
      member({ name: 'file' }, 'data'),
      member({ name: 'old', type: '\0', magic: '' }, 'v7'),
      member({ name: 'contiguous', type: '7' }, 'c'),
      member({ name: 'hard', type: '1', linkname: 'file', size: 4 }),
      member({ name: 'soft', type: '2', linkname: '/file' }),
      member({ name: 'tty', type: '3', major: 4, minor: 64 }),
      member({ name: 'sda', type: '4', major: 8, minor: 1 }),
      member({ name: 'dir/', type: '5', size: 99 }),
      member({ name: 'pipe', type: '6' }),
      member({ name: 'v7dir/', type: '\0', magic: '' }),
    ),
  );
  t.deepEqual(
    entries.map(({ name, type, linkname, content, major, minor }) => [
      name,
      type,
      linkname,
      content,
      major,
      minor,
    ]),
    [
      ['file', 'file', '', 'data', 0, 0],
      ['old', 'file', '', 'v7', 0, 0],
      ['contiguous', 'file', '', 'c', 0, 0],
      ['hard', 'hardlink', 'file', '', 0, 0],
      ['soft', 'symlink', '/file', '', 0, 0],
      ['tty', 'chardev', '', '', 4, 64],
      ['sda', 'blockdev', '', '', 8, 1],
      ['dir/', 'directory', '', '', 0, 0],
      ['pipe', 'fifo', '', '', 0, 0],
      ['v7dir/', 'directory', '', '', 0, 0],
    ],
  );
});

test('a pax header overrides each field of the header', (t) => {
  const entry = only(
    t,
    archive(
      pax([
        ['hdrcharset', 'BINARY'],
        ['path', 'caf\xe9/\xff'],
        ['uid', '3000000000'],
        ['gid', '3000000001'],
        ['mtime', '-1.5'],
        ['size', '5'],
        ['SCHILY.xattr.security.capability', '\x01\0\0\x02\xff\n'],
      ]),
      encodeHeader({ name: 'short', size: 0, mode: 0o104755 }),
      padded('hello'),
    ),
  );
  t.is(entry.name, 'caf\xe9/\xff');
  t.is(entry.uid, 3_000_000_000);
  t.is(entry.gid, 3_000_000_001);
  t.is(entry.mode, 0o4755);
  t.is(entry.mtime, -1_500_000_000n);
  t.is(entry.content, 'hello');
  t.deepEqual(
    Buffer.from(entry.xattrs.get('security.capability') as Uint8Array),
    Buffer.from('\x01\0\0\x02\xff\n', 'latin1'),
  );
});

test('a pax header applies to one entry, a global one to all that follow', (t) => {
  const { entries, warnings } = parseAnyhow(
    t,
    archive(
      member({ name: 'a' }),
      pax(
        [
          ['uid', '7'],
          ['gid', '8'],
          ['comment', 'x'],
          ['path', 'nonsense'],
        ],
        'g',
      ),
      member({ name: 'b' }),
      pax([
        ['uid', '9'],
        ['gid', ''],
      ]),
      pax([['SCHILY.xattr.user.g', 'v']], 'g'),
      member({ name: 'c', gid: 1 }),
      member({ name: 'd' }),
    ),
  );
  t.deepEqual(
    entries.map(({ name, uid, gid, xattrs }) => [name, uid, gid, xattrs.size]),
    [
      ['a', 0, 0, 0],
      ['b', 7, 8, 0],
      ['c', 9, 1, 1],
      ['d', 7, 8, 1],
    ],
  );
  t.deepEqual(warnings, ['tar: path in a global extended header is ignored']);
});

test('the size of a pax header is that of its entry, not of a long name in between', (t) => {
  const name = 'n'.repeat(300);
  const { entries } = parseAnyhow(
    t,
    archive(
      pax([['size', '1024']]),
      long('L', name),
      encodeHeader({ size: 0 }),
      Buffer.alloc(1024, 'x'),
      member({ name: 'z' }),
    ),
  );
  t.deepEqual(
    entries.map((entry) => [entry.name, entry.content.length]),
    [
      [name, 1024],
      ['z', 0],
    ],
  );
});

test('GNU long names and long link targets, in either order, before or after a pax header', (t) => {
  const name = `${'d/'.repeat(200)}f`;
  const target = 't'.repeat(700);
  const records = pax([['mtime', '5']]);
  const link = member({ name: 'short', linkname: 'short', type: '2', isGnu: true });
  for (const before of [
    [long('L', name), long('K', target), records],
    [records, long('K', target), long('L', name)],
  ]) {
    const entry = only(t, archive(...before, link));
    t.is(entry.name, name);
    t.is(entry.linkname, target);
    t.is(entry.mtime, 5_000_000_000n);
  }
});

test('negative and huge numbers in base-256', (t) => {
  const entry = only(t, archive(member({ name: 'a', uid: 0xfffffffe, gid: 2_097_152, mtime: -2 })));
  t.is(entry.uid, 0xfffffffe);
  t.is(entry.gid, 2_097_152);
  t.is(entry.mtime, -2_000_000_000n);
});

const PIECES = Array.from({ length: 50 }, (_, i) => [i * 1000, `piece ${i}`] as const);
const REAL_SIZE = 60_000;
const STORED = PIECES.map(([, text]) => text).join('');

function sparseContent(): string {
  const content = Buffer.alloc(REAL_SIZE);
  for (const [offset, text] of PIECES) content.write(text, offset, 'latin1');
  return content.toString('latin1');
}

test('sparse files: old GNU format with extension blocks', (t) => {
  for (const count of [0, 1, 4, 5, 25, 26, 50]) {
    const { entries } = parseAnyhow(
      t,
      archive(gnuSparse('s', REAL_SIZE, PIECES.slice(0, count)), member({ name: 'after' }, 'x')),
    );
    t.is(entries[0]?.size, REAL_SIZE);
    t.is(entries[0]?.segments?.length, count);
    t.is(entries[1]?.content, 'x');
    if (count === 50) t.is(entries[0]?.content, sparseContent());
  }
});

test('sparse files: pax formats 0.0, 0.1 and 1.0', (t) => {
  const pairs = PIECES.map(([offset, text]) => [offset, text.length] as const);
  const map00: [string, string][] = pairs.flatMap(([offset, length]) => [
    ['GNU.sparse.offset', `${offset}`],
    ['GNU.sparse.numbytes', `${length}`],
  ]);
  const map10 = padded(`${pairs.length}\n${pairs.flat().join('\n')}\n`);
  const forms = {
    '0.0': Buffer.concat([
      pax([['GNU.sparse.size', `${REAL_SIZE}`], ['GNU.sparse.numblocks', '50'], ...map00]),
      member({ name: 'real' }, STORED),
    ]),
    '0.1': Buffer.concat([
      pax([
        ['GNU.sparse.size', `${REAL_SIZE}`],
        ['GNU.sparse.name', 'real'],
        ['GNU.sparse.map', pairs.flat().join(',')],
      ]),
      member({ name: 'GNUSparseFile.1/real' }, STORED),
    ]),
    '1.0': Buffer.concat([
      pax([
        ['GNU.sparse.major', '1'],
        ['GNU.sparse.minor', '0'],
        ['GNU.sparse.name', 'real'],
        ['path', 'GNUSparseFile.1/real'],
        ['GNU.sparse.realsize', `${REAL_SIZE}`],
      ]),
      member({ name: 'GNUSparseFile.1/real' }, Buffer.concat([map10, Buffer.from(STORED)])),
    ]),
  };
  for (const [form, bytes] of Object.entries(forms)) {
    const { entries } = parseAnyhow(t, archive(bytes, member({ name: 'after' }, 'x')));
    t.is(entries[0]?.name, 'real', form);
    t.is(entries[0]?.size, REAL_SIZE, form);
    t.is(entries[0]?.content, sparseContent(), form);
    t.is(entries[1]?.content, 'x', form);
  }
});

test('sparse files that contradict themselves are refused', (t) => {
  refused(t, 'INVALID_SPARSE', archive(gnuSparse('s', 10, [[8, 'abc']])));
  refused(
    t,
    'INVALID_SPARSE',
    archive(
      gnuSparse('s', 100, [
        [8, 'abc'],
        [4, 'x'],
      ]),
    ),
  );
  const star = Buffer.from(gnuSparse('s', 10, [[0, 'abc']]));
  star.write('ustar\x0000', 257, 'latin1');
  sealHeader(star.subarray(0, 512));
  t.regex(refused(t, 'UNSUPPORTED', archive(star)).message, /star/);
});

test('unknown types are skipped with a warning that names the entry', (t) => {
  const { entries, warnings } = parseAnyhow(
    t,
    archive(
      member({ name: 'label', type: 'V' }),
      member({ name: 'odd', type: 'Q' }, 'q'.repeat(600)),
      member({ name: 'a' }, 'x'),
    ),
  );
  t.deepEqual(
    entries.map(({ name }) => name),
    ['a'],
  );
  t.deepEqual(warnings, ['tar: "label" of type "V" is skipped', 'tar: "odd" of type "Q" is skipped']);
});

test('a part of a multi-volume archive is refused', (t) => {
  t.regex(refused(t, 'UNSUPPORTED', archive(member({ name: 'part', type: 'M' }, 'x'))).message, /"part"/);
});

test('the listing of a GNU incremental directory is skipped', (t) => {
  const { entries } = parseAnyhow(
    t,
    archive(member({ name: 'd/', type: 'D' }, 'Yfile\0\0'), member({ name: 'd/file' }, 'x')),
  );
  t.deepEqual(
    entries.map(({ type, content }) => [type, content]),
    [
      ['directory', ''],
      ['file', 'x'],
    ],
  );
});

test('what follows the two zero blocks is ignored', (t) => {
  t.is(
    only(t, Buffer.concat([archive(member({ name: 'a' }, 'x')), Buffer.alloc(3000, 'garbage')])).content,
    'x',
  );
});

test('a missing end mark is a warning, one zero block before something else an error', (t) => {
  const one = member({ name: 'a' }, 'x');
  t.is(parseAnyhow(t, one).warnings.length, 1);
  t.is(parseAnyhow(t, new Uint8Array(0)).warnings.length, 1);
  t.is(parseAnyhow(t, Buffer.concat([one, END.subarray(512)])).warnings.length, 1);
  refused(t, 'INVALID_HEADER', Buffer.concat([one, END.subarray(512), one, END]));
});

test('an archive cut anywhere else is TRUNCATED', (t) => {
  const bytes = Buffer.concat([pax([['mtime', '5']]), member({ name: 'a' }, 'x'.repeat(700))]);
  for (let length = 1; length < bytes.length; length++) {
    const error = t.throws(() => parse(bytes.subarray(0, length)), { instanceOf: TarError });
    t.is(error.code, 'TRUNCATED', `${length}`);
  }
});

test('what is no tar is refused at once', (t) => {
  t.regex(refused(t, 'INVALID_HEADER', Buffer.alloc(2048, 'no tar')).message, /not a tar header/);
});

test('an extended header without an entry is refused', (t) => {
  refused(t, 'INVALID_HEADER', archive(pax([['mtime', '5']])));
});

test('errors name the entry', (t) => {
  const bytes = archive(
    pax([
      ['path', 'some/name'],
      ['mtime', 'noon'],
    ]),
    member({ name: 'a' }),
  );
  t.regex(refused(t, 'INVALID_PAX', bytes).message, /some\/name/);
});

test('names and ids that Linux cannot have are refused', (t) => {
  refused(t, 'INVALID_PAX', archive(pax([['path', 'a\0b']]), member({ name: 'a' })));
  refused(t, 'INVALID_HEADER', archive(member({ name: '' })));
  refused(t, 'INVALID_HEADER', archive(pax([['uid', '4294967296']]), member({ name: 'a' })));
  refused(t, 'INVALID_HEADER', archive(member({ name: 'a', gid: -1 })));
  refused(t, 'INVALID_HEADER', archive(member({ name: 'a', size: -1 })));
});

test('oversized extended headers are refused before they are read', (t) => {
  refused(t, 'TOO_LARGE', encodeHeader({ name: 'x', type: 'x', size: MAX_PAX_SIZE + 1 }));
  refused(t, 'TOO_LARGE', encodeHeader({ name: 'L', type: 'L', size: MAX_LONG_NAME_SIZE + 1 }));
  const globals = Array.from({ length: 20 }, (_, i) => pax([[`key${i}`, Buffer.alloc(1 << 20)]], 'g'));
  t.throws(() => parse(archive(...globals)), { code: 'TOO_LARGE' });
});

test('a parser that has failed fails again', async (t) => {
  const chunks = Readable.from([Buffer.alloc(512, 'no tar')]);
  await t.throwsAsync(
    async () => {
      for await (const _ of parseTar(chunks));
    },
    { code: 'INVALID_HEADER' },
  );
});
