/**
 * One container in the foreground, from the mounted image to its exit code, and everything removed afterwards.
 *
 * There is no daemon that could start a stopped container again, so the writable layer goes away with the
 * container, with or without `--rm`.
 *
 * The process that prepares a container need not be the one that runs runc: the daemon prepares those of the launcher.
 */
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { isatty } from 'node:tty';
import type { ProcessConfig } from '../oci/image-config.js';
import { valueOf } from './environment.js';
import { checkExecutable } from './executable.js';
import { writeNetworkFiles } from './network-files.js';
import { mountOverlay, unmountPoint } from './overlay.js';
import { readText } from './rootfs.js';
import { ClaimedDirectory, RunDirectory } from './run-directory.js';
import { findRunc, Runc } from './runc.js';
import { RuntimeError } from './runtime-error.js';
import { seccompProfile } from './seccomp.js';
import { SignalRelay } from './signal-relay.js';
import { buildSpec, type ProcessOptions } from './spec.js';
import { type ProcessUser, resolveUser } from './user-database.js';

export interface RunOptions extends ProcessOptions {
  name?: string | undefined;
  /** Overrides the image's User. */
  user?: string | undefined;
  /** Whether the container gets our stdin; otherwise its stdin is empty. */
  interactive: boolean;
}

export interface MountedImage {
  config: ProcessConfig;
  unmount(): Promise<void>;
}

/** The process that runc is to be a child of, as far as a container depends on it. */
export interface RunCaller {
  environment: Readonly<Record<string, string | undefined>>;
  /** Hard limit of open files. */
  openFiles: number;
  /** Whether stdin, stdout and stderr are terminals. */
  terminals: readonly [boolean, boolean, boolean];
  consoleSize?: { height: number; width: number } | undefined;
}

export interface RunRequest {
  runDirectory: string;
  options: RunOptions;
  /** By default this process. */
  caller?: RunCaller;
  /** A file whose lock the caller holds, and that becomes the lock of the container's directory. */
  lock?: string;
  /** Mounts the image, read-only, at a directory that exists and is empty. */
  mountImage(mountpoint: string, signal: AbortSignal): Promise<MountedImage>;
}

/** /etc/passwd and /etc/group of an image: a line is about 60 bytes, so this is more than 100,000 users. */
const MAX_USER_DATABASE_BYTES = 8 << 20;

const CONTAINER_NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/;

/**
 * Runs the container and returns its exit code, 128 + n after signal n. Throws a RuntimeError when it could not be
 * started; NOT_EXECUTABLE and COMMAND_NOT_FOUND are about the command itself.
 */
export async function runContainer(request: RunRequest): Promise<number> {
  const relay = new SignalRelay();
  try {
    const container = await PreparedContainer.prepare(request, relay.starting);
    try {
      relay.starting.throwIfAborted();
      const process = container.runc.start(container.id, container.directory, request.options);
      relay.passTo(process);
      const exitCode = await process.exitCode();
      return relay.exitCode ?? exitCode;
    } finally {
      await container.remove();
    }
  } finally {
    relay.close();
  }
}

/** A container that has everything but its process. */
export class PreparedContainer {
  readonly runc: Runc;
  readonly #claimed: ClaimedDirectory;
  readonly #runDirectory: RunDirectory;
  #image: MountedImage | undefined;

  private constructor(runc: Runc, claimed: ClaimedDirectory, runDirectory: RunDirectory) {
    this.runc = runc;
    this.#claimed = claimed;
    this.#runDirectory = runDirectory;
  }

  /** Throws what keeps it from being started, having removed all of it. */
  static async prepare(request: RunRequest, signal: AbortSignal): Promise<PreparedContainer> {
    const { options, caller = thisProcess(), lock } = request;
    checkOptions(options, caller);
    for (const { source } of options.volumes) await checkVolumeSource(source);
    const runDirectory = await RunDirectory.open(request.runDirectory);
    const runc = new Runc(await findRunc(caller.environment['PATH']), runDirectory.runcRoot);
    const claimed = await runDirectory.claim('containers', {
      name: options.name,
      ...(lock !== undefined && { lock }),
      cleanUp: (path, id) => removeContainer(runDirectory, path, id, { runc }),
    });
    const container = new PreparedContainer(runc, claimed, runDirectory);
    try {
      const mountpoint = join(claimed.path, 'image');
      await mkdir(mountpoint);
      const image = await request.mountImage(mountpoint, signal);
      container.#image = image;
      signal.throwIfAborted();
      const rootfs = await mountOverlay(claimed.path, mountpoint);
      await writeBundle(claimed, { rootfs, image: mountpoint, config: image.config }, options, caller);
      return container;
    } catch (error) {
      await container.remove();
      throw error;
    }
  }

  get id(): string {
    return this.#claimed.id;
  }

  /** The bundle. */
  get directory(): string {
    return this.#claimed.path;
  }

  /** Kills what still runs, and removes everything. */
  async remove(): Promise<void> {
    const { runc, directory, id } = this;
    await removeContainer(this.#runDirectory, directory, id, { runc, image: this.#image });
    await this.#claimed.remove();
  }
}

/** Removes containers whose `orca run` was killed; `unmount` ends the image mounts below their directories. */
export async function removeDeadContainers(
  directory: string,
  unmount: (directory: string) => Promise<void>,
): Promise<void> {
  const runDirectory = await RunDirectory.open(directory);
  await runDirectory.sweep('containers', async (path, id) => {
    await removeContainer(runDirectory, path, id, { image: { unmount: () => unmount(path) } });
  });
}

/** Removes a container that another process has run, or was to run, and that nobody runs any more. */
export async function removePreparedContainer(
  directory: string,
  id: string,
  unmount: (directory: string) => Promise<void>,
): Promise<void> {
  const runDirectory = await RunDirectory.open(directory);
  const path = join(runDirectory.path, 'containers', id);
  await removeContainer(runDirectory, path, id, { image: { unmount: () => unmount(path) } });
  await new ClaimedDirectory(id, path).remove();
}

async function writeBundle(
  directory: ClaimedDirectory,
  mounts: { rootfs: string; image: string; config: ProcessConfig },
  options: RunOptions,
  caller: RunCaller,
): Promise<void> {
  const { config } = mounts;
  const shortID = directory.id.slice(0, 12);
  const name = options.network === 'host' ? hostname() : shortID;
  const [user, networkFiles] = await Promise.all([
    findUser(mounts.image, options.user ?? config.user ?? ''),
    writeNetworkFiles(directory.path, { network: options.network, hostname: name }),
  ]);
  const spec = buildSpec({
    id: directory.id,
    config,
    options,
    user,
    hostname: name,
    rootfs: mounts.rootfs,
    networkFiles,
    hostEnvironment: caller.environment,
    openFiles: caller.openFiles,
    unifiedCgroups: existsSync('/sys/fs/cgroup/cgroup.controllers'),
    seccomp: seccompProfile(process.arch),
    consoleSize: options.terminal ? caller.consoleSize : undefined,
  });
  await checkExecutable(mounts.image, spec.process.args[0] ?? '', {
    path: valueOf(spec.process.env, 'PATH') ?? '',
    workingDirectory: spec.process.cwd,
    volumes: options.volumes.map((volume) => volume.destination),
  });
  await writeFile(join(directory.path, 'config.json'), JSON.stringify(spec));
}

async function findUser(root: string, user: string): Promise<ProcessUser> {
  // At once: both may have to come from afar.
  const [passwd, group] = await Promise.all(
    ['/etc/passwd', '/etc/group'].map((path) => readText(root, path, MAX_USER_DATABASE_BYTES)),
  );
  return resolveUser(user, passwd ?? '', group ?? '');
}

/** Kills what still runs, unmounts what is mounted below `path`, and leaves plain files alone. */
async function removeContainer(
  runDirectory: RunDirectory,
  path: string,
  id: string,
  { runc, image }: { runc?: Runc; image?: Pick<MountedImage, 'unmount'> | undefined },
): Promise<void> {
  const { runcRoot } = runDirectory;
  // After an orderly exit runc has removed its state itself, and need not be looked for.
  if (existsSync(join(runcRoot, id))) await (runc ?? new Runc(await findRunc(), runcRoot)).delete(id);
  await unmountPoint(join(path, 'rootfs'));
  await image?.unmount();
  await unmountPoint(join(path, 'image'));
}

function checkOptions(options: RunOptions, { terminals }: RunCaller): void {
  if (process.getuid?.() !== 0) {
    throw new RuntimeError(
      'NOT_ROOT',
      'orca run needs root, to mount overlayfs and run runc; orca mount does not',
    );
  }
  if (options.name !== undefined && !CONTAINER_NAME.test(options.name)) {
    throw new RuntimeError(
      'INVALID_OPTION',
      `--name ${JSON.stringify(options.name)}: a letter or digit, then up to 127 of a-z A-Z 0-9 _ . -`,
    );
  }
  if (options.terminal && !(options.interactive ? terminals[0] : terminals.some((is) => is))) {
    throw new RuntimeError('NO_TERMINAL', 'the input device is not a TTY: leave out -t');
  }
}

async function checkVolumeSource(source: string): Promise<void> {
  try {
    await stat(source);
  } catch (cause) {
    throw new RuntimeError(
      'INVALID_OPTION',
      `-v ${source}: no such file or directory on this host; make it first`,
      {
        cause,
      },
    );
  }
}

function thisProcess(): RunCaller {
  const { isTTY, rows, columns } = process.stdout;
  return {
    environment: process.env,
    openFiles: hardOpenFiles(),
    terminals: [isatty(0), isatty(1), isatty(2)],
    ...(isTTY && { consoleSize: { height: rows, width: columns } }),
  };
}

function hardOpenFiles(): number {
  const limits = readFileSync('/proc/self/limits', 'utf8');
  const hard = Number(/^Max open files\s+\S+\s+(\d+)/m.exec(limits)?.[1]);
  return Number.isSafeInteger(hard) ? hard : 524_288;
}
