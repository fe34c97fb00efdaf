import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import test from 'ava';
import type { RegularFile } from '../../src/erofs/tree.js';
import { BlockDigests } from '../../src/layer/block-digests.js';
import { expandLayer } from '../../src/layer/expand.js';
import { archive, gnuSparse, long, member, pax } from '../tar/archive.js';
import { chunksOf, expand, withDirectory } from './layers.js';
import { rawFrame } from './zstd-streams.js';

function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

function pattern(length: number): Buffer {
  return Buffer.from(Array.from({ length }, (_, i) => (i * 7 + (i >> 8)) & 0xff));
}

/** Something of everything, with a file of which there is a copy. */
function layerWith(big: Buffer): Buffer {
  return archive(
    member({ name: './', type: '5', mode: 0o755, mtime: 1_700_000_000 }),
    member({ name: 'bin/', type: '5', mode: 0o755 }),
    pax([
      ['mtime', '1234567890.123456789'],
      ['SCHILY.xattr.security.capability', Buffer.from('0100000200200000000000000000000000000000', 'hex')],
      ['SCHILY.xattr.user.bin', Buffer.from('ff00fe0a80', 'hex')],
    ]),
    member({ name: 'bin/tool', mode: 0o4755, uid: 10, gid: 20 }, big),
    member({ name: 'bin/alias', type: '1', linkname: 'bin/tool' }),
    member({ name: 'bin/early', type: '1', linkname: 'bin/late' }),
    member({ name: 'bin/late' }, 'late'),
    member({ name: 'bin/below', type: '1', linkname: 'usr/bin/below' }),
    member({ name: 'copy' }, big),
    member({ name: 'link', type: '2', linkname: '/bin/tool' }),
    member({ name: 'null', type: '3', major: 1, minor: 3 }),
    member({ name: 'pipe', type: '6' }),
    long('L', 'n'.repeat(255)),
    member({ name: 'n', isGnu: true }, 'long'),
    pax([['path', 'caf\xe9']]),
    member({ name: 'x' }, 'latin'),
    gnuSparse('sparse', 1_000_000, [
      [0, 'start'],
      [500_000, 'middle'],
      [999_997, 'end'],
    ]),
    member({ name: 'etc/.wh.gone' }),
    member({ name: 'opaque/.wh..wh..opq' }),
    member({ name: 'twice' }, 'first'),
    member({ name: 'twice' }, 'second'),
  );
}

const BIG = pattern(700_000);
const LAYER = layerWith(BIG);

/** Bytes of a format do not change by accident: a new digest here wants a new version in docs/FORMAT.md. */
const GOLDEN = {
  vhd: 'sha256:c59c720704e0566d74bf25a340a423682107347e03abd25ee740cc45f72f5eab',
  digests: 'sha256:9672ab5a9b48c8af774c2a96b08c1da5581655d3084e9794970289b8900a393f',
};

test('a layer is what its tar says, with golden digests', async (t) => {
  const layer = await expand(chunksOf(LAYER));
  t.is(layer.diffID, sha256(LAYER));
  t.deepEqual(layer.warnings, []);
  t.is(layer.read('bin/tool'), BIG.toString('latin1'));
  t.like(layer.at('bin/tool'), { mode: 0o4755, uid: 10, gid: 20, mtime: 1_234_567_890_123_456_789n });
  t.deepEqual(
    [...(layer.at('bin/tool')?.xattrs ?? [])]
      .map(([name, value]) => [name, Buffer.from(value).toString('hex')])
      .toSorted(),
    [
      ['security.capability', '0100000200200000000000000000000000000000'],
      ['user.bin', 'ff00fe0a80'],
    ],
  );
  t.is(layer.at('bin/alias'), layer.at('bin/tool'));
  t.is(layer.at('bin/early'), layer.at('bin/late'));
  t.is(layer.read('bin/early'), 'late');
  t.is(
    Buffer.from(layer.at('bin/below')?.xattrs.get('trusted.orca.hardlink') ?? []).toString(),
    'usr/bin/below',
  );
  t.deepEqual((layer.at('copy') as RegularFile).extents, (layer.at('bin/tool') as RegularFile).extents);
  t.is(layer.read('n'.repeat(255)), 'long');
  t.is(layer.read('caf\xe9'), 'latin');
  t.is(layer.read('twice'), 'second');
  t.is((layer.at('sparse') as RegularFile).extents.length, 3);
  const sparse = layer.read('sparse');
  t.is(sparse.length, 1_000_000);
  t.is(sparse.replaceAll('\0', ''), 'startmiddleend');
  t.is(layer.root.mtime, 1_700_000_000_000_000_000n);

  t.is(sha256(layer.vhd), GOLDEN.vhd);
  t.is(sha256(layer.digests.encode()), GOLDEN.digests);
});

test('block digests are those of the file', async (t) => {
  for (const blockSize of [4096, 131_072, 1 << 20]) {
    const { digests, vhd, size, diffID } = await expand(chunksOf(LAYER), { blockSize });
    t.is(size, vhd.length);
    t.is(digests.size, vhd.length);
    t.is(digests.blockSize, blockSize);
    t.is(digests.diffID, diffID);
    const decoded = BlockDigests.decode(digests.encode());
    for (let i = 0; i < digests.count; i++)
      t.true(decoded.verify(i, vhd.subarray(i * blockSize, (i + 1) * blockSize)));
  }
});

test('the layer is a function of the tar alone, whatever its compression and its chunks', async (t) => {
  const tar = layerWith(pattern(9000));
  const half = tar.length >> 1;
  const zstd = Buffer.concat([rawFrame([tar.subarray(0, half)]), rawFrame([tar.subarray(half)])]);
  const { vhd } = await expand(chunksOf(tar));
  for (const bytes of [tar, gzipSync(tar), zstd]) {
    for (const chunkSize of [1, 1000, bytes.length]) {
      const again = await expand(chunksOf(bytes, chunkSize), {
        blobDigest: sha256(bytes),
        diffID: sha256(tar),
      });
      t.true(again.vhd.equals(vhd));
    }
  }
});

test('padding and garbage after the end count for the diffID, not for the layer', async (t) => {
  const plain = await expand(chunksOf(archive(member({ name: 'a' }, 'x'))));
  const bytes = Buffer.concat([
    archive(member({ name: 'a' }, 'x')),
    Buffer.alloc(10_240),
    Buffer.from('garbage'),
  ]);
  const layer = await expand(chunksOf(bytes));
  t.is(layer.diffID, sha256(bytes));
  t.is(layer.read('a'), 'x');
  t.is(layer.size, plain.size);
});

test('an empty layer is a root directory', async (t) => {
  const layer = await expand(chunksOf(gzipSync(archive())));
  t.is(layer.root.children.size, 0);
  t.like(layer.root, { mode: 0o755, uid: 0, gid: 0, mtime: 0n });
  t.is(layer.inodes, 1);
});

test('whatever fails, no file is left behind', async (t) => {
  const gzip = gzipSync(LAYER);
  const wrong = `sha256:${'0'.repeat(64)}`;
  const aborted = AbortSignal.abort(new Error('stop'));
  const cases: [string, Uint8Array, object][] = [
    ['DIGEST_MISMATCH', gzip, { blobDigest: wrong }],
    ['DIGEST_MISMATCH', gzip, { diffID: wrong }],
    ['CORRUPT', gzip.subarray(0, gzip.length / 2), {}],
    ['TRUNCATED', LAYER.subarray(0, 50_000), {}],
    ['INVALID_HEADER', Buffer.alloc(5000, 'no tar'), {}],
    ['HOSTILE_PATH', archive(member({ name: '../../x' }, 'x')), {}],
    ['HOSTILE_PATH', archive(member({ name: 'a', type: '1', linkname: '../x' })), {}],
    ['HOSTILE_PATH', archive(member({ name: 'a', type: '1', linkname: '/etc/shadow' })), {}],
  ];
  await withDirectory(async (directory) => {
    const output = join(directory, 'layer.vhd');
    for (const [code, bytes, options] of cases) {
      await t.throwsAsync(expandLayer(chunksOf(bytes), { output, ...options }), { code });
      t.false(existsSync(output), code);
    }
    await t.throwsAsync(expandLayer(chunksOf(LAYER), { output, signal: aborted }), { message: 'stop' });
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield gzip.subarray(0, 1000);
      throw new Error('connection lost');
    }
    await t.throwsAsync(expandLayer(failing(), { output }), { message: 'connection lost' });
    t.deepEqual(readdirSync(directory), []);
  });
});

test('a damaged blob has another digest, and that is what is said, with the damage as the cause', async (t) => {
  await withDirectory(async (directory) => {
    const output = join(directory, 'layer.vhd');
    const gzip = gzipSync(LAYER);
    for (const good of [gzip, LAYER]) {
      const blobDigest = sha256(good);
      const bad = Buffer.from(good);
      bad.fill(0xff, 100, 120);
      for (const bytes of [bad, good.subarray(0, 1000), Buffer.concat([good, Buffer.from('more')])]) {
        await t.throwsAsync(expandLayer(chunksOf(bytes, 700), { output, blobDigest }), {
          code: 'DIGEST_MISMATCH',
        });
      }
      const error = await t.throwsAsync(expandLayer(chunksOf(bad, 700), { output, blobDigest }));
      t.truthy(error?.cause);
    }
    const hostile = archive(member({ name: '../x' }));
    const blobDigest = sha256(hostile);
    await t.throwsAsync(expandLayer(chunksOf(hostile), { output, blobDigest }), { code: 'HOSTILE_PATH' });
  });
});

test('the digest covers all of a blob, also what follows the compressed data', async (t) => {
  const gzip = gzipSync(archive(member({ name: 'a' }, 'x')));
  const blob = Buffer.concat([gzip, Buffer.alloc(300_000)]);
  for (const chunkSize of [gzip.length, 1000, blob.length]) {
    const layer = await expand(chunksOf(blob, chunkSize), { blobDigest: sha256(blob) });
    t.is(layer.read('a'), 'x');
  }
});

test('an existing file or a missing directory is refused and left alone', async (t) => {
  await withDirectory(async (directory) => {
    const output = join(directory, 'layer.vhd');
    writeFileSync(output, 'precious');
    await t.throwsAsync(expandLayer(chunksOf(LAYER), { output }), { code: 'WRITE_FAILED' });
    t.true(existsSync(output));
    await t.throwsAsync(expandLayer(chunksOf(LAYER), { output: join(directory, 'no', 'x') }), {
      code: 'WRITE_FAILED',
    });
    mkdirSync(join(directory, 'dir'));
    await t.throwsAsync(expandLayer(chunksOf(LAYER), { output: join(directory, 'dir') }), {
      code: 'WRITE_FAILED',
    });
  });
});

test('progress is told in bytes in and bytes out, warnings by name', async (t) => {
  const gzip = gzipSync(LAYER);
  const progress: { bytesIn: number; bytesOut: number }[] = [];
  await expand(chunksOf(gzip, 100), { onProgress: (step) => progress.push(step) });
  t.is(progress.at(-1)?.bytesIn, gzip.length);
  t.true((progress.at(-1)?.bytesOut ?? 0) > BIG.length);

  const tar = archive(pax([['SCHILY.xattr.trusted.overlay.opaque', 'y']]), member({ name: 'd', type: '5' }));
  const layer = await expand(chunksOf(tar));
  t.deepEqual(layer.warnings, ['layer: the xattr "trusted.overlay.opaque" of "d" is dropped']);
  t.is(layer.at('d')?.xattrs.size, 0);
});

test('sparse files that a few bytes make huge are refused, without the room that they want', async (t) => {
  const far = archive(gnuSparse('far', 2 ** 50, [[2 ** 40, 'x']]));
  const spread = Array.from({ length: 200 }, (_, i): [number, string] => [i * 2 ** 26, 'x']);
  const many = archive(gnuSparse('many', 2 ** 41, spread));
  for (const tar of [far, many]) {
    await withDirectory(async (directory) => {
      const output = join(directory, 'layer.vhd');
      await t.throwsAsync(expandLayer(chunksOf(gzipSync(tar)), { output }), { code: 'TOO_LARGE' });
      t.false(existsSync(output));
    });
  }
});
