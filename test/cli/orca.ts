/** Runs the `orca` command as a process of its own, as users do. */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';

export const orcaScript = new URL('../../src/cli/main.js', import.meta.url).pathname;

export interface Ended {
  /** Exit code; undefined after a signal. */
  code: number | undefined;
  stdout: string;
  stderr: string;
}

export interface OrcaOptions {
  /** Added to an environment without ORCA_ variables but ORCA_NO_DAEMON: no daemon stays behind unasked. */
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  input?: string;
  /** The bundle, say; the compiled sources otherwise. */
  script?: string;
  /** A program that starts it, with its arguments, such as `unshare`. */
  under?: readonly string[];
}

/** A running orca; `ended` never rejects. */
export function startOrca(
  args: readonly string[],
  options: OrcaOptions = {},
): { process: ChildProcess; ended: Promise<Ended> } {
  const own = Object.entries(process.env).filter(([name]) => !name.startsWith('ORCA_'));
  const [file, ...rest] = [...(options.under ?? []), process.execPath, options.script ?? orcaScript, ...args];
  const child = spawn(file ?? '', rest, {
    env: { ...Object.fromEntries(own), ORCA_NO_DAEMON: '1', ...options.env },
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  let stdout = '';
  let stderr = '';
  child.stdout?.on('data', (chunk) => {
    stdout += chunk;
  });
  child.stderr?.on('data', (chunk) => {
    stderr += chunk;
  });
  child.stdin?.on('error', () => {});
  child.stdin?.end(options.input);
  const ended = new Promise<Ended>((resolve) => {
    child.once('error', (error) => resolve({ code: undefined, stdout, stderr: error.message }));
    child.once('close', (code) => resolve({ code: code ?? undefined, stdout, stderr }));
  });
  return { process: child, ended };
}

export function orca(args: readonly string[], options: OrcaOptions = {}): Promise<Ended> {
  return startOrca(args, options).ended;
}

/** Mount points at or below a directory. */
export async function mountsBelow(directory: string): Promise<string[]> {
  const table = await readFile('/proc/self/mountinfo', 'utf8');
  const points = table.split('\n').map((line) => line.split(' ')[4] ?? '');
  return points.filter((point) => point === directory || point.startsWith(`${directory}/`));
}

/** A failure as users are to see it: nothing on stdout, one line on stderr that starts with `orca: `. */
export function isOneLine({ stdout, stderr }: Ended): boolean {
  return stdout === '' && /^orca: [^\n]+\n$/.test(stderr) && !/unexpected|undefined|\[object/.test(stderr);
}
