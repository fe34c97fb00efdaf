import test from 'ava';
import { resolveUser } from '../../src/runtime/user-database.js';

const PASSWD = `root:x:0:0:root:/root:/bin/sh
# a comment
daemon:x:1:1::/usr/sbin:/usr/sbin/nologin
app:x:1000:1001:App:/home/app:/bin/sh
app:x:2000:2000:second of that name:/home/second:/bin/sh
4242:x:7:7:a name made of digits::
nohome:x:8:8:::/bin/sh
`;
const GROUP = `root:x:0:
adm:x:4:root,app
app:x:1001:
video:x:44:app
video:x:45:
`;

const resolve = (spec: string) => resolveUser(spec, PASSWD, GROUP);

test('no user is root with the groups that list root', (t) => {
  t.deepEqual(resolve(''), { uid: 0, gid: 0, additionalGids: [0, 4], home: '/root' });
});

test('without a passwd file no user is root without a home', (t) => {
  t.deepEqual(resolveUser('', '', ''), { uid: 0, gid: 0, additionalGids: [0], home: '/' });
});

test('the first entry of a name wins, and brings group, groups and home', (t) => {
  t.deepEqual(resolve('app'), { uid: 1000, gid: 1001, additionalGids: [1001, 4, 44], home: '/home/app' });
});

test('an id with an entry is treated as its name', (t) => {
  t.deepEqual(resolve('1000'), resolve('app'));
});

test('an id without an entry has group 0, no other groups and the home /', (t) => {
  t.deepEqual(resolve('31337'), { uid: 31337, gid: 0, additionalGids: [0], home: '/' });
});

test('a number is an id even where a user has it as a name', (t) => {
  t.is(resolve('4242').uid, 4242);
});

test('an explicit group replaces the primary one and leaves no additional groups', (t) => {
  t.deepEqual(resolve('app:video'), { uid: 1000, gid: 44, additionalGids: [44], home: '/home/app' });
  t.deepEqual(resolve('app:9999').additionalGids, [9999]);
  t.is(resolve('app:45').gid, 45);
  t.is(resolve(':adm').gid, 4);
});

test('an empty home in passwd is /', (t) => {
  t.is(resolve('nohome').home, '/');
});

test('unknown names are errors that name them', (t) => {
  t.throws(() => resolve('nobody'), { code: 'NO_SUCH_USER', message: /"nobody"/ });
  t.throws(() => resolve('app:wheel'), { code: 'NO_SUCH_GROUP', message: /"wheel"/ });
});

test('ids out of range are errors', (t) => {
  t.throws(() => resolve('-1'), { code: 'INVALID_OPTION' });
  t.throws(() => resolve('4294967295'), { code: 'INVALID_OPTION' });
  t.throws(() => resolve('0:2147483648'), { code: 'INVALID_OPTION' });
});

test('malformed lines are skipped and never read as root', (t) => {
  const passwd = [
    'evil:x:notanumber:0::/:/bin/sh',
    'evil:x:-5:0::/:/bin/sh',
    'evil:x:99999999999999999999:0::/:/bin/sh',
    'evil:x::::',
    'evil\0:x:0:0::/:/bin/sh',
    ':x:0:0::/hostile:/bin/sh',
    'evil',
    '\u00ff\u00fe::',
  ].join('\n');
  t.throws(() => resolveUser('evil', passwd, ''), { code: 'NO_SUCH_USER' });
  t.is(resolveUser('', passwd, '').home, '/');
});

test('a passwd file of one endless line is no user', (t) => {
  t.throws(() => resolveUser('x', 'x'.repeat(1 << 20), ':'.repeat(1 << 20)), { code: 'NO_SUCH_USER' });
});
