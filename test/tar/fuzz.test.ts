import test from 'ava';
import fc from 'fast-check';
import { sealHeader } from '../../src/tar/header.js';
import { TarError } from '../../src/tar/tar.js';
import { archive, gnuSparse, long, member, parse, pax } from './archive.js';

const SEEDS = [
  archive(
    member({ name: 'a' }, 'hello'),
    member({ name: 'd/', type: '5' }),
    member({ name: 'l', type: '1', linkname: 'a' }),
  ),
  archive(
    pax([
      ['path', 'x'.repeat(200)],
      ['mtime', '1.5'],
      ['SCHILY.xattr.user.a', '\0\xff'],
    ]),
    member({ name: 'x' }, 'y'),
  ),
  archive(
    long('L', 'n'.repeat(300)),
    long('K', 'k'.repeat(300)),
    member({ name: 'x', type: '2', linkname: 'y' }),
  ),
  archive(
    gnuSparse(
      's',
      5000,
      Array.from({ length: 30 }, (_, i) => [i * 100, 'ab'] as const),
    ),
  ),
  archive(
    pax([
      ['GNU.sparse.major', '1'],
      ['GNU.sparse.minor', '0'],
      ['GNU.sparse.realsize', '9000'],
    ]),
    member({ name: 's' }, `${'2\n0\n3\n8000\n2\n'.padEnd(512, '\0')}abcde`),
  ),
  archive(
    pax(
      [
        ['GNU.sparse.size', '9'],
        ['GNU.sparse.map', '0,2,5,1'],
      ],
      'x',
    ),
    member({ name: 's' }, 'abc'),
  ),
];

const mutation = fc.record({
  seed: fc.nat(SEEDS.length - 1),
  edits: fc.array(fc.tuple(fc.nat(8191), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }),
  cut: fc.option(fc.nat(8191)),
  seal: fc.boolean(),
  chunkSize: fc.constantFrom(1, 7, 512, 100_000),
});

/** Gigabytes that a mutated size claims must not be allocated by the test itself. */
const CONTENT_LIMIT = 1 << 24;

test('mutated archives give events or a TarError, the same for every cut into chunks', (t) => {
  fc.assert(
    fc.property(mutation, ({ seed, edits, cut, seal, chunkSize }) => {
      const bytes = Buffer.from(SEEDS[seed] as Buffer);
      for (const [at, value] of edits) bytes[at % bytes.length] = value;
      // A right checksum lets the edits through to what lies behind it.
      if (seal)
        for (let at = 0; at + 512 <= bytes.length; at += 512)
          if (bytes[at + 257] === 0x75) sealHeader(bytes.subarray(at, at + 512));
      const input = cut === null ? bytes : bytes.subarray(0, cut);
      t.deepEqual(outcome(input, chunkSize), outcome(input, Math.max(input.length, 1)));
    }),
    { numRuns: 3000 },
  );
  t.pass();
});

function outcome(bytes: Uint8Array, chunkSize: number): unknown {
  try {
    return parse(bytes, chunkSize, CONTENT_LIMIT);
  } catch (error) {
    if (!(error instanceof TarError)) throw error;
    return [error.code, error.message];
  }
}
