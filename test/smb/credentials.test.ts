import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import test from 'ava';
import {
  findCredentials,
  parseCredentialsFile,
  readCredentialsFile,
  smbCredentials,
} from '../../src/smb/credentials.js';

const SECRET = 'hunter2 hunter2';

test('the password is there for who asks, and in nothing that prints', (t) => {
  const credentials = smbCredentials({ username: 'WORK\\alice', password: SECRET });
  t.is(credentials.password, SECRET);
  t.is(credentials.username, 'alice');
  t.is(credentials.domain, 'WORK');
  for (const shown of [
    inspect(credentials, { showHidden: true, depth: 9 }),
    JSON.stringify(credentials),
    `${credentials}`,
  ]) {
    t.false(shown.includes('hunter2'), shown);
  }
  t.false(inspect({ nested: { credentials } }, { depth: 9 }).includes('hunter2'));
});

test('a file of mount.cifs is read with its spellings, comments and line ends', (t) => {
  const text =
    '\ufeff# for the store\r\n\r\nuser=alice\r\n  password= pass = # word \r\ndom=WORK\r\nvers=3.1.1\r\n';
  const credentials = parseCredentialsFile(text, 'x');
  t.is(credentials.username, 'alice');
  t.is(credentials.password, ' pass = # word ');
  t.is(credentials.domain, 'WORK');
  t.is(parseCredentialsFile('username=a\npass=b', 'x').password, 'b');
});

test('a file without a user name is refused by its path alone', (t) => {
  const error = t.throws(() => parseCredentialsFile(`password=${SECRET}\n`, '/etc/x'), {
    code: 'INVALID_CREDENTIALS_FILE',
  });
  t.true(error!.message.includes('/etc/x'));
  t.false(error!.message.includes(SECRET));
});

test('a file that others may read works, with a warning', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'orca-credentials-'));
  t.teardown(() => rm(directory, { recursive: true }));
  const path = join(directory, 'file');
  await writeFile(path, 'username=alice\npassword=x\n', { mode: 0o600 });
  t.is((await readCredentialsFile(path)).warning, undefined);
  await chmod(path, 0o644);
  t.regex((await readCredentialsFile(path)).warning ?? '', /chmod 600/);
  await t.throwsAsync(readCredentialsFile(join(directory, 'none')), {
    code: 'INVALID_CREDENTIALS_FILE',
    message: /cannot be read \(ENOENT\)/,
  });
  await t.throwsAsync(readCredentialsFile('/proc/self/mem'), { code: 'INVALID_CREDENTIALS_FILE' });
});

test('the file comes before the URL, the URL before the environment', async (t) => {
  const env = { ORCA_SMB_USER: 'env', ORCA_SMB_PASSWORD: 'env-password', ORCA_SMB_DOMAIN: 'ENV' };
  const url = { username: 'url', password: 'url-password', domain: undefined };
  const fromUrl = (await findCredentials({ url, env })).credentials;
  t.deepEqual([fromUrl.username, fromUrl.password, fromUrl.domain], ['url', 'url-password', 'ENV']);
  const mixed = (await findCredentials({ url: { ...url, password: undefined }, env })).credentials;
  t.deepEqual([mixed.username, mixed.password], ['url', 'env-password']);
  const fromEnv = (await findCredentials({ env })).credentials;
  t.deepEqual([fromEnv.username, fromEnv.password, fromEnv.domain], ['env', 'env-password', 'ENV']);
  t.is((await findCredentials({ env: {} })).credentials.username, '');
});
