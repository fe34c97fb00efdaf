/** `orca umount`. */
import type { Command } from 'commander';
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
    .addOption(runDirectoryOption())
    .addOption(configOption());
  addLogOptions(command);
  command.action(
    guarded(async (mountpoint: string, options: { runDir: string }) => {
      await applyLogOptions(command, 'info');
      const { unmount } = await import('../runtime/mount-point.js');
      await unmount(mountpoint, (await configured(command, options)).runDir);
    }),
  );
}
