import { readFile } from 'node:fs/promises';
import test from 'ava';
import { isOneLine, orca, startOrca } from './orca.js';

const COMMANDS = [
  ...['expand', 'mount', 'umount', 'run', 'pull', 'inspect'],
  ...[
    'daemon',
    'ps',
    'stat',
    'top',
    'images',
    'prune',
    'profile',
    'registry',
    'snapshotter',
    'doctor',
    'completion',
  ],
];

test('--version prints the version of the package', async (t) => {
  const { version } = JSON.parse(await readFile('package.json', 'utf8')) as { version: string };
  t.deepEqual(await orca(['--version']), { code: 0, stdout: `${version}\n`, stderr: '' });
});

test('--help lists every command, and no other', async (t) => {
  const { code, stdout } = await orca(['--help']);
  t.is(code, 0);
  const listed = [...stdout.matchAll(/^ {2}([a-z][a-z-]+) .*(?:<|\[)/gm)].map(([, name]) => name);
  t.deepEqual(listed, [...COMMANDS, 'help']);
});

for (const command of COMMANDS) {
  test(`orca ${command} --help explains its options`, async (t) => {
    const { code, stdout, stderr } = await orca([command, '--help']);
    t.is(code, 0);
    t.is(stderr, '');
    t.true(stdout.startsWith(`Usage: orca ${command} [options]`));
    t.regex(stdout, /--log-level <level>/);
    t.notRegex(stdout, /default: (false|\[\])/);
  });
}

for (const [args, code, message] of [
  [['bogus'], 2, /unknown command 'bogus': see orca --help/],
  [['mount'], 2, /missing required argument 'image': see orca mount --help/],
  [['mount', 'a', 'b', '--stoer', 'x'], 2, /unknown option '--stoer'.*see orca mount --help/],
  [['umount', 'a', 'b'], 2, /too many arguments/],
  [['--log-level', 'loud', 'umount', 'x'], 2, /Allowed choices are debug/],
  [['mount', 'a', 'b', '--store', 'x', '--cache-size', '5X'], 2, /number with K, M, G or T/],
  [['run'], 125, /missing required argument 'image': see orca run --help/],
  [['run', '--bogus', 'image'], 125, /unknown option '--bogus'/],
  [['run', '--net', 'bridge', 'image'], 125, /Allowed choices are host, none/],
  [['pull', 'a b'], 1, /is not an image name/],
  [['expand', 'oci:x'], 1, /no store is named/],
  [['serve-mount', 'a', 'b'], 1, /started by orca mount, not by hand/],
] as const) {
  test(`orca ${args.join(' ')} ends with ${code} and one line`, async (t) => {
    const ended = await orca(args);
    t.is(ended.code, code);
    t.true(isOneLine(ended), ended.stderr);
    t.regex(ended.stderr, message);
  });
}

test('orca alone shows the help and fails', async (t) => {
  const { code, stderr } = await orca([]);
  t.is(code, 2);
  t.regex(stderr, /^Usage: orca/);
});

test('a stack is shown with --log-level debug, before or after the command, and only then', async (t) => {
  const plain = await orca(['umount', '/nowhere/at/all']);
  t.is(plain.code, 1);
  t.true(isOneLine(plain), plain.stderr);
  for (const args of [
    ['--log-level', 'debug', 'umount', '/nowhere/at/all'],
    ['umount', '--log-level', 'debug', '/nowhere/at/all'],
  ]) {
    t.regex((await orca(args)).stderr, /\n {4}at /);
  }
});

test('with --log-format json a failure is a JSON record', async (t) => {
  const { code, stderr } = await orca(['umount', '--log-format', 'json', '/nowhere/at/all']);
  t.is(code, 1);
  t.regex((JSON.parse(stderr) as { msg: string }).msg, /\/nowhere\/at\/all/);
});

test('a password in a URL is gone from the command line at once, and in no message', async (t) => {
  // Nothing listens on port 1, so the command has time to be looked at or fails at once; both must not tell.
  const url = 'smb://somebody:s3cret-word@127.0.0.1:1/share';
  const { process: child, ended } = startOrca(['inspect', 'image', '--store', url, '--log-level', 'debug']);
  const seen: string[] = [];
  const timer = setInterval(async () => {
    seen.push(await readFile(`/proc/${child.pid}/cmdline`, 'utf8').catch(() => ''));
  }, 5);
  const { code, stdout, stderr } = await ended;
  clearInterval(timer);
  t.not(code, 0);
  t.notRegex(stdout + stderr, /s3cret-word/);
  const titles = seen.filter((title) => title.startsWith('orca '));
  for (const title of titles) t.notRegex(title, /s3cret-word/);
  t.true(titles.length > 0 || seen.length < 20, 'the command line was never overwritten');
});
