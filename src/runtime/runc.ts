/** runc as a child process: finding it, running a bundle in the foreground, and removing what it left. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { signalStatus } from './interruption.js';
import { RuntimeError } from './runtime-error.js';

/** The first `runc` on PATH. NO_RUNC when there is none. */
export async function findRunc(path = process.env['PATH'] ?? ''): Promise<string> {
  for (const directory of path.split(':')) {
    const candidate = join(directory, 'runc');
    try {
      await access(candidate, constants.X_OK);
      return candidate;
    } catch {}
  }
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
    const log = join(bundle, 'runc.log');
    const pidFile = join(bundle, 'pid');
    const child = spawn(
      this.#binary,
      [
        ...['--root', this.#root, '--log', log, '--log-format', 'json'],
        ...['run', '--bundle', bundle, '--pid-file', pidFile, id],
      ],
      {
        cwd: bundle,
        env: { PATH: process.env['PATH'] },
        stdio: [options.interactive ? 'inherit' : 'ignore', 'inherit', 'inherit'],
        detached: !options.terminal,
      },
    );
    return new RuncProcess(child, pidFile, log);
  }

  /** Kills and removes a container; none of that name is no error. */
  async delete(id: string): Promise<void> {
    const child = spawn(this.#binary, ['--root', this.#root, 'delete', '--force', id], { stdio: 'ignore' });
    await once(child, 'exit');
  }
}

export class RuncProcess {
  readonly #child: ChildProcess;
  readonly #pidFile: string;
  readonly #log: string;
  readonly #exited: Promise<number>;

  constructor(child: ChildProcess, pidFile: string, log: string) {
    this.#child = child;
    this.#pidFile = pidFile;
    this.#log = log;
    this.#exited = new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('exit', (code, signal) => resolve(code ?? signalStatus(signal ?? 'SIGKILL')));
    });
  }

  /** Exit code of the container, 128 + n after a signal. RUNC_FAILED when there was no container. */
  async exitCode(): Promise<number> {
    const code = await this.#exited;
    if (code === 0) return 0;
    const failure = await this.#failure();
    if (failure === undefined) return code;
    throw new RuntimeError(failureCode(failure), `runc could not start the container: ${failure}`);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Pid, on the host, of the container's first process; undefined before it is made. */
  async initPid(): Promise<number | undefined> {
    try {
      const pid = Number(await readFile(this.#pidFile, 'utf8'));
      return Number.isSafeInteger(pid) && pid > 1 ? pid : undefined;
    } catch {
      return undefined;
    }
  }

  /** What runc logged as an error; after the container has started it logs none. */
  async #failure(): Promise<string | undefined> {
    let failure: string | undefined;
    for (const line of (await readFile(this.#log, 'utf8').catch(() => '')).split('\n')) {
      try {
        const record = JSON.parse(line) as { level?: string; msg?: string };
        if (record.level === 'error' || record.level === 'fatal') failure = record.msg ?? '';
      } catch {}
    }
    return failure;
  }
}

function failureCode(message: string): string {
  if (/executable file not found|no such file or directory$/.test(message)) return 'COMMAND_NOT_FOUND';
  return /permission denied$/.test(message) ? 'NOT_EXECUTABLE' : 'RUNC_FAILED';
}
