/** `orca mount`: an image of a registry or a store, mounted read-only. */
import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { entryOf } from '../installation.js';
import { addDaemonChoice } from './daemon-options.js';
import { guarded } from './failure.js';
import { addImageOptions, IMAGE_ARGUMENT, type ImageOptions, imageRequestOf } from './image-options.js';
import { addMountOptions, type MountOptions, mountSettingsOf } from './mount-options.js';
import { addLogOptions, applyLogOptions, configured, logOptionsOf, runDirectoryOption } from './options.js';

export interface MountCommandOptions extends ImageOptions, MountOptions {
  runDir: string;
  socket?: string;
  daemon?: boolean;
  /** False: the daemon is used if it runs, and not started. */
  startDaemon?: boolean;
  foreground?: boolean;
  logFile?: string;
}

export function addMountCommand(program: Command): Command {
  const command = program
    .command('mount')
    .summary('mount an image')
    .description(
      'Mounts an image of a registry, or of a store, read-only. Returns when the mount answers; the host daemon serves it, or with --no-daemon a process of its own in the background.',
    )
    .argument('<image>', IMAGE_ARGUMENT)
    .argument('<mountpoint>', 'a directory')
    .option('--foreground', 'serve in this process, until unmounted or interrupted')
    .option('--log-file <file>', 'log of that process (default: in the run directory)')
    .addOption(runDirectoryOption());
  addImageOptions(command);
  addMountOptions(command);
  addDaemonChoice(command);
  addLogOptions(command);
  command.action(
    guarded(async (image: string, mountpoint: string, options: MountCommandOptions) => {
      await applyLogOptions(command, 'info');
      const print = (description: string) => void process.stdout.write(`${description}\n`);
      if (!options.foreground) return print(await mountInBackground(command, image, mountpoint, options));
      const { serveMount } = await import('../runtime/mount-server.js');
      const settings = await configured(command, options);
      await serveMount(await mountRequestOf(image, mountpoint, settings), print);
    }),
  );
  program.command('serve-mount <image> <mountpoint>', { hidden: true }).action(
    guarded(async () => {
      const { serveForParent } = await import('../runtime/mount-server.js');
      await serveForParent();
    }),
  );
  return command;
}

/**
 * Mounts, and leaves the mount to the daemon or to a process of its own. Returns what is mounted where and which
 * source serves it. `command` has parsed `options`.
 */
export async function mountInBackground(
  command: Command,
  image: string,
  mountpoint: string,
  options: MountCommandOptions,
): Promise<string> {
  const [{ serveInBackground }, { chosenDaemon, mountByDaemon }] = await Promise.all([
    import('../runtime/mount-server.js'),
    import('./daemon-mount.js'),
  ]);
  const settings = await configured(command, options);
  const request = await mountRequestOf(image, mountpoint, settings);
  const daemon = await chosenDaemon(settings);
  if (daemon !== undefined) {
    const { cache: _, cacheSize: __, runDir: ___, ...order } = request;
    const info = await mountByDaemon(daemon, randomBytes(6).toString('hex'), order);
    return `${info.image} at ${info.mountpoint}, ${info.served}`;
  }
  return await serveInBackground(request, {
    entry: fileURLToPath(entryOf('orca')),
    logFile: options.logFile,
    ...logOptionsOf(command, 'info'),
  });
}

async function mountRequestOf(image: string, mountpoint: string, settings: MountCommandOptions) {
  const { cache, cacheSize, runDir } = settings;
  const request = { ...(await imageRequestOf(image, settings)), ...mountSettingsOf(settings) };
  return { ...request, cache, cacheSize, runDir, mountpoint };
}
