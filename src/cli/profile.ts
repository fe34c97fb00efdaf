/** `orca profile show` and `orca profile push`: what containers of an image ask for as they start. */
import type { Command } from 'commander';
import { counted } from '../counted.js';
import type { ImageRequest } from '../mount/open-image.js';
import type { ImageProfile } from '../runtime/image-profile.js';
import { guarded } from './failure.js';
import { addImageOptions, IMAGE_ARGUMENT, type ImageOptions, imageRequestOf } from './image-options.js';
import { addLogOptions, applyLogOptions, configured } from './options.js';

export function addProfileCommand(program: Command): void {
  const parent = program
    .command('profile')
    .summary('show or publish what containers of an image ask for as they start')
    .enablePositionalOptions();
  addLogOptions(parent);
  addSubcommand(
    parent,
    'show',
    'print the startup profile of an image and draw it: the one of this host, or else the published one',
    async (request, cache, signal, options) => {
      const { readImageProfile } = await import('../runtime/image-profile.js');
      const found = await readImageProfile(request, cache, signal);
      const { profileDrawing, profileJson, profileTable } = await import('./profile-view.js');
      const { profile, ...about } = found;
      if (options.json) return `${JSON.stringify({ ...about, ...profileJson(profile) }, undefined, 2)}\n`;
      return `${headOf(found)}\n${profileDrawing(profile)}\n${profileTable(profile)}`;
    },
  ).option('--json', 'as JSON');
  addSubcommand(
    parent,
    'push',
    'publish the startup profile that this host has of an image: to its registry, or with --store DIR into a store on a local disk',
    async (request, cache, signal) => {
      const { publishImageProfile } = await import('../runtime/image-profile.js');
      return headOf(await publishImageProfile(request, cache, signal));
    },
  );
}

type Action = (
  request: ImageRequest,
  cache: string,
  signal: AbortSignal,
  options: { json?: boolean },
) => Promise<string>;

function addSubcommand(parent: Command, name: string, summary: string, action: Action): Command {
  const command = parent
    .command(name)
    .summary(summary)
    .description(`${summary[0]?.toUpperCase()}${summary.slice(1)}.`)
    .argument('<image>', IMAGE_ARGUMENT);
  addImageOptions(command);
  addLogOptions(command);
  command.action(
    guarded(async (image: string, options: ImageOptions & { json?: boolean }) => {
      await applyLogOptions(command, 'warn');
      const { Interruption } = await import('../runtime/interruption.js');
      const settings = await configured(command, options);
      const interruption = new Interruption();
      try {
        const request = await imageRequestOf(image, settings);
        process.stdout.write(await action(request, settings.cache, interruption.signal, options));
      } finally {
        interruption.close();
      }
    }),
  );
  return command;
}

function headOf({ image, manifestDigest, from, profile }: ImageProfile): string {
  const { runs, entries, steps } = profile;
  const blocks = entries.reduce((sum, { count }) => sum + count, 0);
  const source = from === 'host' ? 'of this host' : 'published';
  const parts = [counted(runs, 'run'), counted(blocks, 'block'), counted(steps.length, 'step')];
  return `${image} ${manifestDigest}: ${[source, ...parts].join(', ')}\n`;
}
