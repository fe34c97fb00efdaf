/**
 * A containerd of our own, with its directories and its socket in a scratch directory, and `orca snapshotter` as its
 * proxy plugin `orca`. Both can be killed and started again.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Ended, orca, startOrca } from '../cli/orca.js';
import { run } from './command.js';

/** The machine may be busy with other tests. */
const START_MS = 60_000;

export class ContainerdProcess {
  containerd: ChildProcess | undefined;
  snapshotter: { process: ChildProcess; ended: Promise<Ended> } | undefined;

  private constructor(
    readonly directory: string,
    private readonly snapshotterArgs: readonly string[],
  ) {}

  static async start(snapshotterArgs: readonly string[] = []): Promise<ContainerdProcess> {
    const self = new ContainerdProcess(await mkdtemp(join(tmpdir(), 'orca-containerd-')), snapshotterArgs);
    await self.startSnapshotter();
    await self.startContainerd();
    return self;
  }

  get socket(): string {
    return join(this.directory, 'containerd.sock');
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
    const running = startOrca(['snapshotter', ...options, ...this.snapshotterArgs]);
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

  async startContainerd(): Promise<void> {
    const config = join(this.directory, 'containerd.toml');
    await mkdir(this.directory, { recursive: true });
    await writeFile(
      config,
      `version = 2
root = "${this.directory}/root"
state = "${this.directory}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
[grpc]
address = "${this.socket}"
[proxy_plugins.orca]
type = "snapshot"
address = "${this.snapshotterSocket}"
`,
    );
    const child = spawn('containerd', ['--config', config], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.containerd = child;
    let log = '';
    child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
    const deadline = Date.now() + START_MS;
    while (!log.includes('containerd successfully booted')) {
      if (child.exitCode !== null || Date.now() > deadline) {
        throw new Error(`containerd does not start: ${log.slice(-2000)}`);
      }
      await sleep(50);
    }
  }

  async stopContainerd(): Promise<void> {
    if (this.containerd === undefined || this.containerd.exitCode !== null) return;
    const ended = once(this.containerd, 'close');
    this.containerd.kill('SIGTERM');
    await ended;
  }

  ctr(...args: string[]): Promise<string> {
    return run('ctr', ['--address', this.socket, ...args]);
  }

  /** Ends all and removes everything. */
  async stop(): Promise<void> {
    await this.stopContainerd();
    await this.stopSnapshotter();
    await orca(['daemon', '--stop', '--force', ...this.hostOptions]);
    await rm(this.directory, { recursive: true, force: true });
  }
}
