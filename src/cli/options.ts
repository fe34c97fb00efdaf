/** Options that several commands have, spelled and described once. */
import { homedir } from 'node:os';
import { join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { RuntimeError } from '../runtime/runtime-error.js';
import { parseSize } from '../runtime/units.js';
import {
  configureLogging,
  LOG_FORMATS,
  LOG_LEVELS,
  type LogFormat,
  type LogLevel,
} from '../telemetry/logger.js';

export interface LogOptions {
  logLevel?: LogLevel;
  logFormat?: LogFormat;
}

export interface SourceOptions {
  store?: string;
  cache: string;
  cacheSize?: number;
  credentials?: string;
}

export function addLogOptions(command: Command): Command {
  return command
    .addOption(new Option('--log-level <level>', 'what to log on stderr').choices(LOG_LEVELS))
    .addOption(new Option('--log-format <format>', 'how to log it').choices(LOG_FORMATS));
}

/** Options of the command win over those before it. */
export function logOptionsOf(
  command: Command,
  otherwise: LogLevel,
): { logLevel: LogLevel; logFormat: LogFormat } {
  const own = command.opts<LogOptions>();
  const global = command.parent?.opts<LogOptions>() ?? {};
  return {
    logLevel: own.logLevel ?? global.logLevel ?? otherwise,
    logFormat: own.logFormat ?? global.logFormat ?? 'text',
  };
}

export async function applyLogOptions(command: Command, otherwise: LogLevel): Promise<void> {
  const { logLevel, logFormat } = logOptionsOf(command, otherwise);
  await configureLogging({ level: logLevel, format: logFormat });
}

export function storeOption(description: string): Option {
  return new Option('--store <store>', description).env('ORCA_STORE');
}

/** Not left to commander, which would complain of a missing store before it complains of a misspelt option. */
export function requireStore<T extends { store?: string }>(options: T): T & { store: string } {
  if (options.store) return { ...options, store: options.store };
  throw new RuntimeError('INVALID_OPTION', 'no store is named: give --store, or set ORCA_STORE');
}

export function addSourceOptions(command: Command): Command {
  addCacheOptions(command.addOption(storeOption('file:DIR, a path, or smb://HOST[:PORT]/SHARE[/PATH]')));
  return command
    .option('--credentials <file>', 'user and password for smb, in the format of mount.cifs')
    .addOption(configOption());
}

export function addCacheOptions(command: Command): Command {
  return command
    .addOption(
      new Option('--cache <dir>', 'block cache of this host')
        .env('ORCA_CACHE')
        .default(defaultCacheDirectory()),
    )
    .addOption(
      new Option(
        '--cache-size <size>',
        'upper limit of the block cache, such as 20G; 80 % of the free space by default',
      ).argParser(sizeOption),
    );
}

export function runDirectoryOption(): Option {
  return new Option('--run-dir <dir>', 'state of running containers and mounts, on a disk file system')
    .env('ORCA_RUN_DIR')
    .default(defaultRunDirectory());
}

/**
 * The options, with what the configuration file says where neither command line nor environment does. Lists of
 * registries are those of both.
 */
export async function configured<T extends object>(command: Command, options: T): Promise<T> {
  const { config: path } = options as { config?: string };
  const { readHostConfig } = await import('../runtime/host-config.js');
  const { insecureRegistries, mirrors, registryCas, ...single } = await readHostConfig(path);
  const merged = { ...options } as Record<string, unknown>;
  const has = (name: string) => command.options.some((option) => option.attributeName() === name);
  for (const [name, value] of Object.entries(single)) {
    const from = command.getOptionValueSource(name);
    if (has(name) && (from === undefined || from === 'default')) merged[name] = value;
  }
  if (has('insecureRegistry')) {
    const own = options as { insecureRegistry?: string[]; registryMirror?: Record<string, string[]> };
    merged['insecureRegistry'] = [...(own.insecureRegistry ?? []), ...insecureRegistries];
    merged['registryMirror'] = { ...mirrors, ...own.registryMirror };
    merged['registryCas'] = registryCas;
  }
  return merged as T;
}

export function configOption(): Option {
  return new Option(
    '--config <file>',
    'configuration file (default: /etc/orca/config.toml, if it is there)',
  ).env('ORCA_CONFIG');
}

/** An argParser: bytes. */
export function sizeOption(text: string): number {
  const size = parseSize(text);
  if (size === undefined) throw new InvalidArgumentError('write a number with K, M, G or T.');
  return size;
}

function defaultCacheDirectory(): string {
  if (process.getuid?.() === 0) return '/var/cache/orca';
  return join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'orca');
}

function defaultRunDirectory(): string {
  if (process.getuid?.() === 0) return '/var/lib/orca/run';
  return join(process.env['XDG_STATE_HOME'] || join(homedir(), '.local/state'), 'orca/run');
}
