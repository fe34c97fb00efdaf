/** `orca images`: the images that the host daemon has opened. */
import type { Command } from 'commander';
import { addDaemonOptions, type DaemonOptions, runningDaemon } from './daemon-options.js';
import { guarded } from './failure.js';
import { addLogOptions, applyLogOptions } from './options.js';
import { formatBytes } from './progress.js';
import { formatTable } from './table.js';
import { formatAge } from './units.js';

export function addImagesCommand(program: Command): void {
  const command = program
    .command('images')
    .summary('list images that were mounted, and what of them is cached')
    .option('--json', 'as JSON');
  addDaemonOptions(command);
  addLogOptions(command);
  command.action(
    guarded(async (options: DaemonOptions & { json?: boolean }) => {
      await applyLogOptions(command, 'info');
      const images = await (await runningDaemon(command, options)).images();
      if (options.json) return void process.stdout.write(`${JSON.stringify(images, undefined, 2)}\n`);
      const rows = images.map((image) => [
        image.image,
        image.manifestDigest.slice(0, 19),
        String(image.layers),
        formatBytes(image.bytes),
        formatBytes(image.bytesCached),
        String(image.mounts),
        formatAge(Date.now() - image.lastUsedAt),
      ]);
      const head = ['IMAGE', 'DIGEST', 'LAYERS', 'SIZE', 'CACHED', 'MOUNTS', 'LAST MOUNTED'];
      process.stdout.write(formatTable([head, ...rows]));
    }),
  );
}
