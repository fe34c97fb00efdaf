import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { DataDirectory } from '../../src/registry/data-directory.js';
import { RegistryStorage } from '../../src/registry/storage.js';
import { Tokens } from '../../src/registry/tokens.js';

const test = anyTest as TestFn<{ dir: string }>;
test.beforeEach((t) => {
  t.context.dir = mkdtempSync(join(tmpdir(), 'orca-data-'));
});
test.afterEach.always((t) => rmSync(t.context.dir, { recursive: true }));

test('a directory that is missing is made, and found again', async (t) => {
  const path = join(t.context.dir, 'new/data');
  (await DataDirectory.open(path)).close();
  t.deepEqual(JSON.parse(readFileSync(join(path, 'orca-registry.json'), 'utf8')), { version: 1 });
  (await DataDirectory.open(path)).close();
});

test('a directory has one registry at a time', async (t) => {
  const first = await DataDirectory.open(t.context.dir);
  await t.throwsAsync(DataDirectory.open(t.context.dir), { code: 'IN_USE' });
  first.close();
  (await DataDirectory.open(t.context.dir)).close();
});

test('a directory of something else is left alone', async (t) => {
  writeFileSync(join(t.context.dir, 'thesis.tex'), '');
  await t.throwsAsync(DataDirectory.open(t.context.dir), { code: 'INVALID_DATA', message: /choose another/ });
  t.deepEqual(readdirSync(t.context.dir), ['thesis.tex']);
});

test('a directory of another version is left alone', async (t) => {
  for (const content of ['{"version": 2}', 'null', 'x', '']) {
    writeFileSync(join(t.context.dir, 'orca-registry.json'), content);
    await t.throwsAsync(DataDirectory.open(t.context.dir), { code: 'INVALID_DATA', message: /version/ });
  }
});

test('what a killed process had in the making is gone at the next start', async (t) => {
  (await DataDirectory.open(t.context.dir)).close();
  writeFileSync(join(t.context.dir, 'tmp', 'half'), '');
  mkdirSync(join(t.context.dir, 'tmp', 'directory'));
  (await DataDirectory.open(t.context.dir)).close();
  t.deepEqual(readdirSync(join(t.context.dir, 'tmp')), []);
});

test('the token key is made once, and nobody else reads it', async (t) => {
  const data = await DataDirectory.open(t.context.dir);
  const { key } = await Tokens.open(data, 'a');
  t.deepEqual((await Tokens.open(data, 'a')).key, Buffer.from(key));
  t.is(statSync(data.join('token.key')).mode & 0o777, 0o600);
  writeFileSync(data.join('token.key'), 'short');
  await t.throwsAsync(Tokens.open(data, 'a'), { code: 'INVALID_DATA' });
  data.close();
});

test('repositories may lie within each other', async (t) => {
  const storage = await RegistryStorage.open(t.context.dir);
  for (const name of ['a', 'a/b', 'a/b/c', 'a-b', 'z'])
    await storage.repository(name).putBlob(digest, Buffer.from('x'));
  t.deepEqual(await storage.repositoryNames(), ['a', 'a-b', 'a/b', 'a/b/c', 'z']);
  t.false(await storage.repository('a/c').exists());
  t.throws(() => storage.repository('../a'), { code: 'INVALID_REFERENCE' });
  storage.close();
});

const digest = 'sha256:2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881';
