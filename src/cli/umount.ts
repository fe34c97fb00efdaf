/** `orca umount`. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { addSocketOption } from './daemon-options.js';
import { guarded } from './failure.js';
import { addLogOptions, applyLogOptions, configOption, configured, runDirectoryOption } from './options.js';

export function addUmountCommand(program: Command): void {
  const command = program
    .command('umount')
    .summary('unmount an image')
    .description(
      'Unmounts what orca mount has mounted, and waits until the process that served it has ended.',
    )
    .argument('<mountpoint>')
    .option('-f, --force', 'also when it is in use: what uses it gets errors')
    .addOption(runDirectoryOption())
    .addOption(configOption());
  addSocketOption(command);
  addLogOptions(command);
  command.action(
    guarded(async (mountpoint: string, options: { runDir: string; socket?: string; force?: boolean }) => {
      await applyLogOptions(command, 'info');
      const [{ unmount }, { DaemonClient }, { socketOf }, { locate }] = await Promise.all([
        import('../runtime/mount-point.js'),
        import('../daemon/client.js'),
        import('../daemon/start.js'),
        import('../mount/mount-point.js'),
      ]);
      const { runDir, socket, force = false } = await configured(command, options);
      const place = await locate(mountpoint);
      const daemon = new DaemonClient(resolve(socket ?? socketOf(runDir)));
      const mounts = (await daemon.ping()) === undefined ? [] : await daemon.mounts();
      const served = mounts.find((mount) => mount.mountpoint === place);
      if (served === undefined) await unmount(mountpoint, runDir, force);
      else await daemon.removeMount(served.id, { force });
    }),
  );
}
