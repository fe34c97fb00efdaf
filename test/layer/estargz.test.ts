import test from 'ava';
import fc from 'fast-check';
import { ErofsImage, readTree } from '../../src/erofs/reader.js';
import type { Directory, Inode } from '../../src/erofs/tree.js';
import { OrcaError } from '../../src/errors.js';
import { type LayerInMemory, mergeImageIndex, type ReadableLayer } from '../../src/image/image-index.js';
import { BlockDigests } from '../../src/layer/block-digests.js';
import { ChunkMap, compressedBound, MAX_CHUNK_BYTES, MAX_SKIP } from '../../src/layer/chunk-map.js';
import { layOutEstargz } from '../../src/layer/estargz-layout.js';
import { FOOTER_SIZE, parseToc, readToc, tocOffset } from '../../src/layer/estargz-toc.js';
import { LayerError } from '../../src/layer/layer-error.js';
import { LayerRecipe } from '../../src/layer/recipe.js';
import { digestOf } from '../../src/oci/digest.js';
import { openVhd } from '../../src/vhd/vhd.js';
import { Random } from '../image/random.js';
import { archive, member, pax } from '../tar/archive.js';
import { type Estargz, estargz, footer, type JsonEntry } from './estargz.js';
import { chunksOf, contentOf, expand } from './layers.js';

const DIFF_ID = `sha256:${'5a'.repeat(32)}`;
const BIG = new Random(3).bytes(300_000);
const MEMBERS = [
  member({ name: './', type: '5', mode: 0o755, mtime: 5 }),
  member({ name: './big', mode: 0o4755, uid: 7, gid: 8, mtime: 1_700_000_000 }, BIG),
  member({ name: './alias', type: '1', linkname: './big' }),
  member({ name: './copy' }, BIG),
  member({ name: './l', type: '2', linkname: 'big' }),
  member({ name: './dev/null', type: '3', major: 1, minor: 3 }),
  member({ name: './pipe', type: '6' }),
  member({ name: './empty' }),
  Buffer.concat([pax([['SCHILY.xattr.user.x', 'value']]), member({ name: './caf\u00c3\u00a9' }, 'x')]),
  member({ name: './etc/.wh.gone' }),
  member({ name: './var/.wh..wh..opq' }),
];

async function layOut({ blob, tocDigest }: Estargz) {
  const offset = tocOffset(blob.subarray(-FOOTER_SIZE), blob.length) as number;
  const entries = await readToc(blob.subarray(offset, -FOOTER_SIZE), tocDigest);
  const layer = await layOutEstargz(entries, { diffID: DIFF_ID, size: blob.length, tocOffset: offset });
  const recipe = LayerRecipe.decode(layer.recipe);
  return { ...layer, map: ChunkMap.decode(layer.chunkMap), layout: recipe };
}

/** The layer VHD without file data. */
function frame(recipe: LayerRecipe): Buffer {
  const vhd = Buffer.alloc(recipe.size);
  recipe.fillLiterals(0, vhd);
  return vhd;
}

function treeOf(vhd: Buffer): Directory {
  const readAt = (offset: number, length: number) => vhd.subarray(offset, offset + length);
  const payload = openVhd(readAt, vhd.length);
  return readTree(ErofsImage.open(payload.readAt, payload.size));
}

/** What a reader sees, hard links told apart, without where the data lie. */
function shown(inode: Inode, vhd: Buffer | undefined, seen = new Map<Inode, number>()): unknown {
  const known = seen.get(inode);
  if (known !== undefined) return known;
  seen.set(inode, seen.size);
  const { xattrs, ...rest } = inode;
  const common = { ...rest, xattrs: [...xattrs], extents: undefined, children: undefined };
  if (inode.kind === 'file') return { ...common, content: vhd && digestOf(contentOf(vhd, inode)) };
  if (inode.kind !== 'directory') return common;
  const children = [...inode.children].sort(([a], [b]) => (a < b ? -1 : 1));
  return { ...common, children: children.map(([name, child]) => [name, shown(child, vhd, seen)]) };
}

test('a layer laid out by its table of contents has the tree that expanding its tar gives', async (t) => {
  const { layout, map, digests, chunkMap, recipe } = await layOut(estargz(MEMBERS, { chunkSize: 100_000 }));
  const vhd = frame(layout);
  for (const { vhd: at, tar, length } of layout.tarRanges(0, layout.size)) {
    // The chunks in a row are the data of the files.
    const stored = Buffer.concat([BIG, Buffer.from('x')]);
    vhd.set(stored.subarray(tar, tar + length), at);
  }
  const expanded = await expand(chunksOf(archive(...MEMBERS.map((bytes) => Buffer.from(bytes)))));
  t.deepEqual(shown(treeOf(vhd), vhd), shown(expanded.root, expanded.vhd));
  // The copy has no chunks of its own.
  t.is(map.count, 4);
  t.is(map.size, BIG.length + 1);
  t.is(map.recipe, digestOf(recipe));
  t.is(map.chunk(1).offset > map.chunk(0).offset, true);
  t.deepEqual(
    [0, 1, 99_999, 100_000, 299_999, 300_000].map((at) => map.chunkAt(at)),
    [0, 0, 0, 1, 2, 3],
  );
  t.throws(() => map.chunkAt(300_001), { instanceOf: RangeError });
  t.is(digests.chunkMap, digestOf(chunkMap));
  t.is(digests.size, layout.size);
});

test('the image index of trees at hand is that of the layer VHDs', async (t) => {
  const upper = [
    member({ name: './big' }, 'less'),
    member({ name: './link', type: '1', linkname: './copy' }),
    member({ name: './var/.wh.log' }),
  ];
  const layers = await Promise.all([MEMBERS, upper].map((members) => layOut(estargz(members))));
  const diffIDs = layers.map((_, index) => `sha256:${`${index}a`.repeat(32)}`);
  const atHand = layers.map(({ root, blocks }, index) => ({
    diffID: diffIDs[index] as string,
    root,
    blocks,
  }));
  const inFiles = layers.map(({ layout }, index): ReadableLayer => {
    const vhd = frame(layout);
    const readAt = (offset: number, length: number) => vhd.subarray(offset, offset + length);
    return { diffID: diffIDs[index] as string, location: 'memory', open: (use) => use(readAt, vhd.length) };
  });
  const expected = mergeImageIndex(inFiles);
  t.deepEqual(mergeImageIndex(atHand), expected);
  t.deepEqual(mergeImageIndex([atHand[0] as LayerInMemory, inFiles[1] as ReadableLayer]), expected);
});

test('the description of such a layer survives encoding, has no digests of blocks, and verifies nothing', async (t) => {
  const { digests } = await layOut(estargz(MEMBERS));
  const encoded = Buffer.from(digests.encode());
  t.is(encoded.length, 96);
  t.is(encoded.readUInt32LE(8), 2);
  const decoded = BlockDigests.decode(encoded);
  t.deepEqual(Buffer.from(decoded.encode()), encoded);
  t.is(decoded.chunkMap, digests.chunkMap);
  t.false(decoded.verify(0, Buffer.alloc(decoded.length(0))));
  t.throws(() => decoded.digest(0), { instanceOf: RangeError });
  t.throws(() => decoded.range(0, 1), { instanceOf: RangeError });
  for (const length of [95, 97]) {
    t.throws(() => BlockDigests.decode(Buffer.concat([encoded, Buffer.alloc(1)]).subarray(0, length)), {
      instanceOf: LayerError,
    });
  }
});

test('only a footer that is one, and points before itself, leads to a table of contents', (t) => {
  t.is(tocOffset(footer(1000), 1200), 1000);
  t.is(tocOffset(footer(1000), 1000 + FOOTER_SIZE), undefined);
  t.is(tocOffset(footer(2 ** 60), 1200), undefined);
  const good = footer(1000);
  for (let at = 0; at < FOOTER_SIZE; at++) {
    // The header's extra flags and operating system say nothing.
    if (at === 8 || at === 9) continue;
    const bad = Buffer.from(good);
    bad[at] = (bad[at] as number) ^ 0x80;
    t.is(tocOffset(bad, 1200), undefined, `byte ${at}`);
  }
});

test('a table of contents with another digest than the manifest names is refused', async (t) => {
  const { blob, tocOffset: at } = estargz(MEMBERS);
  await t.throwsAsync(readToc(blob.subarray(at, -FOOTER_SIZE), DIFF_ID), { code: 'DIGEST_MISMATCH' });
  await t.throwsAsync(readToc(Buffer.from('no gzip'), DIFF_ID), { code: 'CORRUPT' });
});

const changes: [string, string, (entry: JsonEntry) => void, string?][] = [
  ['no digest', 'INCOMPLETE', (entry) => delete entry['chunkDigest']],
  ['a digest of another kind', 'CORRUPT', (entry) => (entry['chunkDigest'] = 'md5:00')],
  ['a name that was not UTF-8', 'INCOMPLETE', (entry) => (entry['name'] = 'a\ufffd')],
  ['no name', 'CORRUPT', (entry) => delete entry['name']],
  ['another type', 'CORRUPT', (entry) => (entry['type'] = 'door')],
  ['a size that is no number', 'CORRUPT', (entry) => (entry['size'] = '5')],
  ['a size beyond its chunks', 'TOO_LARGE', (entry) => (entry['size'] = 1e12)],
  ['a chunk beyond its size', 'CORRUPT', (entry) => (entry['chunkSize'] = 1e12)],
  ['a chunk in the wrong place', 'CORRUPT', (entry) => (entry['chunkOffset'] = 1)],
  ['data behind the table', 'CORRUPT', (entry) => (entry['offset'] = 1e12)],
  ['data before the blob', 'CORRUPT', (entry) => (entry['offset'] = -1)],
  ['a member of any length', 'TOO_LARGE', (entry) => (entry['innerOffset'] = MAX_SKIP + 1)],
  ['an owner that Linux has not', 'CORRUPT', (entry) => (entry['uid'] = 2 ** 32)],
  ['a time that is none', 'CORRUPT', (entry) => (entry['modtime'] = 'yesterday')],
  ['xattrs that are none', 'CORRUPT', (entry) => (entry['xattrs'] = { a: '%' })],
  ['a way out', 'HOSTILE_PATH', (entry) => (entry['name'] = '../../etc/passwd'), './pipe'],
];
for (const [what, code, change, target = './big'] of changes) {
  test(`a file with ${what} is refused`, async (t) => {
    const made = estargz(MEMBERS, {
      chunkSize: 200_000,
      change: (entries) => change(entries.find(({ name }) => name === target) as JsonEntry),
    });
    const error = await t.throwsAsync<OrcaError>(layOut(made));
    t.is(error?.code, code, error?.message);
  });
}

test('the only chunk of a file may have the digest of the file alone', (t) => {
  const [file] = parseToc(
    Buffer.from(
      JSON.stringify({
        version: 1,
        entries: [{ name: 'a', type: 'reg', size: 1, offset: 9, digest: DIFF_ID }],
      }),
    ),
  );
  t.is(file?.chunks[0]?.digest, '5a'.repeat(32));
});

test('a table of contents of more values than files have is not parsed', (t) => {
  const table = (entries: string) => Buffer.from(`{"version":1,"entries":[${entries}]}`);
  for (const value of ['{}', '0', '[]']) {
    const error = t.throws<LayerError>(() =>
      parseToc(
        table(
          Array(5 << 20)
            .fill(value)
            .join(),
        ),
      ),
    );
    t.is(error?.code, 'TOO_LARGE', value);
  }
});

test('hostile tables of contents give a layer within bounds, or an error of our own', async (t) => {
  const text = fc.constantFrom('a', 'a/b', '', '..', 'c\ufffd', './', '.wh.a', '/x');
  const number = fc.oneof(fc.nat(20), fc.constantFrom(-1, 1.5, 2 ** 31, 2 ** 53, null, 'x'));
  const digest = fc.constantFrom(DIFF_ID, '', 'sha256:00', undefined);
  const entry = fc.record(
    {
      name: text,
      linkName: text,
      type: fc.constantFrom('reg', 'reg', 'chunk', 'dir', 'hardlink', 'symlink', 'char', 'x'),
      size: number,
      offset: number,
      innerOffset: number,
      chunkOffset: number,
      chunkSize: number,
      mode: number,
      devMajor: number,
      digest,
      chunkDigest: digest,
      xattrs: fc.constantFrom(undefined, null, {}, { 'user.a': 'AA==' }, { a: 5 }, []),
    },
    { requiredKeys: ['name', 'type'] },
  );
  const entries = fc.oneof(fc.array(entry, { maxLength: 6 }), fc.jsonValue());
  await fc.assert(
    fc.asyncProperty(entries, fc.nat(40), async (list, offset) => {
      try {
        const toc = parseToc(Buffer.from(JSON.stringify({ version: 1, entries: list })));
        const layer = await layOutEstargz(toc, { diffID: DIFF_ID, size: 100, tocOffset: offset });
        const map = ChunkMap.decode(layer.chunkMap);
        const recipe = LayerRecipe.decode(layer.recipe);
        for (let index = 0; index < recipe.extentCount; index++) {
          const extent = recipe.extent(index);
          if (extent.tar + extent.length > map.size) return false;
        }
        treeOf(frame(recipe));
      } catch (error) {
        if (!(error instanceof OrcaError)) throw error;
      }
      return true;
    }),
    { numRuns: 2000 },
  );
  t.pass();
});

test('a damaged chunk map is CORRUPT, or one whose chunks are within bounds', async (t) => {
  const { chunkMap } = await layOut(estargz(MEMBERS, { chunkSize: 50_000 }));
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(chunkMap.length - 1), fc.nat(255)), { maxLength: 6 }),
      fc.nat(chunkMap.length),
      fc.boolean(),
      (bytes, length, isCut) => {
        const bad = Buffer.from(chunkMap);
        for (const [at, value] of bytes) bad[at] = value;
        try {
          const map = ChunkMap.decode(isCut ? bad.subarray(0, length) : bad);
          for (let index = 0; index < map.count; index++) {
            const { offset, compressed, skip, length: size } = map.chunk(index);
            if (offset + compressed > map.blobSize || compressed > compressedBound(skip + size)) return false;
            if (skip > MAX_SKIP || size > MAX_CHUNK_BYTES) return false;
            if (map.chunkAt(map.start(index)) !== index) return false;
          }
        } catch (error) {
          return error instanceof LayerError && error.code === 'CORRUPT';
        }
        return true;
      },
    ),
  );
  t.is(ChunkMap.decode(chunkMap).count, 7);
});
