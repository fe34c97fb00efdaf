/** Programs that tests and benchmarks run. */
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';

export interface CommandOptions {
  env?: NodeJS.ProcessEnv;
  cwd?: string;
  /** A descriptor that the program inherits as 3. */
  fd?: number;
  input?: string;
}

/** Runs a program and gives its stdout; an Error with all of its output when it does not end with 0. */
export async function run(
  command: string,
  args: readonly string[],
  options: CommandOptions = {},
): Promise<string> {
  const { env, cwd, fd, input } = options;
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'pipe', ...(fd === undefined ? [] : [fd])],
    ...(env && { env }),
    ...(cwd && { cwd }),
  });
  let stdout = '';
  let output = '';
  child.stdout!.on('data', (chunk: Buffer) => {
    stdout += chunk;
    output += chunk;
  });
  child.stderr!.on('data', (chunk: Buffer) => (output += chunk));
  child.stdin!.on('error', () => {}); // it need not read its input
  child.stdin!.end(input);
  const ended = await new Promise<string | number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve(signal ?? code));
  });
  if (ended !== 0)
    throw new Error(`${command} ${args.join(' ')} ended with ${ended}:\n${output.slice(-4000)}`);
  return stdout;
}

/** Of a daemon, its supervisor. */
export async function parentOf(pid: number): Promise<number> {
  return Number(/^PPid:\s*(\d+)$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1]);
}
