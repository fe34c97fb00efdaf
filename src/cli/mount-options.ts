/** The options of the commands that mount an image: how it starts. */
import { type Command, Option } from 'commander';
import type { MountSettings } from '../mount/mount.js';
import { PROFILE_USES, type ProfileUse } from '../mount/profile-use.js';
import { sizeOption } from './options.js';

export interface MountOptions {
  preload: boolean;
  profiles: ProfileUse;
  background?: number;
}

export function addMountOptions(command: Command): Command {
  return command
    .option(
      '--no-preload',
      'do not walk what containers of the image asked for as they started through the mount',
    )
    .addOption(
      new Option(
        '--profiles <use>',
        'startup profiles: publish them to the registry, keep them here, or do without',
      )
        .choices(PROFILE_USES)
        .default('keep'),
    )
    .addOption(
      new Option(
        '--background [rate]',
        'fetch the rest of the image when nobody waits for anything, at most this much per second (16M if no rate is given)',
      )
        .preset('16M')
        .argParser(sizeOption),
    );
}

/** Leaves out what is as it is by default. */
export function mountSettingsOf({ preload, profiles, background }: MountOptions): MountSettings {
  return {
    ...(!preload && { preload }),
    ...(profiles !== 'keep' && { profiles }),
    ...(background && { background }),
  };
}
