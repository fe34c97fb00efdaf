import test from 'ava';
import type { Finding } from '../../src/doctor/finding.js';
import { orca } from './orca.js';

const env = { ORCA_CONFIG: '/dev/null', ORCA_CACHE: '/tmp/orca-no-cache', ORCA_RUN_DIR: '/tmp/orca-no-run' };

test('orca doctor has a line for each check, and fails when containers cannot be run', async (t) => {
  const { code, stdout, stderr } = await orca(['doctor'], { env: { ...env, PATH: '/nowhere' } });
  t.is(code, 1);
  t.is(stderr, '');
  t.regex(stdout, /^problem +runc +is not on PATH; install it \(Debian: apt-get install runc\)$/m);
  t.regex(stdout, /^(ok|warning) +kernel +Linux /m);
  for (const line of stdout.trimEnd().split('\n')) t.regex(line, /^(ok|warning|problem) +\S/);
});

test('orca doctor --json says the same to programs', async (t) => {
  const { stdout } = await orca(['doctor', '--json', '--store', '/nowhere'], { env });
  const findings = JSON.parse(stdout) as Finding[];
  t.true(findings.some(({ name, state }) => name === 'fuse device' && state === 'ok'));
  t.true(findings.some(({ name, state }) => name === 'store' && state === 'problem'));
});
