/** The options by which commands find the host daemon, or do without it. */
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { DaemonClient } from '../daemon/client.js';
import { addCacheOptions, configOption, configured, runDirectoryOption } from './options.js';

export interface DaemonOptions {
  runDir: string;
  socket?: string;
  cache: string;
  cacheSize?: number;
}

export function addSocketOption(command: Command): Command {
  return command.addOption(
    new Option('--socket <path>', 'control socket of the daemon (default: in the run directory)').env(
      'ORCA_SOCKET',
    ),
  );
}

/** `daemon` is then undefined (the one that runs), true (started if need be) or false. */
export function addDaemonChoice(command: Command): Command {
  return addSocketOption(command)
    .addOption(new Option('--daemon', 'let the host daemon serve it, and start one if none runs'))
    .addOption(new Option('--no-daemon', 'serve it in a process of its own, even if a daemon runs'));
}

/** For commands that only ask. */
export function addDaemonOptions(command: Command): Command {
  addCacheOptions(command.addOption(runDirectoryOption()));
  return addSocketOption(command).addOption(configOption());
}

/** Where the daemon of these options is, and with what it would be started; all absolute. */
export async function daemonPlace(command: Command, options: DaemonOptions) {
  const { socketOf } = await import('../daemon/start.js');
  const { runDir, socket, cache, cacheSize } = await configured(command, options);
  const runDirectory = resolve(runDir);
  return {
    socket: socket === undefined ? socketOf(runDirectory) : resolve(socket),
    runDirectory,
    cache: resolve(cache),
    ...(cacheSize === undefined ? {} : { cacheSize }),
  };
}

/** The daemon that runs; none is started. Its requests throw DaemonError NOT_RUNNING. */
export async function runningDaemon(command: Command, options: DaemonOptions): Promise<DaemonClient> {
  const [{ DaemonClient }, { socket }] = await Promise.all([
    import('../daemon/client.js'),
    daemonPlace(command, options),
  ]);
  return new DaemonClient(socket);
}
