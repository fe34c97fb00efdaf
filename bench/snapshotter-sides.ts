/**
 * Ways to get a container running with containerd 1.6, each from nothing: a host whose containerd, snapshotter and caches
 * are empty. Snapshotters run already, as services do, and have mounted nothing.
 */
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { packageFile } from '../src/installation.js';
import { ContainerdProcess } from '../test/system/containerd-process.js';
import { SnapshotterHost } from '../test/system/snapshotter-host.js';
import { coldHost, seconds } from './measure.js';
import { STARGZ, StargzHost } from './peers/stargz-host.js';

/** What all hosts can do. */
export interface ContainerHost {
  pull(reference: string): Promise<unknown>;
  ctr(...args: string[]): Promise<string>;
  stop(): Promise<void>;
}

/** Where the image is, and how much has come from there. */
export interface Server {
  reference: string;
  /** Its files, which are in memory. */
  files: string;
  bytes(): Promise<number>;
}

export interface Started {
  /** Seconds from the name to the end of the container; of pulling alone. */
  cold: number;
  pull: number;
  /** Of a second container. */
  warm: number;
  /** Of the cold start. */
  bytes: number;
  /** Of all, once nothing more comes; where that was asked for. */
  settled?: number;
}

/** Whoever fetches the rest in the background begins within that time, and has no longer pauses. */
const SETTLED_MS = 7000;

let containers = 0;

export class SnapshotterSide {
  constructor(
    readonly snapshotter: 'stargz' | 'orca' | 'overlayfs',
    private readonly server: Server,
    private readonly command: readonly string[],
    /** Of Orca: a directory of startup profiles, and options. */
    private readonly options: { profiles?: string; args?: readonly string[] } = {},
  ) {}

  async start({ settle = false } = {}): Promise<Started> {
    return this.onHost(async (host) => {
      const { server } = this;
      await coldHost(server.files, this.snapshotter === 'stargz' ? [STARGZ] : []);
      const before = await server.bytes();
      const pull = await seconds(() => host.pull(server.reference));
      const run = await seconds(() => this.run(host));
      const bytes = (await server.bytes()) - before;
      const warm = await seconds(() => this.run(host));
      const settled = settle ? { settled: (await this.settledBytes()) - before } : {};
      return { cold: pull + run, pull, bytes, warm, ...settled };
    });
  }

  /** Starts one that records a startup profile, and keeps that in a directory. */
  async record(directory: string): Promise<void> {
    const host = await this.orcaHost();
    try {
      await host.pull(this.server.reference);
      await this.run(host);
      await host.end();
      await cp(join(host.directory, 'cache/profiles'), directory, { recursive: true });
    } finally {
      await host.stop();
    }
  }

  private async settledBytes(): Promise<number> {
    for (let before = -1, now = 0; ; before = now) {
      now = await this.server.bytes();
      if (now === before) return now;
      await sleep(SETTLED_MS);
    }
  }

  /** On a host that is gone afterwards. */
  private async onHost<T>(action: (host: ContainerHost) => Promise<T>): Promise<T> {
    const { snapshotter } = this;
    const host =
      snapshotter === 'stargz'
        ? await StargzHost.start()
        : snapshotter === 'orca'
          ? await this.orcaHost()
          : await overlayHost();
    try {
      return await action(host);
    } finally {
      await host.stop();
    }
  }

  async orcaHost(): Promise<SnapshotterHost> {
    const { profiles, args = [] } = this.options;
    const host = await SnapshotterHost.start(args, { script: packageFile('dist/bin/orca.js') });
    if (profiles !== undefined)
      await cp(profiles, join(host.directory, 'cache/profiles'), { recursive: true });
    return host;
  }

  private async run(host: ContainerHost): Promise<void> {
    const id = `orca-bench-${process.pid}-${containers++}`;
    const options = ['run', '--rm', '--snapshotter', this.snapshotter];
    const stdout = await host.ctr(...options, this.server.reference, id, ...this.command);
    if (stdout !== 'done\n') throw new Error(`the container printed ${JSON.stringify(stdout)}`);
  }
}

async function overlayHost(): Promise<ContainerHost> {
  const directory = await mkdtemp(join(tmpdir(), 'overlay-containerd-'));
  const containerd = new ContainerdProcess(directory);
  await containerd.start();
  return {
    ctr: (...args) => containerd.ctr(...args),
    pull: (reference) => {
      const options = ['--plain-http', '--snapshotter', 'overlayfs'];
      return containerd.ctr('images', 'pull', ...options, reference);
    },
    stop: async () => {
      await containerd.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
