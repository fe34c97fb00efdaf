/**
 * A host with a containerd and the stargz snapshotter as its proxy plugin `stargz`, all in a scratch directory. Its
 * configuration is an empty file, so everything is as it documents it to be by default: it waits for the prefetch of
 * what stands before an image's landmark, fetches the rest in the background, and verifies.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connectionRefusal } from '../../src/runtime/unix-socket.js';
import { mountsBelow } from '../../test/cli/orca.js';
import { run } from '../../test/system/command.js';
import { ContainerdProcess } from '../../test/system/containerd-process.js';

export const STARGZ = 'containerd-stargz-grpc';

/** The machine may be busy. */
const START_MS = 30_000;

export class StargzHost {
  readonly containerd: ContainerdProcess;
  private process: ChildProcess | undefined;

  private constructor(readonly directory: string) {
    this.containerd = new ContainerdProcess(directory, { name: 'stargz', socket: this.socket });
  }

  static async start(): Promise<StargzHost> {
    const host = new StargzHost(await mkdtemp(join(tmpdir(), 'stargz-containerd-')));
    try {
      await writeFile(join(host.directory, 'stargz.toml'), '');
      await host.startSnapshotter();
      await host.containerd.start();
    } catch (error) {
      await host.stop();
      throw error;
    }
    return host;
  }

  private get socket(): string {
    return join(this.directory, 'stargz.sock');
  }

  async startSnapshotter(): Promise<void> {
    const place = ['--address', this.socket, '--root', join(this.directory, 'stargz')];
    const config = ['--config', join(this.directory, 'stargz.toml'), '--log-level', 'warn'];
    const child = spawn(STARGZ, [...place, ...config], { stdio: 'ignore' });
    this.process = child;
    await once(child, 'spawn');
    for (
      const end = Date.now() + START_MS;
      (await connectionRefusal(this.socket)) !== undefined;
      await sleep(10)
    )
      if (child.exitCode !== null || Date.now() > end) throw new Error(`${STARGZ} does not start`);
  }

  /** SIGINT is what it cleans up at. */
  async stopSnapshotter(signal: NodeJS.Signals = 'SIGINT'): Promise<void> {
    const { process: child } = this;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill(signal);
    await ended;
  }

  ctr(...args: string[]): Promise<string> {
    return this.containerd.ctr(...args);
  }

  pull(reference: string): Promise<void> {
    return this.containerd.pullRemote('stargz', reference);
  }

  /** Ends all and removes everything, mounts too that a killed snapshotter has left. */
  async stop(): Promise<void> {
    await this.containerd.stop();
    await this.stopSnapshotter();
    for (const mount of (await mountsBelow(this.directory)).toReversed()) await run('umount', ['-l', mount]);
    await rm(this.directory, { recursive: true, force: true });
  }
}
