/** `orca snapshotter`: the proxy plugin of containerd. */
import type { Command } from 'commander';
import { addDaemonChoice } from './daemon-options.js';
import { guarded } from './failure.js';
import { addRegistryOptions, type ImageOptions, imageRequestOf } from './image-options.js';
import { addMountOptions, type MountOptions, mountSettingsOf } from './mount-options.js';
import {
  addCacheOptions,
  addLogOptions,
  applyLogOptions,
  configOption,
  configured,
  runDirectoryOption,
} from './options.js';

interface SnapshotterCommandOptions extends ImageOptions, MountOptions {
  root: string;
  listen: string;
  runDir: string;
  socket?: string;
  daemon?: boolean;
}

export function addSnapshotterCommand(program: Command): void {
  const command = program
    .command('snapshotter')
    .summary('serve snapshots to containerd')
    .description(
      'Serves containerd as a snapshotter, until SIGTERM or SIGINT. Images are mounted by the host daemon, which\n' +
        'is started if need be, from the share or from their blobs; those that cannot be are unpacked into overlayfs\n' +
        'as usual.',
    )
    .option('--root <dir>', 'snapshots, on a disk file system', '/var/lib/orca/snapshotter')
    .option('--listen <path>', 'socket that containerd connects to', '/run/orca/snapshotter.sock')
    .addOption(runDirectoryOption());
  addCacheOptions(command).addOption(configOption());
  addRegistryOptions(command);
  addMountOptions(command);
  addDaemonChoice(command);
  addLogOptions(command);
  command.action(
    guarded(async (options: SnapshotterCommandOptions) => {
      await applyLogOptions(command, 'info');
      // Of systemd, and not of a daemon that is started here.
      const { NOTIFY_SOCKET: notifySocket } = process.env;
      delete process.env['NOTIFY_SOCKET'];
      const [{ Interruption }, { serveSnapshotter }, { chosenDaemon }, { notify }] = await Promise.all([
        import('../runtime/interruption.js'),
        import('../snapshotter/serve.js'),
        import('./daemon-mount.js'),
        import('../native/supervision.js'),
      ]);
      const settings = await configured(command, options);
      const { image: _, ...request } = await imageRequestOf('', settings);
      const images = { ...request, ...mountSettingsOf(settings) };
      const interruption = new Interruption();
      try {
        const print = (socket: string) => {
          process.stdout.write(`${socket}\n`);
          if (notifySocket !== undefined) notify(notifySocket, 'READY=1');
        };
        // Mounts of this process would end with it, and its containers get errors: only for those who ask for that.
        const daemon = await chosenDaemon({ ...settings, daemon: settings.daemon ?? true });
        const { cache, cacheSize, root, listen } = settings;
        await serveSnapshotter(
          { cache, cacheSize, root, socket: listen, images, daemon },
          interruption.signal,
          print,
        );
      } finally {
        interruption.close();
      }
    }),
  );
}
