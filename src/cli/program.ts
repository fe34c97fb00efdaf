/**
 * All commands and their options. Each command has a file that declares its options; what does the work is imported
 * when the command runs, so that `--version` and the start of a container wait for nothing else.
 */
import { Command } from 'commander';
import { packageVersion } from '../installation.js';
import { addCompletionCommand } from './completion.js';
import { addDaemonCommand } from './daemon.js';
import { addDoctorCommand } from './doctor.js';
import { addExpandCommand } from './expand.js';
import { addImagesCommand, addPruneCommand } from './images.js';
import { addInspectCommand } from './inspect.js';
import { addMountCommand } from './mount.js';
import { addLogOptions } from './options.js';
import { addProfileCommand } from './profile.js';
import { addPsCommand } from './ps.js';
import { addPullCommand } from './pull.js';
import { addRegistryCommand } from './registry.js';
import { addRunCommand } from './run.js';
import { addSnapshotterCommand } from './snapshotter.js';
import { addStatCommand } from './stat.js';
import { addTopCommand } from './top.js';
import { addUmountCommand } from './umount.js';

export function createProgram(): Command {
  const program = new Command('orca')
    .description(
      'Starts containers without pulling them: images are mounted from a file share and read on demand.',
    )
    .version(packageVersion())
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({ outputError: () => undefined });
  addLogOptions(program);
  addExpandCommand(program);
  addMountCommand(program);
  addUmountCommand(program);
  addRunCommand(program);
  addPullCommand(program);
  addInspectCommand(program);
  addDaemonCommand(program);
  addPsCommand(program);
  addStatCommand(program);
  addTopCommand(program);
  addImagesCommand(program);
  addPruneCommand(program);
  addProfileCommand(program);
  addRegistryCommand(program);
  addSnapshotterCommand(program);
  addDoctorCommand(program);
  addCompletionCommand(program);
  return program;
}
