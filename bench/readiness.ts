/** When a container has started: it has printed what it is to print and ended, or it answers over HTTP. */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ImageCheck } from '../test/system/images.js';

/** Between two requests to a server that does not answer yet. */
const POLL_MS = 5;
/** A container that neither answers nor ends is an error; the machine may be busy, or the link slow. */
const LIMIT_MS = 300_000;

/**
 * Runs the program, which runs a container in the foreground, and gives the seconds until that is ready. A server is
 * stopped then; it is to listen on `port`. Throws when it printed or answered anything else, or failed.
 */
export async function untilReady(
  program: string,
  args: readonly string[],
  { stdout: expected, http }: ImageCheck,
  port: number,
  env: NodeJS.ProcessEnv = process.env,
): Promise<number> {
  const began = performance.now();
  const child = spawn(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] });
  let [stdout, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk));
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk));
  const ended = new Promise<number>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) resolve(performance.now());
      else
        reject(
          new Error(`${program} ${args.join(' ')} ended with ${signal ?? code}: ${stderr.slice(-2000)}`),
        );
    });
  });
  const timeout = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
  try {
    let ready: number;
    if (http === undefined) {
      ready = await ended;
      if (stdout !== expected) throw new Error(`the container printed ${JSON.stringify(stdout)}`);
    } else {
      ready = await Promise.race([answered(port, http.body), ended]);
      child.kill(http.stopSignal);
      await ended;
    }
    return (ready - began) / 1000;
  } finally {
    clearTimeout(timeout);
  }
}

async function answered(port: number, body: string): Promise<number> {
  for (const end = performance.now() + LIMIT_MS; ; await sleep(POLL_MS)) {
    const answer = await fetch(`http://127.0.0.1:${port}/`).then(
      (response) => response.text(),
      () => undefined,
    );
    if (answer === body) return performance.now();
    if (answer !== undefined) throw new Error(`the container answered ${JSON.stringify(answer)}`);
    if (performance.now() > end) throw new Error('the container does not answer');
  }
}
