/** The host daemon: what it consists of, how it begins with what the last one left, and how it ends. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:fs';
import { access, open, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BlockCache } from '../cache/block-cache.js';
import type { FetchScheduler } from '../cache/fetch-scheduler.js';
import { counted } from '../counted.js';
import { packageVersion } from '../installation.js';
import { addon } from '../native/addon.js';
import { execute, exitAtOnce } from '../native/supervision.js';
import { BlobCache } from '../source/blob-cache.js';
import { log } from '../telemetry/logger.js';
import { API_VERSION, type CacheInfo, type PingAnswer } from './api.js';
import { DaemonError } from './daemon-error.js';
import { CONTROL, type Descriptor, DescriptorStore, keepOverExec } from './descriptors.js';
import { isHostStopping } from './host-shutdown.js';
import { readDocuments } from './image-record.js';
import { Images } from './images.js';
import { Mounts } from './mounts.js';
import { fileTree } from './order.js';
import { supervisorOf } from './start.js';
import { StateFile } from './state-file.js';

const version = packageVersion();

export interface DaemonOptions {
  /** Absolute. */
  runDirectory: string;
  cache: string;
  cacheSize?: number;
}

/** Bytes; with less, opening a cache may evict. */
const LITTLE_ROOM = 16 << 20;
/** Another daemon that is just dying has let go by then. */
const LOCK_MS = 5000;
/** Between two looks for containers that nobody runs any more. */
const CONTAINERS_MS = 2000;
/** Between two looks whether the supervisor is there. */
const SUPERVISOR_MS = 500;
/** How long mounts are served while the host goes down; orca.service allows more. */
const SHUTDOWN_MS = 10_000;
/** Between two looks whether they are there. */
const LOOK_MS = 50;
/** Time for the answer to whoever asked for the end. */
const FAREWELL_MS = 20;

export class Daemon {
  readonly mounts: Mounts;
  readonly images: Images;
  readonly store: DescriptorStore;
  /** URL of the HTTP port, where there is one. */
  http: string | undefined;
  readonly #cache: BlockCache;
  readonly #options: DaemonOptions;
  readonly #control: number | undefined;
  readonly #startedAt = Date.now();
  readonly #fileTree = fileTree();
  #adoption = { milliseconds: 0, mounts: 0 };
  #ending = false;
  #abandoned = false;

  private constructor(
    options: DaemonOptions,
    control: number | undefined,
    cache: BlockCache,
    state: StateFile,
    store: DescriptorStore,
  ) {
    this.#options = options;
    this.#control = control;
    this.#cache = cache;
    this.store = store;
    this.mounts = new Mounts({ cache, state, store, imageDirectory: join(options.runDirectory, 'images') });
    cache.eviction.lastResort = () => this.mounts.giveUpShared();
    this.images = new Images(cache, this.mounts);
  }

  /** Resolves when every mount that was left is served again. Throws ALREADY_RUNNING, CacheError. */
  static async start(options: DaemonOptions, descriptors: readonly Descriptor[]): Promise<Daemon> {
    const directory = join(options.runDirectory, 'daemon');
    const state = await StateFile.open(directory);
    const cache = await openCache(options, state);
    await lock(directory);
    const store = new DescriptorStore(process.env['NOTIFY_SOCKET']);
    delete process.env['NOTIFY_SOCKET'];
    const control = descriptors.find(({ name }) => name === CONTROL)?.fd;
    const daemon = new Daemon(options, control, cache, state, store);
    const mounts = await daemon.mounts.adopt(descriptors);
    // From the start of the process on.
    daemon.#adoption = { milliseconds: Math.round(performance.now()), mounts };
    if (mounts > 0) log.info('serving the mounts of an earlier daemon', daemon.#adoption);
    return daemon;
  }

  ping(): PingAnswer {
    return {
      version,
      api: API_VERSION,
      pid: process.pid,
      startedAt: this.#startedAt,
      supervised: this.store.supervised && !this.#abandoned,
      mounts: this.mounts.size,
      cache: this.#options.cache,
      runDirectory: this.#options.runDirectory,
      fileTree: this.#fileTree,
      residentBytes: process.memoryUsage.rss(),
      adoption: this.#adoption,
      ...(this.http !== undefined && { http: this.http }),
    };
  }

  cacheInfo(): CacheInfo {
    const { directory, scheduler, eviction } = this.#cache;
    const { limit, used, bytesEvicted } = eviction;
    return { directory, limit, used, bytesEvicted, ...scheduler.stats };
  }

  /** Where the cache keeps an image index. */
  indexPath(digest: string): string {
    return this.#cache.blobs.path(digest);
  }

  /** What is known of the reads from sources. */
  get fetches(): FetchScheduler {
    return this.#cache.scheduler;
  }

  checkOpen(): void {
    if (this.#ending) throw new DaemonError('ENDING', 'the daemon is ending: try again', { retryable: true });
  }

  /** Ends the process after the answer. Throws BUSY while mounts are there, unless `force` ends those too. */
  async shutDown(force: boolean): Promise<void> {
    const { size } = this.mounts;
    if (size > 0 && !force) {
      const left = `${counted(size, 'mount')} left: unmount first (orca ps), or give --force`;
      throw new DaemonError('BUSY', left);
    }
    this.#ending = true;
    await this.mounts.end();
    setTimeout(() => this.#exit(), FAREWELL_MS);
  }

  /** Becomes another program after the answer; the mounts go on. Throws when that program cannot be started. */
  async replace(command: readonly string[]): Promise<void> {
    const [file = '', ...args] = command;
    const script = args.find((argument) => !argument.startsWith('-'));
    for (const path of script === undefined ? [file] : [file, script]) {
      await open(path, 'r').then(
        (handle) => handle.close(),
        (cause: Error) => {
          throw new DaemonError('INVALID_REQUEST', `${path} cannot be read: ${cause.message}`, { cause });
        },
      );
    }
    this.#ending = true;
    await this.mounts.saveProfiles();
    setTimeout(() => this.#become(command), FAREWELL_MS);
  }

  #become(command: readonly string[]): void {
    try {
      this.store.barrier();
      execute(command[0] ?? '', command, {
        ...process.env,
        ORCA_KEPT: keepOverExec(this.#kept()),
        ORCA_COMMAND: JSON.stringify(command),
        ...this.store.environment,
      });
    } catch (error) {
      this.#ending = false;
      log.error('the daemon could not be replaced, and goes on', { error: error as Error });
    }
  }

  /**
   * SIGTERM and SIGINT. Under systemd, which keeps the descriptors over a restart, the mounts are left as they are,
   * unless the host goes down; under our own supervisor, that would start us again, what nobody uses is unmounted, and
   * the rest goes on.
   */
  async terminate(signal: NodeJS.Signals): Promise<void> {
    const own = process.env['ORCA_SUPERVISOR'] !== undefined;
    await this.mounts.saveProfiles();
    if (this.store.supervised && !own) {
      if (this.mounts.isServing && (await isHostStopping())) await this.#endWithHost();
      this.#exit();
    }
    const inUse = await this.mounts.removeUnused();
    if (inUse === 0) this.#exit();
    log.warn(`${signal}: the daemon goes on serving ${counted(inUse, 'mount')} in use`);
  }

  /**
   * Serves until systemd has unmounted everything, each mount after those who need it, or for a while. Not by trying to
   * unmount: who reads one file after the other uses nothing in between. With descriptors that systemd keeps and nobody
   * serves, users could not be killed, and the host would wait for them.
   */
  async #endWithHost(): Promise<void> {
    await this.mounts.giveUpShared(undefined, { force: true });
    for (const end = Date.now() + SHUTDOWN_MS; this.mounts.isServing && Date.now() < end; )
      await sleep(LOOK_MS);
    this.#ending = true;
    await this.mounts.end();
  }

  /** Has a place for launchers from now on, and removes, now and then, containers whose `orca run` was killed. */
  async watchContainers(): Promise<void> {
    const { RunDirectory } = await import('../runtime/run-directory.js');
    await (await RunDirectory.open(this.#options.runDirectory)).clearLaunches();
    const look = async (): Promise<void> => {
      const { removeDeadContainers } = await import('../runtime/container.js');
      await removeDeadContainers(this.#options.runDirectory, (directory) =>
        this.mounts.removeBelow(directory),
      );
    };
    const again = (): void => {
      if (this.mounts.containers().length === 0) return void setTimeout(again, CONTAINERS_MS).unref();
      void look()
        .catch((error: Error) => log.warn('containers cannot be looked after', { error }))
        .finally(() => setTimeout(again, CONTAINERS_MS).unref());
    };
    again();
  }

  /**
   * When the supervisor that started this process has gone, gives everything to a new one, whose daemon goes on;
   * systemd is never gone.
   */
  watchSupervisor(): void {
    const { ORCA_SUPERVISOR } = process.env;
    if (ORCA_SUPERVISOR === undefined) return;
    const timer = setInterval(() => {
      if (process.ppid === Number(ORCA_SUPERVISOR) || this.#ending) return;
      clearInterval(timer);
      this.#abandoned = true;
      log.warn('the supervisor has gone: starting another one');
      void this.#handOver().catch((error: Error) => {
        this.#ending = false;
        log.error('there is no supervisor: a crash of the daemon would end its mounts', { error });
      });
    }, SUPERVISOR_MS);
    timer.unref();
  }

  async #handOver(): Promise<void> {
    this.#ending = true;
    await Promise.all([this.mounts.settled(), this.mounts.saveProfiles()]);
    const [program = '', ...args] = supervisorOf(process.env['ORCA_CONTROL'] ?? '', [
      process.execPath,
      ...process.execArgv,
      ...process.argv.slice(1),
    ]);
    const supervisor = spawn(program, args, {
      detached: true,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, ORCA_KEPT: keepOverExec(this.#kept()) },
    });
    await once(supervisor, 'spawn');
    exitAtOnce(0);
  }

  /** The descriptors that a successor needs. */
  #kept(): Descriptor[] {
    const control: Descriptor[] = this.#control === undefined ? [] : [{ name: CONTROL, fd: this.#control }];
    return [...control, ...this.mounts.descriptors()];
  }

  /** Never through the addon's cleanup, which would answer the READs of mounts that go on. */
  #exit(): never {
    this.store.barrier();
    if (!this.mounts.isServing) this.#cache.close();
    exitAtOnce(0);
  }
}

/**
 * A cache whose disk has become full or read-only makes room, or is elsewhere: what the mounts that were left need of it
 * is read before and kept.
 */
async function openCache(
  { cache: directory, cacheSize }: DaemonOptions,
  state: StateFile,
): Promise<BlockCache> {
  const images = [...state.mounts.values()].flatMap(({ image }) => image ?? []);
  const isSpoilt = images.length > 0 && (await cannotGrow(directory));
  const documents = isSpoilt
    ? await readDocuments(images, new BlobCache(directory))
    : new Map<string, Uint8Array>();
  const cache = await BlockCache.open(directory, cacheSize === undefined ? {} : { limit: cacheSize });
  for (const [digest, bytes] of documents) {
    await cache.blobs.ensure(digest, bytes).catch((error: Error) => {
      log.warn(`${digest} cannot be kept, and is asked for again: ${error.message}`);
    });
  }
  return cache;
}

async function cannotGrow(directory: string): Promise<boolean> {
  try {
    const { bavail, bsize } = await statfs(directory);
    await access(directory, constants.W_OK);
    return bavail * bsize < LITTLE_ROOM;
  } catch {
    return true;
  }
}

async function lock(directory: string): Promise<void> {
  const handle = await open(join(directory, 'lock'), 'a', 0o600);
  for (const deadline = Date.now() + LOCK_MS; !addon.tryLock(handle.fd, 'exclusive'); ) {
    if (Date.now() > deadline) {
      throw new DaemonError('ALREADY_RUNNING', `another daemon serves ${directory}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  // A handle that is collected as garbage is closed.
  held.push(handle);
}

const held: unknown[] = [];
