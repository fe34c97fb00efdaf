/** A host daemon with a cache and a run directory of its own, as the bundles of dist/bin have it. */
import { existsSync } from 'node:fs';
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DaemonClient } from '../src/daemon/client.js';
import { socketOf } from '../src/daemon/start.js';
import { packageFile } from '../src/installation.js';
import { parentOf, run } from '../test/system/command.js';

/** The command as users have it: the launcher, with the bundles. */
export const ORCA = packageFile('native/build/orca');

/** Makes them of what was compiled. */
export async function bundle(): Promise<void> {
  await run(process.execPath, [packageFile('bundle.js')]);
}

/** The machine may be busy. */
const END_MS = 60_000;

export interface DaemonOptions {
  /** A directory that the daemon's startup profiles are copied from. */
  profiles?: string | undefined;
  /** One that what it knows of the images that it has mounted is copied from. */
  inventory?: string | undefined;
  /** Added to its environment. */
  env?: NodeJS.ProcessEnv;
}

export class ResidentDaemon {
  readonly cache: string;
  readonly runDirectory: string;
  readonly client: DaemonClient;
  /** Of commands that are to use it. */
  readonly env: NodeJS.ProcessEnv;

  private constructor(place: string, env: NodeJS.ProcessEnv) {
    this.cache = join(place, 'cache');
    this.runDirectory = join(place, 'run');
    this.client = new DaemonClient(socketOf(this.runDirectory));
    this.env = {
      ...process.env,
      ORCA_CACHE: this.cache,
      ORCA_RUN_DIR: this.runDirectory,
      ORCA_CONFIG: '/dev/null',
      ...env,
    };
  }

  static async start(place: string, { env = {}, ...known }: DaemonOptions = {}): Promise<ResidentDaemon> {
    const daemon = new ResidentDaemon(place, env);
    await mkdir(daemon.cache, { recursive: true });
    for (const [folder, from] of Object.entries(known))
      if (from !== undefined) await cp(from, join(daemon.cache, folder), { recursive: true });
    await daemon.orca('daemon', '--detach');
    return daemon;
  }

  /** Runs the command; gives its stdout. */
  orca(...args: string[]): Promise<string> {
    return run(ORCA, args, { env: this.env });
  }

  async pid(): Promise<number> {
    const answer = await this.client.ping();
    if (answer === undefined) throw new Error('the daemon does not answer');
    return answer.pid;
  }

  /** Its mounts end, too, and neither a process nor the supervisor of it is left. */
  async stop(): Promise<void> {
    const pid = await this.pid();
    const supervisor = await parentOf(pid);
    for (const { id } of await this.client.mounts()) await this.client.removeMount(id, { force: true });
    await this.orca('daemon', '--stop', '--force');
    for (const end = Date.now() + END_MS; [pid, supervisor].some((one) => existsSync(`/proc/${one}`)); ) {
      if (Date.now() > end) throw new Error(`the daemon ${pid} or its supervisor ${supervisor} does not end`);
      await sleep(20);
    }
  }

  /** Copies the startup profiles of this daemon, which is stopped, to a directory. */
  async keepProfiles(directory: string): Promise<void> {
    await cp(join(this.cache, 'profiles'), directory, { recursive: true });
  }
}
