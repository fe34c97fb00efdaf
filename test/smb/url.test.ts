import test from 'ava';
import { parseSmbUrl, redactSmbUrls } from '../../src/smb/url.js';

test('a URL comes apart into host, port, share, path and user', (t) => {
  t.deepEqual(parseSmbUrl('smb://WORK;al%40ice:p%3Aw%2F%40@files.example:4450/My%20Share/a/b%20c/'), {
    host: 'files.example',
    port: 4450,
    share: 'My Share',
    path: 'a/b c',
    user: { username: 'al@ice', password: 'p:w/@', domain: 'WORK' },
    location: 'smb://files.example:4450/My Share/a/b c',
  });
  t.deepEqual(parseSmbUrl('SMB://host/share'), {
    host: 'host',
    port: 445,
    share: 'share',
    path: '',
    user: undefined,
    location: 'smb://host/share',
  });
  t.is(parseSmbUrl('smb://u@[::1]:445/s').host, '::1');
  t.is(parseSmbUrl('smb://u@[::1]/s').location, 'smb://[::1]/s');
  t.deepEqual(parseSmbUrl('smb://user@host/s').user, {
    username: 'user',
    password: undefined,
    domain: undefined,
  });
  t.is(parseSmbUrl('smb://user:a@b@host/s').user?.password, 'a@b');
});

for (const url of [
  'http://u:secret@host/share',
  'smb://u:secret@/share',
  'smb://u:secret@host',
  'smb://u:secret@host/',
  'smb://u:secret@host:0/share',
  'smb://u:secret@host:99999/share',
  'smb://u:secret@host/share/../x',
  'smb://u:secret@host/sh%2Fare',
  'smb://u:secret@host/share/a%00b',
  'smb://u:%secret@host/share',
  'smb://u:sec/ret@host/share',
  'smb://u:secret@ho st:x/share',
  'smb://u:sec ret@host/',
]) {
  test(`${url} is refused, and the message does not tell the password`, (t) => {
    const error = t.throws(() => parseSmbUrl(url), { code: 'INVALID_URL' });
    t.false(/sec|ret@/.test(error!.message.replaceAll('smb://HOST', '')), error!.message);
  });
}

test('URLs inside longer text lose their user part', (t) => {
  t.is(redactSmbUrls('mount smb://a:b@h/s and smb://h/s'), 'mount smb://h/s and smb://h/s');
});
