/** runc as a child process: finding it, running a bundle in the foreground, and removing what it left. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { signalStatus } from './interruption.js';
import { RuntimeError } from './runtime-error.js';

/** Looks for the first process of a container, as native/launcher/relay.cc has them. */
const INIT_TRIES = 200;
const INIT_PAUSE_MS = 10;

/** The first `runc` on PATH. NO_RUNC when there is none. */
export async function findRunc(path = process.env['PATH'] ?? ''): Promise<string> {
  const candidates = path.split(':').map((directory) => join(directory, 'runc'));
  const looked = await Promise.allSettled(candidates.map((candidate) => access(candidate, constants.X_OK)));
  const found = candidates[looked.findIndex(({ status }) => status === 'fulfilled')];
  if (found !== undefined) return found;
  throw new RuntimeError('NO_RUNC', 'runc is not on PATH: install it (Debian: apt-get install runc)');
}

export class Runc {
  readonly #binary: string;
  readonly #root: string;

  constructor(binary: string, root: string) {
    this.#binary = binary;
    this.#root = root;
  }

  /**
   * Starts `runc run` with our stdout and stderr. With a terminal it stays in our process group, where the kernel
   * lets it read the terminal and tells it of new window sizes; otherwise it gets a session of its own, so that
   * Ctrl-C reaches the container once, through us.
   */
  start(id: string, bundle: string, options: { terminal: boolean; interactive: boolean }): RuncProcess {
    const [file = '', ...args] = this.command(id, bundle);
    const child = spawn(file, args, {
      cwd: bundle,
      env: { PATH: process.env['PATH'] },
      stdio: [options.interactive ? 'inherit' : 'ignore', 'inherit', 'inherit'],
      detached: !options.terminal,
    });
    return new RuncProcess(child, bundle);
  }

  /** Program and arguments of `runc run`, to be started as `start` does. */
  command(id: string, bundle: string): string[] {
    return [
      ...[this.#binary, '--root', this.#root, '--log', logOf(bundle), '--log-format', 'json'],
      ...['run', '--bundle', bundle, '--pid-file', pidFileOf(bundle), id],
    ];
  }

  /** Kills and removes a container; none of that name is no error. */
  async delete(id: string): Promise<void> {
    const child = spawn(this.#binary, ['--root', this.#root, 'delete', '--force', id], { stdio: 'ignore' });
    await once(child, 'exit');
  }
}

export class RuncProcess {
  readonly #child: ChildProcess;
  readonly #bundle: string;
  readonly #exited: Promise<number>;

  constructor(child: ChildProcess, bundle: string) {
    this.#child = child;
    this.#bundle = bundle;
    this.#exited = new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('exit', (code, signal) => resolve(code ?? signalStatus(signal ?? 'SIGKILL')));
    });
  }

  /** Exit code of the container, 128 + n after a signal. Throws what checkStarted throws. */
  async exitCode(): Promise<number> {
    const code = await this.#exited;
    if (code !== 0) await checkStarted(this.#bundle);
    return code;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /**
   * Pid, on the host, of the container's first process, waiting for it as long as runc lives and is about to make it;
   * undefined when there is none.
   */
  async awaitInit(): Promise<number | undefined> {
    for (let tries = 0; ; tries++) {
      const pid = await this.#initPid();
      const { exitCode, signalCode } = this.#child;
      if (pid !== undefined || exitCode !== null || signalCode !== null || tries >= INIT_TRIES) return pid;
      await sleep(INIT_PAUSE_MS);
    }
  }

  async #initPid(): Promise<number | undefined> {
    try {
      const pid = Number(await readFile(pidFileOf(this.#bundle), 'utf8'));
      return Number.isSafeInteger(pid) && pid > 1 ? pid : undefined;
    } catch {
      return undefined;
    }
  }
}

/** Throws a RuntimeError, RUNC_FAILED for one, when runc, which has ended with a failure, never had a container. */
export async function checkStarted(bundle: string): Promise<void> {
  // After the container has started it logs no error.
  let failure: string | undefined;
  for (const line of (await readFile(logOf(bundle), 'utf8').catch(() => '')).split('\n')) {
    try {
      const record = JSON.parse(line) as { level?: string; msg?: string };
      if (record.level === 'error' || record.level === 'fatal') failure = record.msg ?? '';
    } catch {}
  }
  if (failure !== undefined)
    throw new RuntimeError(failureCode(failure), `runc could not start the container: ${failure}`);
}

function logOf(bundle: string): string {
  return join(bundle, 'runc.log');
}

function pidFileOf(bundle: string): string {
  return join(bundle, 'pid');
}

function failureCode(message: string): string {
  if (/executable file not found|no such file or directory$/.test(message)) return 'COMMAND_NOT_FOUND';
  return /exec: .*permission denied$/.test(message) ? 'NOT_EXECUTABLE' : 'RUNC_FAILED';
}
