/** Finding the daemon of a run directory, and starting one under its supervisor where there is none. */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { entryOf, packageFile } from '../installation.js';
import { connectionRefusal } from '../runtime/unix-socket.js';
import type { LogFormat, LogLevel } from '../telemetry/logger.js';
import { DaemonError, notPermitted } from './daemon-error.js';

export interface DaemonCommandOptions {
  /** All absolute. */
  socket: string;
  runDirectory: string;
  cache: string;
  cacheSize?: number | undefined;
  logLevel?: LogLevel;
  logFormat?: LogFormat;
  /** Where the read-only HTTP port is, as 127.0.0.1:PORT; without it there is none. */
  http?: string | undefined;
}

/** sun_path of unix(7), with its NUL. */
const MAX_SOCKET_PATH = 107;
const START_MS = 15_000;
const POLL_MS = 5;

export function socketOf(runDirectory: string): string {
  return join(runDirectory, 'daemon', 'orca.sock');
}

/**
 * A mount is code that has run once or twice before, node's own included: compiled when it is first called it takes less
 * time than interpreted for a while (docs/BENCHMARKS.md, "Where a mount of 34 layers spends its time"). Node does not start
 * with a flag that its V8 has dropped, so only versions get it that it has been tried with.
 */
const COMPILED_EARLY = [20, 22, 24].includes(Number.parseInt(process.versions.node, 10))
  ? ['--always-sparkplug']
  : [];

/** The daemon's own program and arguments, as the supervisor starts it. */
export function daemonCommand(options: DaemonCommandOptions): string[] {
  const { runDirectory, cache, cacheSize, logLevel, logFormat, http } = options;
  const entry = fileURLToPath(entryOf('orcad'));
  return [
    ...[process.execPath, '--max-semi-space-size=2', ...COMPILED_EARLY, entry],
    ...['--run-dir', runDirectory, '--cache', cache],
    ...(cacheSize === undefined ? [] : ['--cache-size', String(cacheSize)]),
    ...(logLevel === undefined ? [] : ['--log-level', logLevel]),
    ...(logFormat === undefined ? [] : ['--log-format', logFormat]),
    ...(http === undefined ? [] : ['--http', http]),
  ];
}

/** Program and arguments of the supervisor. Makes the directories that it needs. Throws NO_START. */
export function supervisorCommand(options: DaemonCommandOptions): string[] {
  const command = supervisorOf(options.socket, daemonCommand(options));
  if (Buffer.byteLength(options.socket) > MAX_SOCKET_PATH) {
    throw new DaemonError(
      'NO_START',
      `${options.socket} is too long for a socket (${MAX_SOCKET_PATH} bytes): give --socket`,
    );
  }
  const folders = ['daemon', 'launch'].map((name) => join(options.runDirectory, name));
  for (const path of [dirname(options.socket), ...folders]) {
    try {
      mkdirSync(path, { recursive: true, mode: 0o700 });
    } catch (cause) {
      const { code, message } = cause as NodeJS.ErrnoException;
      throw new DaemonError(
        'NO_START',
        `the daemon's directory ${path} cannot be made (${code ?? message}): give --run-dir`,
        { cause },
      );
    }
  }
  return command;
}

/** Program and arguments of a supervisor that starts `daemon`. Throws NO_START. */
export function supervisorOf(socket: string, daemon: readonly string[]): string[] {
  const supervisor = packageFile('native/build/orca-supervisor');
  if (!existsSync(supervisor))
    throw new DaemonError('NO_START', `${supervisor} is missing: build it with npm install`);
  return [supervisor, '--socket', socket, '--', ...daemon];
}

/**
 * Resolves when the socket accepts connections, having started a daemon in the background if need be. Of two that
 * start one at the same time, one supervisor gets the lock and the other ends. Throws NO_START.
 */
export async function ensureDaemon(options: DaemonCommandOptions): Promise<void> {
  const refusal = await connectionRefusal(options.socket);
  if (refusal === undefined) return;
  if (refusal === 'EACCES') throw notPermitted(options.socket);
  const [program = '', ...args] = supervisorCommand(options);
  const logFile = join(options.runDirectory, 'daemon', 'daemon.log');
  const output = openSync(logFile, 'a', 0o600);
  const child = spawn(program, args, {
    detached: true,
    stdio: ['ignore', output, output],
    cwd: '/',
    env: ownEnvironment(process.env),
  });
  closeSync(output);
  let ended: string | undefined;
  child.on('error', (error) => {
    ended = error.message;
  });
  child.on('exit', (code, signal) => {
    // 3: somebody else was faster.
    if (code !== 3) ended = `ended with ${signal ?? code}`;
  });
  child.unref();
  for (const deadline = Date.now() + START_MS; ; ) {
    if (ended !== undefined || Date.now() > deadline) {
      throw new DaemonError(
        'NO_START',
        `the daemon did not start (${ended ?? 'no socket'}): ${logFile} says why`,
      );
    }
    if (await accepts(options.socket)) return;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** A daemon outlives the command that starts it and serves others: nothing that is this command's alone stays in it. */
function ownEnvironment(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const kept =
    /^(PATH|HOME|USER|LOGNAME|LANG|LC_.*|TZ|TMPDIR|XDG_.*|SSL_CERT_.*|NODE_.*|(https?|no|all)_proxy)$/i;
  return Object.fromEntries(Object.entries(env).filter(([name]) => kept.test(name)));
}

async function accepts(path: string): Promise<boolean> {
  return (await connectionRefusal(path)) === undefined;
}
