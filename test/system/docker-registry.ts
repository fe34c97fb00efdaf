/** Debian's docker-registry (CNCF Distribution) on a free port of 127.0.0.1, with a configuration and data of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { hashSync } from 'bcryptjs';
import { freePort } from './free-port.js';

export interface DockerRegistryOptions {
  /** Name and password that it asks for, by Basic; one or several. */
  user?: User | readonly User[];
  /** Paths of PEM files. */
  tls?: { certificate: string; key: string };
  /** Makes it a mirror of another registry. */
  proxyOf?: string;
  /** Where it sends its events, and the bearer token that it shows there. */
  notify?: { url: string; token: string };
}

interface User {
  username: string;
  password: string;
}

const START_MS = 20_000;

export class DockerRegistry {
  private constructor(
    readonly directory: string,
    readonly port: number,
    private process: ChildProcess,
  ) {}

  static async start(options: DockerRegistryOptions = {}): Promise<DockerRegistry> {
    const directory = await mkdtemp(join(tmpdir(), 'orca-docker-registry-'));
    const port = await freePort();
    const { user, tls, proxyOf, notify } = options;
    const htpasswd = join(directory, 'htpasswd');
    const lines = [user ?? []].flat().map((one) => `${one.username}:${hashSync(one.password, 4)}\n`);
    if (user !== undefined) await writeFile(htpasswd, lines.join(''));
    const config = {
      version: '0.1',
      log: { level: 'error', accesslog: { disabled: true } },
      storage: { filesystem: { rootdirectory: join(directory, 'data') }, delete: { enabled: true } },
      http: { addr: `127.0.0.1:${port}`, ...(tls && { tls }) },
      ...(user && { auth: { htpasswd: { realm: 'test', path: htpasswd } } }),
      ...(proxyOf && { proxy: { remoteurl: proxyOf } }),
      ...(notify && { notifications: { endpoints: [endpoint(notify)] } }),
    };
    // JSON is YAML.
    const file = join(directory, 'config.yml');
    await writeFile(file, JSON.stringify(config));
    const child = spawn('docker-registry', ['serve', file], { stdio: 'ignore' });
    const registry = new DockerRegistry(directory, port, child);
    const scheme = tls === undefined ? 'http' : 'https';
    for (const deadline = Date.now() + START_MS; ; await sleep(50)) {
      if (child.exitCode !== null || Date.now() > deadline) throw new Error('docker-registry does not start');
      if (await answers(`${scheme}://127.0.0.1:${port}/`)) return registry;
    }
  }

  get host(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** May be called again. */
  async stop(): Promise<void> {
    if (this.process.signalCode !== null) return;
    const ended = new Promise((resolve) => this.process.once('exit', resolve));
    this.process.kill('SIGKILL');
    await ended;
    await rm(this.directory, { recursive: true });
  }
}

/** As docs/REGISTRY.md has it, with shorter times. */
function endpoint({ url, token }: { url: string; token: string }): object {
  return {
    name: 'orca',
    url,
    headers: { Authorization: [`Bearer ${token}`] },
    timeout: '5s',
    threshold: 3,
    backoff: '100ms',
  };
}

/** A certificate that fetch does not trust is an answer, too. */
async function answers(url: string): Promise<boolean> {
  return fetch(url).then(
    () => true,
    (error: { cause?: { code?: string } }) => error.cause?.code !== 'ECONNREFUSED',
  );
}
