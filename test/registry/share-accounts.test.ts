import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { rotatePasswords, writeSambaConfig } from '../../src/registry/samba-config.js';
import { ShareAccounts } from '../../src/registry/share-accounts.js';
import { shareLocation } from '../../src/registry/share-option.js';

function dataDirectory(t: ExecutionContext): string {
  const data = mkdtempSync(join(tmpdir(), 'orca-accounts-'));
  t.teardown(() => rmSync(data, { recursive: true }));
  writeFileSync(join(data, 'orca-registry.json'), '{"version":1}\n');
  return data;
}

test('each repository has one account, with a password of its own', async (t) => {
  const data = dataDirectory(t);
  const accounts = new ShareAccounts(data);
  const [one, same, other] = await Promise.all([
    accounts.ensure('team/app', 'orca-', '/srv/shares/team+app'),
    new ShareAccounts(data).ensure('team/app', 'orca-', '/srv/shares/team+app'),
    accounts.ensure('team/other', 'orca-', '/srv/shares/team+other'),
  ]);
  t.deepEqual(one, same);
  t.regex(one.name, /^orca-[0-9a-f]{16}$/);
  t.regex(one.password, /^[\w-]{32}$/);
  t.not(one.name, other.name);
  t.not(one.password, other.password);
  t.not(one.number, other.number);
});

test('files with secrets are for their owner alone, and those without have none', async (t) => {
  const data = dataDirectory(t);
  const accounts = new ShareAccounts(data);
  const { name, password } = await accounts.ensure('app', 'orca-', '/srv/shares/app');
  const mode = (file: string) => statSync(join(data, 'samba', file)).mode & 0o777;
  t.is(mode('accounts.json'), 0o600);
  t.is(mode('smbpasswd'), 0o600);
  for (const file of ['passwd', 'group', 'smbpasswd']) {
    t.false(readFileSync(join(data, 'samba', file), 'utf8').includes(password), file);
  }
  const line = readFileSync(join(data, 'samba/passwd'), 'utf8')
    .split('\n')
    .find((one) => one.startsWith(name));
  t.regex(line ?? '', /^orca-[0-9a-f]+:x:18791\d+:65534:app:\/srv\/shares\/app:\/usr\/sbin\/nologin$/);
});

test('the hash is the one that Samba knows', async (t) => {
  const data = dataDirectory(t);
  const accounts = new ShareAccounts(data);
  const { name } = await accounts.ensure('app', 'orca-', '/srv/app');
  const file = join(data, 'samba/accounts.json');
  const text = readFileSync(file, 'utf8').replace(/"password": "[^"]*"/, '"password": "pwa"');
  writeFileSync(file, text);
  await new ShareAccounts(data).rewrite();
  t.regex(
    readFileSync(join(data, 'samba/smbpasswd'), 'utf8'),
    new RegExp(`^${name}:\\d+:X{32}:198FF9BEA6BA734DF20D2888CD560BA4:\\[U {10}\\]:LCT-[0-9A-F]{8}:\n$`),
  );
});

test('passwords are rotated by another process, and the registry hands out the new ones', async (t) => {
  const data = dataDirectory(t);
  const accounts = new ShareAccounts(data);
  const one = await accounts.ensure('app', 'orca-', '/srv/app');
  const other = await accounts.ensure('other', 'orca-', '/srv/other');
  t.deepEqual(await rotatePasswords(data, 'app'), ['app']);
  const now = await accounts.ensure('app', 'orca-', '/srv/app');
  t.is(now.name, one.name);
  t.not(now.password, one.password);
  t.deepEqual(await accounts.ensure('other', 'orca-', '/srv/other'), other);
  t.deepEqual((await rotatePasswords(data)).sort(), ['app', 'other']);
  await t.throwsAsync(rotatePasswords(data, 'unknown'), { message: /unknown has no share/ });
});

test('an account that is removed cannot log in, and the next one is another', async (t) => {
  const data = dataDirectory(t);
  const accounts = new ShareAccounts(data);
  const { name, password } = await accounts.ensure('app', 'orca-', '/srv/app');
  await accounts.remove('app');
  t.is(readFileSync(join(data, 'samba/smbpasswd'), 'utf8'), '');
  t.false(readFileSync(join(data, 'samba/passwd'), 'utf8').includes(name));
  t.not((await accounts.ensure('app', 'orca-', '/srv/app')).password, password);
});

test('each change of passwd has another second, which is all that nss_wrapper looks at', async (t) => {
  const data = dataDirectory(t);
  const accounts = new ShareAccounts(data);
  const seconds: number[] = [];
  for (const repository of ['a', 'b', 'c']) {
    await accounts.ensure(repository, 'orca-', `/srv/${repository}`);
    seconds.push(Math.floor(statSync(join(data, 'samba/passwd')).mtimeMs / 1000));
  }
  t.is(new Set(seconds).size, 3);
});

test('the configuration lets in known accounts only, encrypted, each to its own share', async (t) => {
  const data = dataDirectory(t);
  const { config, start } = await writeSambaConfig({ data, port: 4455, addresses: ['127.0.0.1', '::1'] });
  const text = readFileSync(config, 'utf8');
  for (const line of [
    'server min protocol = SMB3_11',
    'server smb encrypt = required',
    'map to guest = never',
    'restrict anonymous = 2',
    'valid users = %S',
    'read only = yes',
    'guest ok = no',
    'follow symlinks = no',
    'wide links = no',
    'smb ports = 4455',
    'interfaces = 127.0.0.1 ::1',
    'bind interfaces only = yes',
    `passdb backend = smbpasswd:${data}/samba/smbpasswd`,
  ]) {
    t.true(text.includes(`  ${line}\n`), line);
  }
  t.is(statSync(start).mode & 0o777, 0o755);
});

test('directories that are no registry, and names that smb.conf cannot hold, are refused', async (t) => {
  const data = dataDirectory(t);
  await t.throwsAsync(writeSambaConfig({ data: join(data, 'other') }), { message: /not the data directory/ });
  await t.throwsAsync(writeSambaConfig({ data, output: join(data, 'a b') }), { message: /cannot name/ });
  await t.throwsAsync(writeSambaConfig({ data, addresses: ['0.0.0.0\nguest ok = yes'] }), {
    message: /not an IP address/,
  });
  await t.throwsAsync(new ShareAccounts(data).ensure('app', 'orca-', '/srv/%u'), { message: /cannot serve/ });
});

for (const [url, origin] of [
  ['smb://files.example/orca-', 'smb://files.example'],
  ['smb://127.0.0.1:4455/o', 'smb://127.0.0.1:4455'],
  ['smb://[::1]:4455/o', 'smb://[::1]:4455'],
] as const) {
  test(`shares are at ${url}`, (t) => t.is(shareLocation({ url }, '/srv/data').origin, origin));
}

for (const [url, directory] of [
  ['https://files.example/orca', undefined],
  ['smb://files.example', undefined],
  ['smb://files.example/orca/folder', undefined],
  ['smb://user:secret@files.example/orca', undefined],
  ['smb://files.example/Or ca', undefined],
  ['smb://files.example/orca%0A', undefined],
  ['smb://files.example/orca', 'relative'],
  ['smb://files.example/orca', '/srv/a\nb'],
] as const) {
  test(`no shares are at ${JSON.stringify([url, directory])}`, (t) => {
    const error = t.throws(() => shareLocation({ url, ...(directory && { directory }) }, '/srv/data'), {
      code: 'INVALID_OPTION',
    });
    t.false(error?.message.includes('secret'));
  });
}
