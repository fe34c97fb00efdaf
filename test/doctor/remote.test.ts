import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { Finding } from '../../src/doctor/finding.js';
import { checkClock, checkRegistry, checkStore } from '../../src/doctor/remote.js';
import { TestRegistry } from '../registry/server-fixture.js';
import { addImage } from '../source/store-fixture.js';

let directory: string;

test.before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'orca-doctor-test-'));
  await addImage(join(directory, 'store'), 'app:1', [{ file: Buffer.from('x') }], 4096);
});

test.after.always(() => rm(directory, { recursive: true }));

const states = (findings: Finding[]) => findings.map(({ name, state }) => `${name} ${state}`);

test('a store is opened, and the image in it', async (t) => {
  const store = join(directory, 'store');
  t.deepEqual(states(await checkStore({ store })), ['store ok']);
  const found = await checkStore({ store, image: 'app:1' });
  t.deepEqual(states(found), ['store ok', 'image ok']);
  t.is(found[1]?.text, 'app:1, 1 layer');
  t.deepEqual(states(await checkStore({ store, image: 'other:1' })), ['store ok', 'image problem']);
});

test('what is no store is a problem with a remedy', async (t) => {
  for (const store of [directory, join(directory, 'none'), 'smb://h', 'ftp://h/x']) {
    const [finding] = await checkStore({ store });
    t.is(finding?.state, 'problem', store);
    t.truthy(finding?.remedy);
  }
});

test('a server that is not there, and a name that is none, are problems', async (t) => {
  const findings = await checkStore({ store: 'smb://somebody:hush@127.0.0.1:1/share' });
  t.deepEqual(states(findings), ['host name ok', 'store problem']);
  t.notRegex(JSON.stringify(findings), /hush/);
  t.deepEqual(states(await checkRegistry({ image: '127.0.0.1:1/app' })), [
    'host name ok',
    'registry problem',
  ]);
  t.deepEqual(states(await checkRegistry({ image: 'a b' })), ['registry problem']);
});

test('a registry is asked for its API, the time and the image', async (t) => {
  const registry = await TestRegistry.start();
  try {
    const findings = await checkRegistry({ image: `${registry.host}/team/app:1` });
    t.deepEqual(states(findings), ['host name ok', 'registry ok', 'clock ok', 'image problem']);
    t.regex(findings[3]?.remedy ?? '', /check the name/);
  } finally {
    await registry.stop();
  }
});

test('credentials that a registry refuses are a problem that names docker login', async (t) => {
  const users = join(directory, 'users');
  await writeFile(users, 'alice:$2y$05$abcdefghijklmnopqrstuuO1RkAlBSVhHOTwLjXzN0Zs7i9sOdQzK:team/*=pull\n');
  const registry = await TestRegistry.start({ users });
  try {
    const findings = await checkRegistry({ image: `${registry.host}/team/app:1` });
    t.deepEqual(states(findings), ['host name ok', 'registry ok', 'clock ok', 'image problem']);
    t.regex(findings[3]?.remedy ?? '', /docker login/);
  } finally {
    await registry.stop();
  }
});

test('a clock that differs by more than half a minute is a warning', (t) => {
  const date = 'Sat, 31 Jan 2026 12:00:00 GMT';
  const now = Date.parse(date);
  t.is(checkClock(date, now + 20_000).state, 'ok');
  t.regex(checkClock(date, now + 90_000).text, /^90 s ahead of/);
  t.regex(checkClock(date, now - 90_000).text, /^90 s behind/);
  t.is(checkClock(undefined, now).state, 'ok');
});
