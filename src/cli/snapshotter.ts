/** `orca snapshotter`: the proxy plugin of containerd. */
import type { Command } from 'commander';
import { guarded } from './failure.js';
import { addRegistryOptions, type ImageOptions, imageRequestOf } from './image-options.js';
import { addCacheOptions, addLogOptions, applyLogOptions, configOption, configured } from './options.js';

interface SnapshotterCommandOptions extends ImageOptions {
  root: string;
  socket: string;
}

export function addSnapshotterCommand(program: Command): void {
  const command = program
    .command('snapshotter')
    .summary('serve snapshots to containerd')
    .description(
      'Serves containerd as a snapshotter, until SIGTERM or SIGINT. Images that their registry has expanded are\n' +
        'mounted and not pulled; all others are unpacked into overlayfs as usual.',
    )
    .option('--root <dir>', 'snapshots, on a disk file system', '/var/lib/orca/snapshotter')
    .option('--socket <path>', 'what containerd connects to', '/run/orca/snapshotter.sock');
  addCacheOptions(command).addOption(configOption());
  addRegistryOptions(command);
  addLogOptions(command);
  command.action(
    guarded(async (options: SnapshotterCommandOptions) => {
      await applyLogOptions(command, 'info');
      const [{ Interruption }, { serveSnapshotter }] = await Promise.all([
        import('../runtime/interruption.js'),
        import('../snapshotter/serve.js'),
      ]);
      const settings = await configured(command, options);
      const { image: _, ...images } = await imageRequestOf('', settings);
      const interruption = new Interruption();
      try {
        const print = (socket: string) => void process.stdout.write(`${socket}\n`);
        await serveSnapshotter({ ...settings, images }, interruption.signal, print);
      } finally {
        interruption.close();
      }
    }),
  );
}
