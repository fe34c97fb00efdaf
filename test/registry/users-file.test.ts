import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { hashSync } from 'bcryptjs';
import { parseUsers, UsersFile } from '../../src/registry/users-file.js';

const hash = hashSync('secret', 4);

test('grants are names, or beginnings of names, with actions', (t) => {
  const users = parseUsers(
    `# a comment\n\nalice:${hash}:team/*=pull,push library/redis=pull\nroot:${hash}:*=*\r\nbob:${hash}\nanonymous::public/*=pull\n`,
    'f',
  );
  t.deepEqual([...users.keys()], ['alice', 'root', 'bob', 'anonymous']);
  const may = (name: string, repository: string, action: 'pull' | 'push' | 'delete' | 'metadata') =>
    users.get(name)!.may(repository, action);
  t.true(may('alice', 'team/app', 'push'));
  t.true(may('alice', 'library/redis', 'pull'));
  t.false(may('alice', 'library/redis', 'push'));
  t.false(may('alice', 'library/redis2', 'pull'));
  t.false(may('alice', 'team', 'pull'));
  t.false(may('alice', 'teams/app', 'pull'));
  t.false(may('alice', 'team/app', 'delete'));
  t.true(may('root', 'any/thing', 'metadata'));
  t.false(may('bob', 'team/app', 'pull'));
  t.true(may('anonymous', 'public/x', 'pull'));
});

for (const [line, why] of [
  ['alice', /no password hash/],
  ['alice:', /not a bcrypt hash/],
  ['alice:plain', /not a bcrypt hash/],
  ['alice:$apr1$x$y', /not a bcrypt hash/],
  [`alice:${hash.replace('$04$', '$31$')}`, /cost/],
  [`:${hash}`, /the name/],
  [`a b:${hash}`, /the name/],
  [`anonymous:${hash}`, /no password/],
  [`alice:${hash}\nalice:${hash}`, /line 2: alice is there twice/],
  [`alice:${hash}:team/*`, /a grant is/],
  [`alice:${hash}:=pull`, /not a repository name/],
  [`alice:${hash}:a=fly`, /fly is none of pull,push/],
  [`alice:${hash}:a*b=pull`, /not a repository name/],
  [`alice:${hash}:../x=pull`, /not a repository name/],
] as const) {
  test(`a users file with ${JSON.stringify(line.replaceAll(hash, 'HASH'))} is refused`, (t) => {
    t.throws(() => parseUsers(line, 'users'), { code: 'INVALID_USERS', message: why });
  });
}

test('passwords are compared, and changes of the file count at once', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'orca-users-'));
  const path = join(directory, 'users');
  try {
    writeFileSync(path, `alice:${hash}:*=pull\nanonymous::*=pull\n`);
    const users = await UsersFile.open(path);
    t.is((await users.login('alice', 'secret'))?.name, 'alice');
    t.is((await users.login('alice', 'secret'))?.name, 'alice');
    for (const [name, password] of [
      ['alice', 'Secret'],
      ['alice', ''],
      ['bob', 'secret'],
      ['anonymous', ''],
      ['alice', `secret${'x'.repeat(80)}`],
    ] as const) {
      t.is(await users.login(name, password), undefined, `${name} ${password}`);
    }
    writeFileSync(path, `alice:${hashSync('other', 4)}:*=pull\n`);
    utimesSync(path, 1, 1);
    await new Promise((resolve) => setTimeout(resolve, 1100));
    t.is(await users.login('alice', 'secret'), undefined);
    t.is((await users.login('alice', 'other'))?.name, 'alice');
    writeFileSync(path, 'broken');
    await new Promise((resolve) => setTimeout(resolve, 1100));
    t.is((await users.login('alice', 'other'))?.name, 'alice');
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('many logins at once are all answered', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'orca-users-'));
  try {
    writeFileSync(join(directory, 'users'), `alice:${hash}\n`);
    const users = await UsersFile.open(join(directory, 'users'));
    const answers = await Promise.all(
      Array.from({ length: 40 }, (_, i) => users.login('alice', i % 2 === 0 ? 'secret' : `${i}`)),
    );
    t.deepEqual(
      answers.map((user) => user?.name),
      Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? 'alice' : undefined)),
    );
    await t.throwsAsync(Promise.all(Array.from({ length: 200 }, (_, i) => users.login('alice', `x${i}`))), {
      message: /too many/,
    });
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('a users file that is not there is named', async (t) => {
  await t.throwsAsync(UsersFile.open('/nonexistent/users'), {
    code: 'INVALID_USERS',
    message: /nonexistent\/users/,
  });
});
