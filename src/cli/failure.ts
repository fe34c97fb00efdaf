/** What the user sees of an error: one line on stderr, and an exit code. */
import type { CommanderError } from 'commander';
import { OrcaError } from '../errors.js';
import { isLogged, log, oneLine } from '../telemetry/logger.js';

export const EXIT_FAILURE = 1;
export const EXIT_USAGE = 2;
/** What Docker uses for failures of its own, apart from exit codes of the container. */
export const EXIT_RUN_FAILURE = 125;

/** A command's action that reports what it throws, and ends the process with 1 then. */
export function guarded<A extends unknown[]>(
  action: (...args: A) => Promise<void>,
): (...args: A) => Promise<void> {
  return async (...args) => {
    try {
      await action(...args);
    } catch (error) {
      process.exitCode = reportFailure(error, EXIT_FAILURE);
    }
  };
}

/** Writes the line and returns `exitCode`, unless the error knows a better one. */
export function reportFailure(error: unknown, exitCode: number): number {
  log.error(describeFailure(error));
  if (isLogged('debug')) for (const line of stackOf(error)) process.stderr.write(`${line}\n`);
  return ownExitCode(error) ?? exitCode;
}

/** The same for what commander throws: nothing is left to be said after help and version. */
export function reportUsage(error: CommanderError, command: string | undefined, exitCode: number): number {
  if (error.exitCode === 0) return 0;
  if (error.code === 'commander.help') return exitCode;
  const advice = `orca${command === undefined ? '' : ` ${command}`} --help`;
  log.error(
    `${oneLine(error.message)
      .replace(/^error: /, '')
      .replace(/\.$/, '')}: see ${advice}`,
  );
  return exitCode;
}

/** One line without `orca: `. */
export function describeFailure(error: unknown): string {
  if (error instanceof OrcaError || isSystemError(error)) return (error as Error).message;
  const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  return `unexpected ${text} (a defect of orca: --log-level debug shows where)`;
}

/** Errors of system calls, such as ENOENT, name call and path in their message. */
function isSystemError(error: unknown): boolean {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).syscall === 'string';
}

/** That of the error or of what caused it: an interruption is wrapped by what it interrupted. */
export function ownExitCode(error: unknown): number | undefined {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const { exitCode } = cause as { exitCode?: unknown };
    if (typeof exitCode === 'number') return exitCode;
  }
  return undefined;
}

function* stackOf(error: unknown): Generator<string> {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    yield cause === error ? (cause.stack ?? '') : `caused by: ${cause.stack ?? ''}`;
  }
}
