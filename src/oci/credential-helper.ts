/**
 * Docker's credential helpers: programs `docker-credential-NAME` that are asked on stdin and answer with JSON on
 * stdout (github.com/docker/docker-credential-helpers, "Development").
 */
import { spawn } from 'node:child_process';
import { oneLine } from '../telemetry/logger.js';
import { RegistryCredentials } from './credentials.js';
import { JsonObject } from './json-object.js';
import { RegistryError } from './registry-error.js';

/** A helper may ask a key ring or a cloud; it may not hang a mount. */
const HELPER_TIMEOUT = 30_000;
/** Tokens of clouds have a few KiB. */
const MAX_OUTPUT = 64 << 10;
/** User name that says: the secret is an identity token. */
const TOKEN_USERNAME = '<token>';
/** All helpers say it in these words, which Docker compares (credentials/error.go). */
const NOT_FOUND = /credentials not found in native keychain|no credentials (?:server URL|username)/i;

export interface HelperOptions {
  env?: NodeJS.ProcessEnv;
  timeout?: number;
}

/**
 * What the helper has for `server` (a host, or Docker Hub's URL); undefined when it has nothing. Throws RegistryError
 * HELPER_FAILED with its first line, never with what it gave as a secret.
 */
export async function askHelper(
  name: string,
  server: string,
  { env = process.env, timeout = HELPER_TIMEOUT }: HelperOptions = {},
): Promise<RegistryCredentials | undefined> {
  const program = `docker-credential-${name}`;
  const failed = (why: string) =>
    new RegistryError('HELPER_FAILED', `${program} cannot give the credentials for ${server}: ${why}`);
  // The name becomes part of a program's name, not a path.
  if (!/^[\w.-]{1,64}$/.test(name)) throw failed('its name in the Docker configuration is malformed');
  const { status, stdout } = await run(program, server, env, timeout, failed);
  if (status !== 0) {
    if (NOT_FOUND.test(stdout)) return undefined;
    const line = oneLine(stdout.split('\n', 1)[0] ?? '').slice(0, 200);
    throw failed(line || `it ended with ${status}`);
  }
  let secret: string;
  let username: string;
  try {
    const answer = JsonObject.parse(Buffer.from(stdout), MAX_OUTPUT, 'HELPER_FAILED', program);
    username = answer.string('Username') ?? '';
    secret = answer.string('Secret') ?? '';
  } catch {
    // Without the cause, which quotes what the helper wrote.
    throw failed('its answer is not the JSON of a credential helper');
  }
  if (secret === '') return undefined;
  if (username === TOKEN_USERNAME) return new RegistryCredentials({ identityToken: secret });
  return new RegistryCredentials({ username, password: secret });
}

function run(
  program: string,
  input: string,
  env: NodeJS.ProcessEnv,
  timeout: number,
  failed: (why: string) => RegistryError,
): Promise<{ status: number | string; stdout: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, ['get'], { env, stdio: ['pipe', 'pipe', 'ignore'] });
    const chunks: Buffer[] = [];
    let length = 0;
    const stop = (why: string) => {
      child.kill('SIGKILL');
      // Whatever it has started may keep the pipe open.
      child.stdout.destroy();
      reject(failed(why));
    };
    const timer = setTimeout(() => stop(`no answer within ${timeout} ms`), timeout);
    child.stdout.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length > MAX_OUTPUT) stop(`it wrote more than ${MAX_OUTPUT} bytes`);
      else chunks.push(chunk);
    });
    child.stdin.on('error', () => undefined); // it need not read its input
    child.stdin.end(`${input}\n`);
    child.once('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      const missing = error.code === 'ENOENT';
      reject(failed(missing ? 'it is not installed (or not on PATH)' : (error.code ?? error.message)));
    });
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ status: signal ?? code ?? 0, stdout: Buffer.concat(chunks).toString() });
    });
  });
}
