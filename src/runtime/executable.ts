/**
 * Finds the command of a container in the image before runc does, so that the user gets one line and the exit code
 * that Docker gives: 127 where nothing has that name, 126 where it cannot be executed.
 */
import { posix } from 'node:path';
import { lookup, type RootfsEntry } from './rootfs.js';
import { RuntimeError } from './runtime-error.js';

/**
 * `command` is the first word of the container's process, `path` its PATH, `workingDirectory` what a relative name
 * with a slash is relative to. Directories that are bind-mounted into the container are not seen here: the caller
 * leaves the check out for commands below `volumes`.
 */
export async function checkExecutable(
  root: string,
  command: string,
  options: { path: string; workingDirectory: string; volumes: readonly string[] },
): Promise<void> {
  let denied: string | undefined;
  for (const candidate of candidates(command, options.path, options.workingDirectory)) {
    if (options.volumes.some((volume) => isWithin(candidate, volume))) return;
    const entry = await lookup(root, candidate);
    if (entry === undefined) continue;
    if (isExecutable(entry)) return;
    denied ??= entry.stats.isDirectory() ? `${candidate} is a directory` : `${candidate} is not executable`;
  }
  if (denied !== undefined && command.includes('/')) {
    throw new RuntimeError('NOT_EXECUTABLE', `cannot run ${JSON.stringify(command)}: ${denied} in the image`);
  }
  const where = command.includes('/') ? 'in the image' : `on the image's PATH (${options.path})`;
  throw new RuntimeError(
    'COMMAND_NOT_FOUND',
    `cannot run ${JSON.stringify(command)}: no such command ${where}`,
  );
}

function candidates(command: string, path: string, workingDirectory: string): string[] {
  if (command.includes('/')) return [posix.resolve(workingDirectory, command)];
  return path.split(':').map((directory) => posix.resolve(workingDirectory, directory, command));
}

function isExecutable(entry: RootfsEntry): boolean {
  return entry.stats.isFile() && (entry.stats.mode & 0o111) !== 0;
}

function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory.endsWith('/') ? directory : `${directory}/`);
}
