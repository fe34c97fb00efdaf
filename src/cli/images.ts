/** `orca images`: the images that the cache of the host daemon holds; pinned, unpinned, removed. `orca prune`. */
import type { Command } from 'commander';
import { counted } from '../counted.js';
import type { ImageInfo } from '../daemon/api.js';
import { addDaemonOptions, type DaemonOptions, hostDaemon } from './daemon-options.js';
import { guarded } from './failure.js';
import { addLogOptions, applyLogOptions } from './options.js';
import { formatBytes } from './progress.js';
import { formatTable } from './table.js';
import { formatAge } from './units.js';

const IMAGE = 'name, digest, or the beginning of a digest, as orca images lists them';

export function addImagesCommand(program: Command): void {
  const command = program
    .command('images')
    .summary('list images that were mounted, and what of them is cached; pin or remove them')
    .enablePositionalOptions()
    .option('--json', 'as JSON');
  addDaemonOptions(command);
  addLogOptions(command);
  command.action(
    guarded(async (options: DaemonOptions & { json?: boolean }) => {
      await applyLogOptions(command, 'info');
      const images = await (await hostDaemon(command, options)).images();
      if (options.json) return void process.stdout.write(`${JSON.stringify(images, undefined, 2)}\n`);
      process.stdout.write(tableOf(images));
    }),
  );
  addImageCommand(command, 'pin', 'evict its blocks last, and never prune it', (daemon, image) =>
    daemon.setPinned(image, true),
  );
  addImageCommand(command, 'unpin', 'let it be evicted and pruned again', (daemon, image) =>
    daemon.setPinned(image, false),
  );
  addImageCommand(
    command,
    'rm',
    'free what only this image needs; an error while it is mounted',
    (daemon, image) => daemon.removeImage(image),
  );
}

export function addPruneCommand(program: Command): void {
  const command = program
    .command('prune')
    .summary('free what images that nobody has mounted have in the cache')
    .description('Removes images from the cache that are neither mounted nor pinned, and prints them.')
    .option('--all', 'pinned images, too');
  addDaemonOptions(command);
  addLogOptions(command);
  command.action(
    guarded(async (options: DaemonOptions & { all?: boolean }) => {
      await applyLogOptions(command, 'info');
      const daemon = await hostDaemon(command, options);
      const { images, bytesFreed } = await daemon.prune(options.all);
      const removed = images.map(({ image, manifestDigest }) => `${image} ${manifestDigest}\n`).join('');
      process.stdout.write(
        `${removed}${counted(images.length, 'image')} removed, ${formatBytes(bytesFreed)} freed\n`,
      );
    }),
  );
}

function addImageCommand(
  parent: Command,
  name: string,
  summary: string,
  action: (daemon: Awaited<ReturnType<typeof hostDaemon>>, image: string) => Promise<ImageInfo>,
): void {
  const command = parent
    .command(name)
    .summary(summary)
    .description(sentence(summary))
    .argument('<image>', IMAGE);
  addDaemonOptions(command);
  addLogOptions(command);
  command.action(
    guarded(async (image: string, options: DaemonOptions) => {
      await applyLogOptions(command, 'info');
      const { manifestDigest } = await action(await hostDaemon(command, options), image);
      process.stdout.write(`${manifestDigest}\n`);
    }),
  );
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

function tableOf(images: readonly ImageInfo[]): string {
  const rows = images.map((image) => [
    image.image,
    image.manifestDigest.slice(0, 19),
    String(image.layers),
    formatBytes(image.bytesCached),
    image.pinned ? 'yes' : '',
    String(image.mounts),
    formatAge(Date.now() - image.lastUsedAt),
  ]);
  return formatTable([['IMAGE', 'DIGEST', 'LAYERS', 'CACHED', 'PINNED', 'MOUNTS', 'LAST MOUNTED'], ...rows]);
}
