/** `orca ps`: what the host daemon has mounted. */
import type { Command } from 'commander';
import { addDaemonOptions, type DaemonOptions, hostDaemon } from './daemon-options.js';
import { guarded } from './failure.js';
import { addLogOptions, applyLogOptions } from './options.js';
import { formatTable } from './table.js';
import { formatAge, formatPercent } from './units.js';

export function addPsCommand(program: Command): void {
  const command = program
    .command('ps')
    .summary('list what is mounted')
    .description(
      'Lists the mounts of the daemon: image, age, source that serves it, and part of reads answered at once.',
    )
    .option('--json', 'as JSON');
  addDaemonOptions(command);
  addLogOptions(command);
  command.action(
    guarded(async (options: DaemonOptions & { json?: boolean }) => {
      await applyLogOptions(command, 'info');
      const mounts = await (await hostDaemon(command, options)).mounts();
      if (options.json) return void process.stdout.write(`${JSON.stringify(mounts, undefined, 2)}\n`);
      const rows = mounts.map((mount) => [
        mount.id.slice(0, 12),
        mount.image,
        formatAge(Date.now() - mount.createdAt),
        String(mount.layers),
        mount.problem ?? (mount.served || (mount.sources[0]?.location ?? '')),
        formatPercent(mount.hitRatio),
        mount.mountpoint,
      ]);
      process.stdout.write(
        formatTable([['ID', 'IMAGE', 'AGE', 'LAYERS', 'SOURCE', 'HITS', 'MOUNTED AT'], ...rows]),
      );
    }),
  );
}
