/** A containerd of our own, with its directories and its socket in a directory that exists; it can be started again. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from './command.js';

/** The machine may be busy with other tests. */
const START_MS = 60_000;

export class ContainerdProcess {
  private process: ChildProcess | undefined;

  /**
   * `plugin`: a proxy plugin for snapshots. `sandboxImage`: of pods, with which the CRI plugin runs, and uses the plugin
   * `orca`.
   */
  constructor(
    readonly directory: string,
    private readonly plugin?: { name: string; socket: string },
    private readonly sandboxImage?: string,
  ) {}

  get socket(): string {
    return join(this.directory, 'containerd.sock');
  }

  async start(): Promise<void> {
    const config = join(this.directory, 'containerd.toml');
    const plugin =
      this.plugin &&
      `[proxy_plugins.${this.plugin.name}]\ntype = "snapshot"\naddress = "${this.plugin.socket}"\n`;
    await writeFile(
      config,
      `version = 2
root = "${this.directory}/root"
state = "${this.directory}/state"
disabled_plugins = [${this.sandboxImage === undefined ? '"io.containerd.grpc.v1.cri", ' : ''}"io.containerd.internal.v1.opt"]
[grpc]
address = "${this.socket}"
${plugin ?? ''}${this.sandboxImage === undefined ? '' : criConfig(this.sandboxImage)}`,
    );
    const child = spawn('containerd', ['--config', config], { stdio: ['ignore', 'ignore', 'pipe'] });
    this.process = child;
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

  async stop(): Promise<void> {
    if (this.process === undefined || this.process.exitCode !== null) return;
    const ended = once(this.process, 'close');
    this.process.kill('SIGTERM');
    await ended;
  }

  ctr(...args: string[]): Promise<string> {
    return run('ctr', ['--address', this.socket, ...args]);
  }

  /** By the client that knows of remote snapshots. */
  async pullRemote(snapshotter: string, reference: string, namespace = 'default'): Promise<void> {
    await this.#images(namespace, 'rpull', '--plain-http', '--snapshotter', snapshotter, reference);
  }

  /** Makes an eStargz image of another image of a registry. `options`: of `ctr-remote images optimize`. */
  async pushEstargz(plain: string, optimized: string, ...options: string[]): Promise<void> {
    await this.#images('default', 'pull', '--plain-http', plain);
    await this.#images('default', 'optimize', '--oci', ...options, plain, optimized);
    await this.#images('default', 'push', '--plain-http', optimized);
  }

  #images(namespace: string, ...args: string[]): Promise<string> {
    return run('ctr-remote', ['--address', this.socket, '--namespace', namespace, 'images', ...args]);
  }
}

/** As docs/CONTAINERD.md has it; what follows is for machines without AppArmor, or where scores cannot be lowered. */
function criConfig(sandboxImage: string): string {
  return `[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "${sandboxImage}"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "orca"
disable_snapshot_annotations = false
`;
}
