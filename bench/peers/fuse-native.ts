/**
 * fuse-native 2.2.6 as a peer. It is installed into the test cache when a workload asks for it, with the libfuse 2
 * that npm package `fuse-shared-library-linux` carries; it is no dependency of Orca.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../test/system/command.js';
import { builtOnce } from '../../test/system/test-cache.js';

const version = '2.2.6';
const server = new URL('../../../bench/peers/fuse-native-server.cjs', import.meta.url).pathname;

/** Serves the directory at the mount point, in a process of its own; the function returned ends it. */
export async function mountFuseNative(source: string, mountpoint: string): Promise<() => Promise<void>> {
  const installed = await builtOnce(`fuse-native-${version}`, async (made) => {
    await run('npm', [
      'install',
      '--prefix',
      made,
      '--no-save',
      '--no-audit',
      '--no-fund',
      '--ignore-scripts',
      `fuse-native@${version}`,
    ]);
    const library = join(made, 'node_modules', 'fuse-shared-library-linux', 'libfuse', 'lib', 'libfuse.so');
    await mkdir(join(made, 'lib'));
    await cp(library, join(made, 'lib', 'libfuse.so.2'));
  });
  await mkdir(mountpoint, { recursive: true });
  const child = spawn(process.execPath, [server, source, mountpoint], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: {
      ...process.env,
      NODE_PATH: join(installed, 'node_modules'),
      LD_LIBRARY_PATH: join(installed, 'lib'),
    },
  });
  const ended = once(child, 'exit');
  const first = await Promise.race([once(child.stdout, 'data'), ended]);
  if (String(first[0]) !== 'mounted\n') throw new Error(`the fuse-native server ended with ${first[0]}`);
  return async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.stdin.end();
    await ended;
  };
}
