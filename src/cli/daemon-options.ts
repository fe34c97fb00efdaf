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
  daemon?: boolean;
}

export function addSocketOption(command: Command): Command {
  return command.addOption(
    new Option('--socket <path>', 'control socket of the daemon (default: in the run directory)').env(
      'ORCA_SOCKET',
    ),
  );
}

/** `daemon` is then undefined (the host daemon, where there can be one), true (that or an error) or false. */
export function addDaemonChoice(command: Command): Command {
  return addSocketOption(command)
    .addOption(new Option('--daemon', 'fail where the host daemon cannot do it'))
    .addOption(noDaemonOption('do it in a process of its own, without the host daemon'));
}

function noDaemonOption(description: string): Option {
  return new Option('--no-daemon', description).env('ORCA_NO_DAEMON');
}

/** Of every command that speaks to the daemon. */
export function addDaemonPlace(command: Command): Command {
  addCacheOptions(command.addOption(runDirectoryOption()));
  return addSocketOption(command).addOption(configOption());
}

/** For commands that only ask. */
export function addDaemonOptions(command: Command): Command {
  return addDaemonPlace(command).addOption(noDaemonOption('start no daemon: an error where none runs'));
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

/** The daemon, started if none runs. With `--no-daemon` none is: its requests throw DaemonError NOT_RUNNING then. */
export async function hostDaemon(command: Command, options: DaemonOptions): Promise<DaemonClient> {
  const [{ DaemonClient }, { ensureDaemon }, place] = await Promise.all([
    import('../daemon/client.js'),
    import('../daemon/start.js'),
    daemonPlace(command, options),
  ]);
  if (options.daemon !== false) await ensureDaemon(place);
  return new DaemonClient(place.socket);
}
