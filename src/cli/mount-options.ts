/** The options of the commands that mount an image: how it starts. */
import type { Command } from 'commander';
import type { MountSettings } from '../mount/mount.js';

export interface MountOptions {
  preload: boolean;
}

export function addMountOptions(command: Command): Command {
  return command.option(
    '--no-preload',
    'do not walk what containers of the image asked for as they started through the mount',
  );
}

/** Leaves out what is as it is by default. */
export function mountSettingsOf({ preload }: MountOptions): MountSettings {
  return preload ? {} : { preload };
}
