import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { differences, walkTree } from './tree-compare.js';

const test = anyTest as TestFn<{ dir: string; a: string; b: string }>;
test.beforeEach((t) => {
  const dir = mkdtempSync(join(tmpdir(), 'orca-compare-'));
  const [a, b] = [join(dir, 'a'), join(dir, 'b')];
  mkdirSync(join(a, 'd'), { recursive: true });
  writeFileSync(join(a, 'd', 'f'), 'content');
  linkSync(join(a, 'd', 'f'), join(a, 'hard'));
  writeFileSync(join(a, 'single'), 'content');
  symlinkSync('d/f', join(a, 'soft'));
  writeFileSync(Buffer.from(`${a}/\xff\n\\=`, 'latin1'), '');
  execFileSync('mknod', [join(a, 'dev'), 'c', '1', '3']);
  execFileSync('setfattr', ['-n', 'user.x', '-v', 'value', join(a, 'single')]);
  execFileSync('setfattr', ['-n', 'user.y', join(a, 'd')]);
  execFileSync('cp', ['-a', a, b]);
  t.context = { dir, a, b };
});
test.afterEach.always((t) => rmSync(t.context.dir, { recursive: true }));

test('a copy is equal', async (t) => {
  const [a, b] = await Promise.all([walkTree(t.context.a), walkTree(t.context.b)]);
  t.deepEqual([...a.keys()].sort(), ['', 'd', 'd/f', 'dev', 'hard', 'single', 'soft', '\xff\n\\=']);
  t.deepEqual(differences(a, b), []);
  t.like(a.get('hard'), { firstLink: 'd/f', size: 7 });
  t.deepEqual(a.get('single')?.xattrs, [`user.x=${Buffer.from('value').toString('hex')}`]);
  t.deepEqual(a.get('d')?.xattrs, ['user.y=']);
});

/** Every property has a change that must show as a difference of just it. */
const changes: [key: string, change: (dir: string) => void][] = [
  ['only in', (dir) => writeFileSync(join(dir, 'new'), '')],
  ['only in', (dir) => unlinkSync(join(dir, 'single'))],
  ['mode', (dir) => chmodSync(join(dir, 'single'), 0o4711)],
  ['uid', (dir) => chownSync(join(dir, 'single'), 5, 0)],
  ['gid', (dir) => chownSync(join(dir, 'single'), 0, 5)],
  ['mtimeNs', (dir) => lutimesSync(join(dir, 'soft'), 1, 1.5)],
  ['content', (dir) => writeFileSync(join(dir, 'single'), 'Content')],
  ['size', (dir) => writeFileSync(join(dir, 'single'), 'content and more')],
  ['rdev', (dir) => execFileSync('sh', ['-c', `rm ${dir}/dev; mknod ${dir}/dev c 1 4`])],
  ['type', (dir) => execFileSync('sh', ['-c', `rm ${dir}/dev; mknod ${dir}/dev b 1 3`])],
  ['target', (dir) => execFileSync('ln', ['-snf', 'd/g', join(dir, 'soft')])],
  ['xattrs', (dir) => execFileSync('setfattr', ['-n', 'user.x', '-v', 'other', join(dir, 'single')])],
  ['firstLink', (dir) => execFileSync('sh', ['-c', `rm ${dir}/hard; cp -a ${dir}/d/f ${dir}/hard`])],
];
for (const [key, change] of changes) {
  test(`${key} is compared: ${change.toString().slice(9, 60)}`, async (t) => {
    change(t.context.b);
    const found = differences(await walkTree(t.context.a), await walkTree(t.context.b));
    t.true(
      found.some((line) => line.includes(`: ${key}`)),
      found.join('\n'),
    );
  });
}
