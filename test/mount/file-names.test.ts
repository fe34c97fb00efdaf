import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { ErofsError } from '../../src/erofs/reader.js';
import type { Directory, Inode } from '../../src/erofs/tree.js';
import { writeErofs } from '../../src/erofs/writer.js';
import { type NamedFile, readFileNames } from '../../src/mount/file-names.js';

const ATTRIBUTES = { mode: 0o644, uid: 0, gid: 0, mtime: 0n, xattrs: new Map<string, Uint8Array>() };
const OPTIONS = { uuid: new Uint8Array(16), dataBlocks: 0, devices: [{ tag: 'layer', blocks: 1000 }] };

function file(size: number): Inode {
  const extents = [{ fileOffset: 0, device: 1, block: 0, blocks: 1 }];
  return { kind: 'file', ...ATTRIBUTES, size, extents };
}

function directory(children: Record<string, Inode>): Directory {
  return { kind: 'directory', ...ATTRIBUTES, children: new Map(Object.entries(children)) };
}

async function indexOf(
  t: ExecutionContext,
  root: Directory,
  change?: (bytes: Buffer) => void,
): Promise<string> {
  const scratch = await mkdtemp(join(tmpdir(), 'orca-names-'));
  t.teardown(() => rm(scratch, { recursive: true, force: true }));
  const { superblock, metadata } = writeErofs(root, OPTIONS);
  const bytes = Buffer.concat([superblock, ...metadata]);
  change?.(bytes);
  await writeFile(join(scratch, 'index'), bytes);
  return join(scratch, 'index');
}

const paths = async (index: string) =>
  [...(await readFileNames(index)).values()].map(({ path }) => path).sort();

test('regular files have their paths and sizes', async (t) => {
  const link: Inode = { kind: 'symlink', ...ATTRIBUTES, target: 'a' };
  const tree = directory({ a: file(5), link, usr: directory({ lib: directory({ b: file(4096) }) }) });
  const names = await readFileNames(await indexOf(t, tree));
  t.deepEqual(
    [...names.values()].sort((a, b) => a.size - b.size),
    [
      { path: '/a', size: 5 },
      { path: '/usr/lib/b', size: 4096 },
    ],
  );
});

test('a hard link is told by one of its names', async (t) => {
  const shared = file(5);
  t.is((await paths(await indexOf(t, directory({ a: shared, b: shared })))).length, 1);
});

test('names that would show as other names are made harmless', async (t) => {
  const utf8 = (text: string) => Buffer.from(text).toString('latin1');
  const names = [utf8('grün'), 'a\u0007b', 'line\nbreak', utf8('gpj.\u202eexe'), 'not\u00ffutf8', '<b>'];
  const tree = directory(Object.fromEntries(names.map((name) => [name, file(1)])));
  t.deepEqual(
    await paths(await indexOf(t, tree)),
    ['/grün', '/a\ufffdb', '/line\ufffdbreak', '/gpj.\ufffdexe', '/not\ufffdutf8', '/<b>'].sort(),
  );
});

test('a damaged index is an error, or has fewer names, and nothing else', async (t) => {
  const tree = directory({
    a: file(5),
    usr: directory({ lib: directory({ b: file(4096), c: file(1) }), bin: directory({ d: file(9) }) }),
  });
  const sound = await paths(await indexOf(t, tree));
  t.is(sound.length, 4);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 40 }),
      async (damage) => {
        const index = await indexOf(t, tree, (bytes) => {
          for (const [at, value] of damage) bytes[1024 + (at % (bytes.length - 1024))] = value;
        });
        const names = await readFileNames(index).catch((error: Error) => {
          if (error instanceof ErofsError) return new Map<number, NamedFile>();
          throw error;
        });
        for (const { path, size } of names.values()) if (!path.startsWith('/') || size < 0) return false;
        return true;
      },
    ),
    { numRuns: 60 },
  );
});

test('what is no image is an error', async (t) => {
  const index = await indexOf(t, directory({}), (bytes) => bytes.fill(0));
  await t.throwsAsync(readFileNames(index), { name: 'ErofsError' });
});
