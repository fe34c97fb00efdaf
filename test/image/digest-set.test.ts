import test from 'ava';
import fc from 'fast-check';
import { decodeDigestSet } from '../../src/image/digest-set.js';
import { BlockDigests } from '../../src/layer/block-digests.js';
import { digestOf } from '../../src/oci/digest.js';

const documents = fc.array(
  fc.record({
    diffID: fc.uint8Array({ minLength: 32, maxLength: 32 }),
    blocks: fc.integer({ min: 1, max: 9 }),
  }),
  { minLength: 1, maxLength: 8 },
);

function digestsOf({ diffID, blocks }: { diffID: Uint8Array; blocks: number }): BlockDigests {
  return new BlockDigests({
    diffID: `sha256:${Buffer.from(diffID).toString('hex')}`,
    blockSize: 4096,
    size: blocks * 4096 - 1,
    digests: Buffer.alloc(32 * blocks, diffID),
  });
}

test('a set gives the documents that it was made of', (t) => {
  fc.assert(
    fc.property(documents, (made) => {
      const all = made.map(digestsOf);
      const set = Buffer.concat(all.map((one) => one.encode()));
      const wanted = all.map((one) => ({ digest: one.name, size: one.encodedSize }));
      const decoded = decodeDigestSet(set, wanted);
      t.deepEqual(
        decoded.map(({ name }) => name),
        all.map(({ name }) => name),
      );
      // Nobody hashes them again.
      for (const one of decoded) t.is(digestOf(one.encode()), one.name);
    }),
  );
});

test('a set that is cut, changed or in another order is refused', (t) => {
  fc.assert(
    fc.property(documents, fc.nat(), fc.integer({ min: 1, max: 255 }), (made, where, change) => {
      const all = made.map(digestsOf);
      const set = Buffer.concat(all.map((one) => one.encode()));
      const wanted = all.map((one) => ({ digest: one.name, size: one.encodedSize }));
      const at = where % set.length;
      t.throws(() => decodeDigestSet(set.subarray(0, at), wanted));
      set[at] = (set[at] as number) ^ change;
      t.throws(() => decodeDigestSet(set, wanted));
    }),
  );
  const [one, other] = [1, 2].map((blocks) => digestsOf({ diffID: Buffer.alloc(32, blocks), blocks })) as [
    BlockDigests,
    BlockDigests,
  ];
  const wanted = [one, other].map(({ name, encodedSize }) => ({ digest: name, size: encodedSize }));
  t.throws(() => decodeDigestSet(Buffer.concat([other.encode(), one.encode()]), wanted));
});
