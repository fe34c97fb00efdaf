/**
 * A host with a containerd and `orca snapshotter` as its proxy plugin `orca`, all in a scratch directory. Both can be
 * killed and started again.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DaemonClient } from '../../src/daemon/client.js';
import { socketOf } from '../../src/daemon/start.js';
import { type Ended, orca, startOrca } from '../cli/orca.js';
import { parentOf } from './command.js';
import { ContainerdProcess } from './containerd-process.js';

export interface SnapshotterHostOptions {
  /** With it, containerd serves the CRI too. */
  sandboxImage?: string;
  /** Of the `orca` command: the bundle, say. */
  script?: string;
}

export class SnapshotterHost {
  readonly containerd: ContainerdProcess;
  private snapshotter: { process: ChildProcess; ended: Promise<Ended> } | undefined;

  private constructor(
    readonly directory: string,
    private readonly snapshotterArgs: readonly string[],
    private readonly options: SnapshotterHostOptions,
  ) {
    const plugin = { name: 'orca', socket: this.snapshotterSocket };
    this.containerd = new ContainerdProcess(directory, plugin, options.sandboxImage);
  }

  static async start(
    snapshotterArgs: readonly string[] = [],
    options: SnapshotterHostOptions = {},
  ): Promise<SnapshotterHost> {
    const directory = await mkdtemp(join(tmpdir(), 'orca-containerd-'));
    const self = new SnapshotterHost(directory, snapshotterArgs, options);
    await self.startSnapshotter();
    await self.containerd.start();
    return self;
  }

  get snapshotterSocket(): string {
    return join(this.directory, 'snapshotter.sock');
  }

  /** Of every command that is to use the daemon of this host. */
  get hostOptions(): string[] {
    return ['--run-dir', join(this.directory, 'run'), '--cache', join(this.directory, 'cache')];
  }

  get root(): string {
    return join(this.directory, 'snapshots');
  }

  async startSnapshotter(): Promise<void> {
    const options = ['--root', this.root, '--listen', this.snapshotterSocket, ...this.hostOptions];
    const running = startOrca(['snapshotter', ...options, ...this.snapshotterArgs], {
      env: { ORCA_NO_DAEMON: undefined },
      ...(this.options.script && { script: this.options.script }),
    });
    this.snapshotter = running;
    const { stdout } = running.process;
    const ended = running.ended.then(({ stderr }) => {
      throw new Error(`orca snapshotter ended: ${stderr}`);
    });
    if (stdout !== null) await Promise.race([once(stdout, 'data'), ended]);
  }

  async stopSnapshotter(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.snapshotter?.process.kill(signal);
    await this.snapshotter?.ended;
  }

  ctr(...args: string[]): Promise<string> {
    return this.containerd.ctr(...args);
  }

  /** As containerd's client does that knows of remote snapshots. */
  pull(reference: string, namespace?: string): Promise<void> {
    return this.containerd.pullRemote('orca', reference, namespace);
  }

  /** Ends all; what they have written stays. */
  async end(): Promise<void> {
    await this.containerd.stop();
    await this.stopSnapshotter();
    // It answers before it has ended, and writes until then.
    const daemon = (await new DaemonClient(socketOf(join(this.directory, 'run'))).ping())?.pid;
    const processes = daemon === undefined ? [] : [daemon, await parentOf(daemon)];
    await orca(['daemon', '--stop', '--force', ...this.hostOptions]);
    for (const pid of processes) while (existsSync(`/proc/${pid}`)) await sleep(10);
  }

  /** Ends all and removes everything. */
  async stop(): Promise<void> {
    await this.end();
    await rm(this.directory, { recursive: true, force: true });
  }
}
