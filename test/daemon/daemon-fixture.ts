/** A host daemon under its supervisor, in a directory of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, realpath, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import type { MountInfo, MountRequest, PingAnswer } from '../../src/daemon/api.js';
import { DaemonClient } from '../../src/daemon/client.js';
import { type DaemonCommandOptions, socketOf, supervisorCommand } from '../../src/daemon/start.js';
import { MNT_DETACH } from '../../src/mount/mount-point.js';
import { ORCA_TYPE, readMountTable } from '../../src/mount/mount-table.js';
import { addon } from '../../src/native/addon.js';

export class DaemonFixture {
  readonly directory: string;
  readonly store: string;
  readonly client: DaemonClient;
  #supervisor: ChildProcess | undefined;
  #mounts = 0;

  private constructor(directory: string) {
    this.directory = directory;
    this.store = join(directory, 'store');
    this.client = new DaemonClient(socketOf(join(directory, 'run')));
  }

  /** Everything that it starts and mounts is gone after the test. */
  static async open(t: ExecutionContext): Promise<DaemonFixture> {
    const fixture = new DaemonFixture(await realpath(await mkdtemp(join(tmpdir(), 'orca-daemon-'))));
    t.teardown(() => fixture.close());
    return fixture;
  }

  get supervisor(): ChildProcess {
    if (this.#supervisor === undefined) throw new Error('no supervisor was started');
    return this.#supervisor;
  }

  get log(): string {
    return readFileSync(join(this.directory, 'log'), 'utf8');
  }

  /** Resolves when the daemon answers. */
  async start(options: Partial<DaemonCommandOptions> = {}): Promise<PingAnswer> {
    const runDirectory = join(this.directory, 'run');
    const cache = join(this.directory, 'cache');
    const [program = '', ...args] = supervisorCommand({
      ...{ socket: this.client.socket, runDirectory, cache },
      ...options,
    });
    const log = openSync(join(this.directory, 'log'), 'a');
    this.#supervisor = spawn(program, args, {
      stdio: ['ignore', log, log],
      env: { ...process.env, ORCA_COMMAND: undefined },
    });
    closeSync(log);
    return this.answer();
  }

  /** The daemon's answer, however long it takes to start. */
  async answer(): Promise<PingAnswer> {
    for (let tries = 0; tries < 2000; tries++) {
      const answer = await this.client.ping();
      if (answer !== undefined) return answer;
      await sleep(5);
    }
    throw new Error(`no daemon answers:\n${this.log}`);
  }

  /** Kills the daemon, not its supervisor; resolves when it is gone. */
  async killDaemon(): Promise<void> {
    const { pid } = await this.answer();
    process.kill(pid, 'SIGKILL');
    while (isRunning(pid)) await sleep(1);
  }

  async mount(
    image: string,
    name = `mount-${this.#mounts++}`,
    order: Partial<MountRequest> = {},
  ): Promise<MountInfo> {
    const mountpoint = join(this.directory, 'mnt', name);
    await mkdir(mountpoint, { recursive: true });
    return this.client.createMount(name, { image, store: this.store, mountpoint, ...order });
  }

  /** Mount points of ours below the directory, whoever serves them. */
  async mounted(): Promise<string[]> {
    const table = await readMountTable();
    return table
      .filter(({ type, mountPoint }) => type === ORCA_TYPE && mountPoint.startsWith(`${this.directory}/`))
      .map(({ mountPoint }) => mountPoint);
  }

  async close(): Promise<void> {
    const daemon = (await this.client.ping().catch(() => undefined))?.pid;
    await this.client.shutDown(true).catch(() => undefined);
    const supervisor = this.#supervisor;
    if (supervisor !== undefined && supervisor.exitCode === null && supervisor.signalCode === null) {
      const ended = once(supervisor, 'exit');
      await Promise.race([ended, sleep(5000)]);
      supervisor.kill('SIGKILL');
      await ended;
    }
    // One that a supervisor of its own has started writes its state to the end.
    for (const end = Date.now() + 5000; daemon !== undefined && isRunning(daemon) && Date.now() < end; )
      await sleep(20);
    for (const mountpoint of await this.mounted()) addon.umount(mountpoint, MNT_DETACH);
    await rm(this.directory, { recursive: true, force: true });
  }
}

/** False of one that has ended and that nobody has waited for. */
function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}
