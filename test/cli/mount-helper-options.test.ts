import test from 'ava';
import { Command } from 'commander';
import { addMountCommand } from '../../src/cli/mount.js';
import { HelperUsageError, parseHelperArguments } from '../../src/cli/mount-helper-options.js';

const known = addMountCommand(new Command()).options;
const parse = (...args: string[]) => parseHelperArguments(args, known);
const parsed = (options: string) => parse('python:numpy', '/mnt', '-o', options).options;

test('options of orca mount are mount options, also with underscores', (t) => {
  t.deepEqual(parsed('store=smb://h/s,credentials=/etc/orca/c,cache=/c,region=west,run_dir=/r,no-daemon'), [
    '--store=smb://h/s',
    '--credentials=/etc/orca/c',
    '--cache=/c',
    '--region=west',
    '--run-dir=/r',
    '--no-daemon',
  ]);
});

test('values with commas are quoted, or separated by colons where that is clear', (t) => {
  t.deepEqual(parsed('store="/srv/a,b",ro'), ['--store=/srv/a,b']);
  t.deepEqual(parsed('transports=smb:https'), ['--transports=smb,https']);
  t.deepEqual(parsed('transports="smb,https"'), ['--transports=smb,https']);
});

test('options of mount(8), fstab(5) and systemd are accepted', (t) => {
  const text =
    'rw,ro,defaults,dev,suid,nodev,nosuid,noatime,relatime,lazytime,_netdev,noauto,auto,nofail,user,users,user=me,' +
    'x-systemd.automount,x-systemd.mount-timeout=90s,X-mount.mkdir=0755,comment=something,allow_other,silent';
  t.deepEqual(parsed(text), []);
});

test('noexec and remount are not lost', (t) => {
  t.like(parse('a', '/mnt', '-o', 'noexec'), { noexec: true, remount: false });
  t.like(parse('a', '/mnt', '-o', 'remount,exec'), { noexec: false, remount: true });
});

test('flags of mount(8) come alone or together, before or after the operands', (t) => {
  t.like(parse('a', '/mnt', '-fnv'), { source: 'a', target: '/mnt', fake: true, verbose: true });
  t.like(parse('-v', '-t', 'fuse.orca', '-oro', 'a', '/mnt'), { verbose: true, fake: false, options: [] });
});

test('unknown options are named, all of them and without their values; -s tolerates them', (t) => {
  t.throws(() => parsed('ro,stoer=x,secret=hush,context=system_u'), {
    instanceOf: HelperUsageError,
    message: /^unknown mount option stoer, secret, context: /,
  });
  t.deepEqual(parse('a', '/mnt', '-s', '-o', 'stoer=x').options, []);
  t.throws(() => parsed('foreground'), { message: /unknown mount option foreground/ });
});

for (const options of ['password=hush', 'username=me,pass=hush', 'store=smb://me:hush@host/share']) {
  test(`a password is refused, and not repeated: ${options.replace('hush', '…')}`, (t) => {
    const { message } = t.throws(() => parsed(options), { instanceOf: HelperUsageError });
    t.regex(message, /credentials=FILE/);
    t.notRegex(message, /hush/);
  });
}

test('a command line that is none is refused', (t) => {
  for (const args of [
    [],
    ['a'],
    ['a', 'b', 'c'],
    ['a', 'b', '-o'],
    ['a', 'b', '-x'],
    ['a', 'b', '-N', '1'],
  ]) {
    t.throws(() => parse(...args), { instanceOf: HelperUsageError }, args.join(' '));
  }
  t.throws(() => parsed('store'), { message: /store needs a value/ });
  t.throws(() => parsed('no-daemon=1'), { message: /no-daemon takes no value/ });
});
