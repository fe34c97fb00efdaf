/**
 * `orca registry` as a process of its own, with a data directory of its own, that can be killed and started again on
 * the same port.
 *
 *     const registry = await RegistryProcess.start(['--users', file]);
 *     registry.host;                 // 127.0.0.1:PORT
 *     await registry.kill(); await registry.launch();
 *     await registry.stop();         // ends it with SIGTERM and removes its data
 */
import type { ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Ended, startOrca } from '../cli/orca.js';
import { freePort } from './free-port.js';

/** The machine may be busy with other tests. */
const START_MS = 120_000;

export class RegistryProcess {
  private running: { process: ChildProcess; ended: Promise<Ended> } | undefined;
  /** As the process printed it. */
  url = '';

  private constructor(
    readonly directory: string,
    readonly host: string,
    private readonly args: readonly string[],
  ) {}

  static async start(args: readonly string[] = []): Promise<RegistryProcess> {
    const directory = await mkdtemp(join(tmpdir(), 'orca-registry-process-'));
    const registry = new RegistryProcess(directory, `127.0.0.1:${await freePort()}`, args);
    await registry.launch();
    return registry;
  }

  get data(): string {
    return join(this.directory, 'data');
  }

  get pid(): number {
    return this.running?.process.pid ?? 0;
  }

  /** Starts the process and waits until it listens. */
  async launch(): Promise<void> {
    const running = startOrca(['registry', '--data', this.data, '--listen', this.host, ...this.args]);
    this.running = running;
    let printed = '';
    const listening = new Promise<void>((resolve) => {
      running.process.stdout?.on('data', (chunk: Buffer) => {
        printed += chunk.toString();
        if (printed.includes('\n')) resolve();
      });
    });
    const timeout = setTimeout(() => running.process.kill('SIGKILL'), START_MS);
    const ended = await Promise.race([listening, running.ended]);
    clearTimeout(timeout);
    if (ended !== undefined) throw new Error(`orca registry does not start: ${ended.stderr}`);
    this.url = printed.trim();
  }

  /** Ends the process at once, as `kill -9` does. */
  async kill(): Promise<void> {
    await this.end('SIGKILL');
  }

  /** Sends the signal and waits for the end. */
  async end(signal: NodeJS.Signals): Promise<Ended | undefined> {
    const { running } = this;
    this.running = undefined;
    running?.process.kill(signal);
    return running?.ended;
  }

  signal(signal: NodeJS.Signals): void {
    this.running?.process.kill(signal);
  }

  async stop(): Promise<Ended | undefined> {
    const ended = await this.end('SIGTERM');
    await rm(this.directory, { recursive: true, force: true });
    return ended;
  }
}
