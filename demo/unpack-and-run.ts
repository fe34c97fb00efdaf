/**
 * What a host does without Orca, once it has the blobs: unpacks every layer, then runs the container with the same
 * runtime. `unpack-and-run.js ROOT RUN-DIR BLOB…` unpacks the blobs into ROOT first; without blobs it only runs.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { addon } from '../src/native/addon.js';
import { runContainer } from '../src/runtime/container.js';

const MS_BIND = 4096;

const [root, runDirectory, ...blobs] = process.argv.slice(2);
if (root === undefined || runDirectory === undefined) throw new Error('unpack-and-run.js ROOT RUN-DIR BLOB…');

await mkdir(root, { recursive: true });
for (const blob of blobs) {
  const tar = spawn('tar', ['-xzpf', blob, '-C', root, '--numeric-owner'], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const [code] = (await once(tar, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`tar of ${blob} ended with ${code}`);
  for (const name of await readdir(root, { recursive: true })) {
    const [, parent = '', deleted] = /^(.*\/)?\.wh\.([^/]*)$/.exec(name) ?? [];
    if (deleted === undefined) continue;
    await rm(join(root, parent, deleted), { recursive: true, force: true });
    await rm(join(root, name));
  }
}
process.exitCode = await runContainer({
  runDirectory,
  options: {
    command: ['node', '/app/main.js'],
    environment: ['NODE_ENV=production'],
    volumes: [],
    user: 'app',
    interactive: false,
    terminal: false,
    readOnly: false,
    network: 'host',
  },
  async mountImage(mountpoint) {
    addon.mount(root, mountpoint, 'none', MS_BIND, '');
    return {
      config: { env: ['PATH=/usr/local/bin:/usr/bin:/bin'], volumes: [], exposedPorts: [], labels: {} },
      unmount: async () => addon.umount(mountpoint, 0),
    };
  },
});
