/** The `orca` command, run as a user runs it: a process of its own. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

export interface OrcaResult {
  /** null when a signal ended it. */
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface OrcaProcess {
  pid: number;
  ended: Promise<OrcaResult>;
  kill(signal: NodeJS.Signals): void;
}

/** Starts it with an empty stdin and no daemon; `env` is added to the environment of this process. */
export function startOrca(args: readonly string[], env: NodeJS.ProcessEnv = {}): OrcaProcess {
  const child = spawn(process.execPath, [main, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ORCA_NO_DAEMON: '1', ...env },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk));
  const ended = new Promise<OrcaResult>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout, stderr }));
  });
  return { pid: child.pid!, ended, kill: (signal) => void child.kill(signal) };
}

export function orca(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<OrcaResult> {
  return startOrca(args, env).ended;
}
