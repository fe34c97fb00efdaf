import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import test from 'ava';
import { openSource } from '../../src/source/open-source.js';
import { SourceError } from '../../src/source/source.js';

test('a path, file:DIR and file:///DIR are the same store', async (t) => {
  for (const store of ['/srv/store', 'file:/srv/store', 'file:///srv/store', '/srv/../srv/store']) {
    const source = await openSource(store);
    t.is(source.kind, 'file');
    t.is(source.location, '/srv/store');
  }
});

test('smb:// is a share, and what is shown of it has no user and no password', async (t) => {
  const source = await openSource('smb://WORK;me:se%40cret@fileserver:4455/images/store', { env: {} });
  t.is(source.kind, 'smb');
  t.is(source.location, 'smb://fileserver:4455/images/store');
  t.false(/cret|me:/.test(inspect(source, { depth: 9, showHidden: true })));
  await source.close();
});

test('https:// is a web server, and what is shown of it has no user and no password', async (t) => {
  const source = await openSource('https://me:se%40cret@fileserver:8443/store', { env: {} });
  t.is(source.kind, 'https');
  t.is(source.location, 'https://fileserver:8443/store');
  t.false(/cret|me:/.test(inspect(source, { depth: 9, showHidden: true })));
  await source.close();
});

test('a store of no known kind is INVALID_URL and says what is', async (t) => {
  for (const store of [
    '',
    'file:',
    's3://bucket/x',
    'http://host/store',
    'smb://host',
    'smb://user:secret@host/',
  ]) {
    const error = await t.throwsAsync(openSource(store, { env: {} }), { instanceOf: SourceError });
    t.is(error?.code, 'INVALID_URL');
    t.false(error?.message.includes('secret'));
  }
});

test('a share that cannot be reached is UNREACHABLE and retryable at the first use, not before', async (t) => {
  const source = await openSource('smb://127.0.0.1:1/images', { env: {} });
  const error = await t.throwsAsync(source.readFile('orca.json', 100), { instanceOf: SourceError });
  t.is(error?.code, 'UNREACHABLE');
  t.true(error?.retryable);
  await source.close();
  const closed = await t.throwsAsync(source.readFile('orca.json', 100), { instanceOf: SourceError });
  t.is(closed?.code, 'CLOSED');
});

test('a credentials file that others may read is a warning; one that is missing an error', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'orca-open-source-'));
  const credentialsFile = join(directory, 'credentials');
  const warnings: string[] = [];
  const ignore = () => undefined;
  const logger = { debug: ignore, info: ignore, warn: (line: string) => warnings.push(line), error: ignore };
  try {
    await writeFile(credentialsFile, 'username=me\npassword=secret\n');
    await chmod(credentialsFile, 0o644);
    await openSource('smb://host/share', { credentialsFile, logger });
    t.is(warnings.length, 1);
    t.true(warnings[0]?.includes(credentialsFile));
    await chmod(credentialsFile, 0o600);
    await openSource('smb://host/share', { credentialsFile, logger });
    t.is(warnings.length, 1);
    const missing = openSource('smb://host/share', { credentialsFile: join(directory, 'none') });
    await t.throwsAsync(missing, { instanceOf: SourceError });
  } finally {
    await rm(directory, { recursive: true });
  }
});
