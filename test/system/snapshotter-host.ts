/**
 * A host with a containerd and `orca snapshotter` as its proxy plugin `orca`, all in a scratch directory. Both can be
 * killed and started again.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Ended, orca, startOrca } from '../cli/orca.js';
import { ContainerdProcess } from './containerd-process.js';

export class SnapshotterHost {
  readonly containerd: ContainerdProcess;
  private snapshotter: { process: ChildProcess; ended: Promise<Ended> } | undefined;

  private constructor(
    readonly directory: string,
    private readonly snapshotterArgs: readonly string[],
    sandboxImage: string | undefined,
  ) {
    this.containerd = new ContainerdProcess(directory, this.snapshotterSocket, sandboxImage);
  }

  /** With `sandboxImage`, containerd serves the CRI too. */
  static async start(
    snapshotterArgs: readonly string[] = [],
    { sandboxImage }: { sandboxImage?: string } = {},
  ): Promise<SnapshotterHost> {
    const directory = await mkdtemp(join(tmpdir(), 'orca-containerd-'));
    const self = new SnapshotterHost(directory, snapshotterArgs, sandboxImage);
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

  /** Ends all and removes everything. */
  async stop(): Promise<void> {
    await this.containerd.stop();
    await this.stopSnapshotter();
    await orca(['daemon', '--stop', '--force', ...this.hostOptions]);
    await rm(this.directory, { recursive: true, force: true });
  }
}
