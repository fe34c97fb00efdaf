#!/usr/bin/env node
/** The `orca` command. */
import './process-title.js';
import { CommanderError } from 'commander';
import { EXIT_RUN_FAILURE, EXIT_USAGE, reportFailure, reportUsage } from './failure.js';
import { createProgram } from './program.js';

const program = createProgram();

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
