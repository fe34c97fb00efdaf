import { createHash } from 'node:crypto';
import test from 'ava';
import fc from 'fast-check';
import { LayerError } from '../../src/layer/expand.js';
import { LayerRecipe, LITERAL_PIECE, RECIPE_FIELDS } from '../../src/layer/recipe.js';
import { RecipeBuilder } from '../../src/layer/recipe-builder.js';
import { Random } from '../image/random.js';
import { randomLayer } from '../system/random-layers.js';
import { archive, gnuSparse, member } from '../tar/archive.js';
import { chunksOf, expand } from './layers.js';

/** The `length` bytes of the VHD at `offset`, made of the tar. */
function rebuild(recipe: LayerRecipe, tar: Uint8Array, offset = 0, length = recipe.size): Buffer {
  const bytes = Buffer.alloc(length);
  recipe.fillLiterals(offset, bytes);
  for (const range of recipe.tarRanges(offset, length)) {
    bytes.set(tar.subarray(range.tar, range.tar + range.length), range.vhd - offset);
  }
  return bytes;
}

const CONTENT = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 11 + (i >> 9)) & 0xff));
const TAR = archive(
  member({ name: 'first' }, CONTENT),
  member({ name: 'copy' }, CONTENT),
  member({ name: 'alias', type: '1', linkname: 'first' }),
  member({ name: 'empty' }),
  gnuSparse('sparse', 900_000_000_000, [
    [0, 'start'],
    [70_000, 'middle'],
    [899_999_999_000, 'end'],
  ]),
  member({ name: 'last' }, 'x'),
);

/** What the recipe says, with what is compressed left open: the bytes of deflate differ between versions of zlib. */
function golden(recipe: LayerRecipe): string {
  const hash = createHash('sha256').update(`${recipe.diffID} ${recipe.size} ${recipe.tail}`);
  for (let i = 0; i < recipe.extentCount; i++) hash.update(JSON.stringify(recipe.extent(i)));
  return hash.digest('hex');
}

test('the layer VHD is rebuilt from its tar, byte for byte, in pieces of any place', async (t) => {
  const { recipe: encoded, vhd, diffID } = await expand(chunksOf(TAR));
  const recipe = LayerRecipe.decode(encoded as Uint8Array);
  t.is(recipe.diffID, diffID);
  t.is(recipe.size, vhd.length);
  // The copy and the link take no bytes of the VHD.
  t.is(recipe.extentCount, 5);
  t.true(rebuild(recipe, TAR).equals(vhd));
  t.true((encoded as Uint8Array).length < 2000);
  t.is(golden(recipe), 'e490b0f3c871ad7335399f3b3a7a38158e0c36cd1088b12939d502bfe2d9ce5e');
  fc.assert(
    fc.property(fc.nat(vhd.length - 1), fc.nat(200_000), (offset, most) => {
      const length = Math.min(most, vhd.length - offset);
      return rebuild(recipe, TAR, offset, length).equals(vhd.subarray(offset, offset + length));
    }),
  );
});

test('so are random layers, and those of many files', async (t) => {
  for (let seed = 1; seed <= 8; seed++) {
    const tar = randomLayer(new Random(seed), { crowd: seed === 1 ? 9000 : 0 });
    const { recipe, vhd } = await expand(chunksOf(tar, 1000 + seed * 7777));
    const decoded = LayerRecipe.decode(recipe as Uint8Array);
    t.true(rebuild(decoded, tar).equals(vhd), `seed ${seed}`);
    if (seed === 1) t.true(decoded.size - decoded.tail > LITERAL_PIECE);
  }
});

test('an empty layer has a recipe', async (t) => {
  const tar = archive();
  const { recipe, vhd } = await expand(chunksOf(tar));
  t.true(rebuild(LayerRecipe.decode(recipe as Uint8Array), tar).equals(vhd));
});

test('numbers of any size are kept', async (t) => {
  const builder = new RecipeBuilder();
  const extents = [
    { vhd: 4096, tar: 512, length: 1 },
    { vhd: 2 ** 40, tar: 2 ** 41, length: 2 ** 42 },
    { vhd: 2 ** 50, tar: 2 ** 51, length: 127 },
    { vhd: 2 ** 50 + 128, tar: 2 ** 51 + 127, length: 128 },
  ];
  for (const { vhd, tar, length } of extents) builder.add(vhd, tar, length);
  builder.keep();
  builder.add(2 ** 51, 2 ** 52, 5);
  builder.drop();
  const diffID = `sha256:${'a'.repeat(64)}`;
  const encoded = await builder.finish({
    diffID,
    size: 2 ** 52 + 512,
    superblock: new Uint8Array(4096),
    tail: [new Uint8Array(512)],
  });
  const recipe = LayerRecipe.decode(encoded as Uint8Array);
  t.deepEqual(
    Array.from({ length: recipe.extentCount }, (_, i) => recipe.extent(i)),
    extents,
  );
  t.is(recipe.extentAfter(0), 0);
  t.is(recipe.extentAfter(4097), 1);
  t.is(recipe.extentAfter(2 ** 51), 4);
});

test('damaged and hostile recipes are CORRUPT, or describe no more than their length', async (t) => {
  const { recipe } = await expand(chunksOf(TAR));
  const encoded = Buffer.from(recipe as Uint8Array);
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(encoded.length - 1), fc.nat(255)), { maxLength: 4 }),
      fc.nat(encoded.length),
      (changes, cut) => {
        const bytes = Buffer.from(encoded.subarray(0, cut % 5 === 0 ? cut : encoded.length));
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        try {
          const decoded = LayerRecipe.decode(bytes);
          const length = Math.min(decoded.size, 1 << 20);
          decoded.fillLiterals(decoded.size - length, Buffer.alloc(length));
          for (const range of decoded.tarRanges(0, decoded.size)) {
            if (range.vhd + range.length > decoded.size) return false;
          }
        } catch (error) {
          if (!(error instanceof LayerError) || error.code !== 'CORRUPT') throw error;
        }
        return true;
      },
    ),
    { numRuns: 2000 },
  );
  const changed = (field: keyof typeof RECIPE_FIELDS, value: number) => {
    const bytes = Buffer.from(encoded);
    bytes.writeUInt32LE(value, RECIPE_FIELDS[field]);
    return () => LayerRecipe.decode(bytes);
  };
  const corrupt = { instanceOf: LayerError, code: 'CORRUPT' };
  t.throws(changed('magic', 0), corrupt);
  t.throws(changed('version', 2), { ...corrupt, message: /version 2/ });
  t.throws(changed('extents', 0xffffffff), corrupt);
  t.throws(changed('extentBytes', 1), corrupt);
  t.throws(changed('compressedExtentBytes', 0xffffffff), corrupt);
  t.throws(changed('tail', 0), corrupt);
  t.throws(() => LayerRecipe.decode(new Uint8Array()), corrupt);
});
