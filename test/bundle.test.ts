/** What `npm run build` makes of the sources, as users start it. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { packageFile, packageVersion } from '../src/installation.js';
import { parentOf } from './system/command.js';

const node = async (args: string[], env: NodeJS.ProcessEnv = {}) =>
  (await promisify(execFile)(process.execPath, args, { env: { ...process.env, ...env } })).stdout;

test.before(async () => void (await node([packageFile('bundle.js')])));

test('the bundled command finds package.json, the addon, the supervisor and the bundled daemon', async (t) => {
  const orca = packageFile('dist/bin/orca.js');
  t.is(await node([orca, '--version']), `${packageVersion()}\n`);
  const directory = await mkdtemp(join(tmpdir(), 'orca-bundle-'));
  const env = { ORCA_RUN_DIR: join(directory, 'run'), ORCA_CACHE: join(directory, 'cache') };
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  await node([orca, 'daemon', '--detach'], env);
  try {
    const { daemon } = JSON.parse(await node([orca, 'stat', '--json'], env)) as { daemon: { pid: number } };
    // The daemon has another title; its supervisor has been told what to start.
    const supervisor = await parentOf(daemon.pid);
    t.regex(await readFile(`/proc/${supervisor}/cmdline`, 'utf8'), /\/dist\/bin\/orcad\.js\0/);
  } finally {
    await node([orca, 'daemon', '--stop'], env);
  }
});

test('the threads of the bundled registry lie where they are looked for', async (t) => {
  const text = await readFile(packageFile('bundle.js'), 'utf8');
  for (const name of ['orca', 'orcad', 'expansion-worker', 'layer-worker', 'password-worker']) {
    t.regex(text, new RegExp(`\\b'?${name}'?: '`));
    t.true((await readFile(packageFile(`dist/bin/${name}.js`))).length > 0);
  }
});
