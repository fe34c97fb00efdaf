/** `orca mount`: an image of a registry or a store, mounted read-only. */
import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { addDaemonChoice } from './daemon-options.js';
import { guarded } from './failure.js';
import { addImageOptions, IMAGE_ARGUMENT, type ImageOptions, imageRequestOf } from './image-options.js';
import { addLogOptions, applyLogOptions, configured, logOptionsOf, runDirectoryOption } from './options.js';

interface MountCommandOptions extends ImageOptions {
  runDir: string;
  socket?: string;
  daemon?: boolean;
  foreground?: boolean;
  logFile?: string;
}

export function addMountCommand(program: Command): void {
  const command = program
    .command('mount')
    .summary('mount an image')
    .description(
      'Mounts an image of a registry, or of a store, read-only. Returns when the mount answers; a process in the background serves it.',
    )
    .argument('<image>', IMAGE_ARGUMENT)
    .argument('<mountpoint>', 'a directory')
    .option('--foreground', 'serve in this process, until unmounted or interrupted')
    .option('--log-file <file>', 'log of the background process (default: in the run directory)')
    .addOption(runDirectoryOption());
  addImageOptions(command);
  addDaemonChoice(command);
  addLogOptions(command);
  command.action(
    guarded(async (image: string, mountpoint: string, options: MountCommandOptions) => {
      await applyLogOptions(command, 'info');
      const { serveInBackground, serveMount } = await import('../runtime/mount-server.js');
      const settings = await configured(command, options);
      const { cache, cacheSize, runDir } = settings;
      const request = { ...(await imageRequestOf(image, settings)), cache, cacheSize, runDir, mountpoint };
      const print = (description: string) => void process.stdout.write(`${description}\n`);
      if (options.foreground) return await serveMount(request, print);
      const { chosenDaemon, mountByDaemon } = await import('./daemon-mount.js');
      const daemon = await chosenDaemon(settings);
      if (daemon !== undefined) {
        const { cache: _, cacheSize: __, runDir: ___, ...order } = request;
        const info = await mountByDaemon(daemon, randomBytes(6).toString('hex'), order);
        return print(`${info.image} at ${info.mountpoint}, ${info.served}`);
      }
      print(
        await serveInBackground(request, {
          entry: fileURLToPath(new URL('main.js', import.meta.url)),
          logFile: options.logFile,
          ...logOptionsOf(command, 'info'),
        }),
      );
    }),
  );
  program.command('serve-mount <image> <mountpoint>', { hidden: true }).action(
    guarded(async () => {
      const { serveForParent } = await import('../runtime/mount-server.js');
      await serveForParent();
    }),
  );
}
