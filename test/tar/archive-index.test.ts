import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { type ArchiveMember, indexArchive } from '../../src/tar/archive-index.js';
import { archive, gnuSparse, member, pax } from './archive.js';

async function index(
  bytes: Uint8Array,
): Promise<{ members: Map<string, ArchiveMember>; read: (name: string) => string }> {
  const directory = mkdtempSync(join(tmpdir(), 'orca-archive-index-'));
  const path = join(directory, 'archive.tar');
  writeFileSync(path, bytes);
  const fd = openSync(path, 'r');
  try {
    const members = await indexArchive(fd);
    const contents = new Map(
      [...members].map(([name, { offset, size }]) => {
        const content = Buffer.alloc(size);
        readSync(fd, content, 0, size, offset);
        return [name, content.toString('latin1')];
      }),
    );
    return { members, read: (name) => contents.get(name) ?? '' };
  } finally {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  }
}

test('members are found by clean name, across large data that is not read', async (t) => {
  const big = Buffer.alloc(3_000_001, 'b');
  const { members, read } = await index(
    archive(
      member({ name: './manifest.json' }, 'm'),
      pax([['path', `${'deep/'.repeat(30)}layer.tar`]]),
      member({ name: 'x' }, big),
      member({ name: 'empty' }),
      member({ name: 'blobs//sha256/abc' }, 'blob'),
      member({ name: 'dir/', type: '5' }),
    ),
  );
  t.deepEqual(
    [...members.keys()],
    ['manifest.json', `${'deep/'.repeat(30)}layer.tar`, 'empty', 'blobs/sha256/abc'],
  );
  t.is(read('manifest.json'), 'm');
  t.is(read('blobs/sha256/abc'), 'blob');
  t.is(read(`${'deep/'.repeat(30)}layer.tar`), big.toString());
});

test('the last of two members counts, and links stand for the data of their target', async (t) => {
  const { members, read } = await index(
    archive(
      member({ name: 'a/layer.tar' }, 'first'),
      member({ name: 'a/layer.tar' }, 'second'),
      member({ name: 'b/layer.tar', type: '2', linkname: '../a/layer.tar' }),
      member({ name: 'c/layer.tar', type: '1', linkname: 'b/layer.tar' }),
      member({ name: 'loop', type: '2', linkname: 'loop' }),
      member({ name: 'nowhere', type: '2', linkname: 'missing' }),
    ),
  );
  t.deepEqual([...members.keys()], ['a/layer.tar', 'b/layer.tar', 'c/layer.tar']);
  t.deepEqual(
    ['a', 'b', 'c'].map((name) => read(`${name}/layer.tar`)),
    ['second', 'second', 'second'],
  );
});

test('a sparse member, a compressed archive and a cut one are refused', async (t) => {
  await t.throwsAsync(index(archive(gnuSparse('s', 100, [[0, 'x']]))), {
    code: 'UNSUPPORTED',
    message: /"s"/,
  });
  await t.throwsAsync(index(Buffer.from('1f8b0800', 'hex')), { code: 'UNSUPPORTED', message: /compressed/ });
  const bytes = archive(member({ name: 'a' }, Buffer.alloc(200_000)));
  await t.throwsAsync(index(bytes.subarray(0, 150_000)), { code: 'TRUNCATED' });
});
