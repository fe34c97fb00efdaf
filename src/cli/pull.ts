/** `orca pull`: what a later mount needs to know of an image, fetched into the cache. */
import type { Command } from 'commander';
import { guarded } from './failure.js';
import { addRegistryOptions, type ImageOptions, imageRequestOf } from './image-options.js';
import { addCacheOptions, addLogOptions, applyLogOptions, configOption, configured } from './options.js';

export function addPullCommand(program: Command): void {
  const command = program
    .command('pull')
    .summary('look an image up, so that it mounts without its registry')
    .description(
      'Resolves an image of a registry, fetches its manifest, index and block digests into the cache, and prints the digest. Nothing is mounted and no layer is downloaded.',
    )
    .argument('<reference>', '[REGISTRY/]REPOSITORY[:TAG][@DIGEST]');
  addCacheOptions(command).addOption(configOption());
  addRegistryOptions(command);
  addLogOptions(command);
  command.action(
    guarded(async (reference: string, options: ImageOptions) => {
      await applyLogOptions(command, 'info');
      const [{ Interruption }, { pullImage }] = await Promise.all([
        import('../runtime/interruption.js'),
        import('../mount/pull-image.js'),
      ]);
      const settings = await configured(command, options);
      const interruption = new Interruption();
      try {
        const request = await imageRequestOf(reference, { ...settings, pull: 'always' });
        process.stdout.write(`${await pullImage(request, settings, interruption.signal)}\n`);
      } finally {
        interruption.close();
      }
    }),
  );
}
