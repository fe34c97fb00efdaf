#!/usr/bin/env node
/**
 * The `orca` command. Each command has a file that declares its options; what does the work is imported when the
 * command runs, so that `--version` and the start of a container wait for nothing else.
 */
import './process-title.js';
import { createRequire } from 'node:module';
import { Command, CommanderError } from 'commander';
import { addDaemonCommand } from './daemon.js';
import { addExpandCommand } from './expand.js';
import { EXIT_RUN_FAILURE, EXIT_USAGE, reportFailure, reportUsage } from './failure.js';
import { addImagesCommand } from './images.js';
import { addInspectCommand } from './inspect.js';
import { addMountCommand } from './mount.js';
import { addLogOptions } from './options.js';
import { addPsCommand } from './ps.js';
import { addPullCommand } from './pull.js';
import { addRegistryCommand } from './registry.js';
import { addRunCommand } from './run.js';
import { addSnapshotterCommand } from './snapshotter.js';
import { addStatCommand } from './stat.js';
import { addUmountCommand } from './umount.js';

const { version } = createRequire(import.meta.url)('../../../package.json') as { version: string };

const program = new Command('orca')
  .description(
    'Starts containers without pulling them: images are mounted from a file share and read on demand.',
  )
  .version(version)
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
addImagesCommand(program);
addRegistryCommand(program);
addSnapshotterCommand(program);

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // `orca inspect … | head`: nobody reads on.
  if (error.code === 'EPIPE') process.exit();
  throw error;
});

try {
  await program.parseAsync();
} catch (error) {
  const command = program.commands.find((candidate) => candidate.name() === program.args[0])?.name();
  const exitCode = command === 'run' ? EXIT_RUN_FAILURE : EXIT_USAGE;
  process.exitCode =
    error instanceof CommanderError ? reportUsage(error, command, exitCode) : reportFailure(error, exitCode);
}
process.exit();
