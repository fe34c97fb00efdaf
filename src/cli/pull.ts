/** `orca pull`: what a later mount needs to know of an image, fetched into the cache. */
import type { Command } from 'commander';
import { addDaemonChoice } from './daemon-options.js';
import { guarded } from './failure.js';
import { addRegistryOptions, type ImageOptions, imageRequestOf } from './image-options.js';
import {
  addCacheOptions,
  addLogOptions,
  applyLogOptions,
  configOption,
  configured,
  runDirectoryOption,
} from './options.js';

interface PullOptions extends ImageOptions {
  runDir: string;
  socket?: string;
  daemon?: boolean;
}

export function addPullCommand(program: Command): void {
  const command = program
    .command('pull')
    .summary('look an image up, so that it mounts without its registry')
    .description(
      'Resolves an image of a registry, fetches its manifest, index and block digests into the cache, and prints the digest. Nothing is mounted and no layer is downloaded.',
    )
    .argument('<reference>', '[REGISTRY/]REPOSITORY[:TAG][@DIGEST]');
  addCacheOptions(command).addOption(runDirectoryOption()).addOption(configOption());
  addRegistryOptions(command);
  addDaemonChoice(command);
  addLogOptions(command);
  command.action(
    guarded(async (reference: string, options: PullOptions) => {
      await applyLogOptions(command, 'info');
      const [{ Interruption }, { chosenDaemon, pullByDaemon }] = await Promise.all([
        import('../runtime/interruption.js'),
        import('./daemon-mount.js'),
      ]);
      const settings = await configured(command, options);
      const interruption = new Interruption();
      try {
        const request = await imageRequestOf(reference, { ...settings, pull: 'always' });
        const daemon = await chosenDaemon(settings);
        const digest =
          daemon === undefined
            ? await (await import('../mount/pull-image.js')).pullImage(request, settings, interruption.signal)
            : await pullByDaemon(daemon, request, interruption.signal);
        process.stdout.write(`${digest}\n`);
      } finally {
        interruption.close();
      }
    }),
  );
}
