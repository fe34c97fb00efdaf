/** `orca doctor` before a real share and beside a daemon that runs. */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import type { Finding } from '../../src/doctor/finding.js';
import { addImage } from '../source/store-fixture.js';
import { orca } from './orca-command.js';
import { Samba } from './samba.js';

let directory: string;
let samba: Samba;

test.before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'orca-doctor-'));
  await addImage(join(directory, 'share/store'), 'app:1', [{ file: Buffer.from('x') }], 4096);
  samba = await Samba.start({ shares: { images: { path: join(directory, 'share') } } });
});

test.after.always(async () => {
  await samba.stop();
  await rm(directory, { recursive: true });
});

function environment(): NodeJS.ProcessEnv {
  return {
    ORCA_CONFIG: '/dev/null',
    ORCA_CACHE: join(directory, 'cache'),
    ORCA_RUN_DIR: join(directory, 'run'),
  };
}

async function doctor(...args: string[]): Promise<{ code: number | null; found: Map<string, Finding> }> {
  const { code, stdout } = await orca(['doctor', '--json', ...args], environment());
  const findings = JSON.parse(stdout) as Finding[];
  return { code, found: new Map(findings.map((finding) => [finding.name, finding])) };
}

async function credentials(name: string, password: string, mode: number): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, `username=${samba.username}\npassword=${password}\n`);
  await chmod(path, mode);
  return path;
}

test('the share, the login and the image are found good', async (t) => {
  const file = await credentials('good', samba.password, 0o600);
  const { code, found } = await doctor(
    'app:1',
    '--store',
    samba.url('images', 'store'),
    '--credentials',
    file,
  );
  t.is(code, 0);
  t.like(found.get('store'), {
    state: 'ok',
    text: `${samba.url('images', 'store')}: negotiated, logged in, share opened; 1 image`,
  });
  t.like(found.get('image'), { state: 'ok' });
});

test('a wrong password, a wrong share and an open credentials file are told apart', async (t) => {
  const wrong = await doctor(
    ...['--store', samba.url('images', 'store'), '--credentials', await credentials('bad', 'x', 0o644)],
  );
  t.is(wrong.code, 1);
  t.like(wrong.found.get('store'), { state: 'problem' });
  t.regex(wrong.found.get('store')?.remedy ?? '', /--credentials/);
  t.like(wrong.found.get('credentials'), { state: 'warning', remedy: 'chmod 600 it' });
  const file = await credentials('good', samba.password, 0o600);
  const elsewhere = await doctor('--store', samba.url('nothing'), '--credentials', file);
  t.is(elsewhere.code, 1);
  t.regex(elsewhere.found.get('store')?.text ?? '', /no share "nothing"/);
  const folder = await doctor('--store', samba.url('images', 'elsewhere'), '--credentials', file);
  t.is(folder.code, 1);
});

test('a daemon that runs is found', async (t) => {
  t.is((await orca(['daemon', '--detach'], environment())).code, 0);
  try {
    const { found } = await doctor();
    t.like(found.get('daemon'), { state: 'ok' });
    t.regex(found.get('daemon')?.text ?? '', /^orca .*, pid \d+, 0 mounts$/);
  } finally {
    t.is((await orca(['daemon', '--stop'], environment())).code, 0);
  }
});
