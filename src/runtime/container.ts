/**
 * One container in the foreground, from the mounted image to its exit code, and everything removed afterwards.
 *
 * There is no daemon that could start a stopped container again, so the writable layer goes away with the
 * container, with or without `--rm`.
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { isatty } from 'node:tty';
import type { ProcessConfig } from '../oci/image-config.js';
import { valueOf } from './environment.js';
import { checkExecutable } from './executable.js';
import { writeNetworkFiles } from './network-files.js';
import { mountOverlay, unmountPoint } from './overlay.js';
import { readText } from './rootfs.js';
import { type ClaimedDirectory, RunDirectory } from './run-directory.js';
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

export interface RunRequest {
  runDirectory: string;
  options: RunOptions;
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
  const { options } = request;
  checkOptions(options);
  for (const { source } of options.volumes) await checkVolumeSource(source);
  const binary = await findRunc();
  const runDirectory = await RunDirectory.open(request.runDirectory);
  const runc = new Runc(binary, runDirectory.runcRoot);
  const relay = new SignalRelay();
  try {
    const directory = await runDirectory.claim('containers', {
      name: options.name,
      cleanUp: (path, id) => removeContainer(runc, runDirectory, path, id),
    });
    return await runIn(directory, runDirectory, runc, relay, request);
  } finally {
    relay.close();
  }
}

/** Removes containers whose `orca run` was killed; `unmount` ends the image mounts below their directories. */
export async function removeDeadContainers(
  directory: string,
  unmount: (directory: string) => Promise<void>,
): Promise<void> {
  const runDirectory = await RunDirectory.open(directory);
  const runc = new Runc(await findRunc(), runDirectory.runcRoot);
  await runDirectory.sweep('containers', async (path, id) => {
    await removeContainer(runc, runDirectory, path, id, { unmount: () => unmount(path) });
  });
}

async function runIn(
  directory: ClaimedDirectory,
  runDirectory: RunDirectory,
  runc: Runc,
  relay: SignalRelay,
  request: RunRequest,
): Promise<number> {
  let image: MountedImage | undefined;
  try {
    const mountpoint = join(directory.path, 'image');
    await mkdir(mountpoint);
    image = await request.mountImage(mountpoint, relay.starting);
    relay.starting.throwIfAborted();
    const rootfs = await mountOverlay(directory.path, mountpoint);
    await writeBundle(directory, { rootfs, image: mountpoint, config: image.config }, request.options);
    relay.starting.throwIfAborted();
    const container = runc.start(directory.id, directory.path, request.options);
    relay.passTo(container);
    const exitCode = await container.exitCode();
    return relay.exitCode ?? exitCode;
  } finally {
    await removeContainer(runc, runDirectory, directory.path, directory.id, image);
    await directory.remove();
  }
}

async function writeBundle(
  directory: ClaimedDirectory,
  mounts: { rootfs: string; image: string; config: ProcessConfig },
  options: RunOptions,
): Promise<void> {
  const { config } = mounts;
  const shortID = directory.id.slice(0, 12);
  const name = options.network === 'host' ? hostname() : shortID;
  const spec = buildSpec({
    id: directory.id,
    config,
    options,
    user: await findUser(mounts.image, options.user ?? config.user ?? ''),
    hostname: name,
    rootfs: mounts.rootfs,
    networkFiles: await writeNetworkFiles(directory.path, { network: options.network, hostname: name }),
    hostEnvironment: process.env,
    openFiles: await hardOpenFiles(),
    unifiedCgroups: existsSync('/sys/fs/cgroup/cgroup.controllers'),
    seccomp: seccompProfile(process.arch),
    consoleSize: options.terminal ? terminalSize() : undefined,
  });
  await checkExecutable(mounts.image, spec.process.args[0] ?? '', {
    path: valueOf(spec.process.env, 'PATH') ?? '',
    workingDirectory: spec.process.cwd,
    volumes: options.volumes.map((volume) => volume.destination),
  });
  await writeFile(join(directory.path, 'config.json'), JSON.stringify(spec));
}

async function findUser(root: string, user: string): Promise<ProcessUser> {
  const passwd = await readText(root, '/etc/passwd', MAX_USER_DATABASE_BYTES);
  const group = await readText(root, '/etc/group', MAX_USER_DATABASE_BYTES);
  return resolveUser(user, passwd ?? '', group ?? '');
}

/** Kills what still runs, unmounts what is mounted below `path`, and leaves plain files alone. */
async function removeContainer(
  runc: Runc,
  runDirectory: RunDirectory,
  path: string,
  id: string,
  image?: Pick<MountedImage, 'unmount'>,
): Promise<void> {
  // After an orderly exit runc has removed its state itself.
  if (existsSync(join(runDirectory.runcRoot, id))) await runc.delete(id);
  await unmountPoint(join(path, 'rootfs'));
  await image?.unmount();
  await unmountPoint(join(path, 'image'));
}

function checkOptions(options: RunOptions): void {
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
  const terminals = options.interactive ? [0] : [0, 1, 2];
  if (options.terminal && !terminals.some((fd) => isatty(fd))) {
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

function terminalSize(): { height: number; width: number } | undefined {
  const { isTTY, rows, columns } = process.stdout;
  return isTTY ? { height: rows, width: columns } : undefined;
}

async function hardOpenFiles(): Promise<number> {
  const limits = await readFile('/proc/self/limits', 'utf8');
  const hard = Number(/^Max open files\s+\S+\s+(\d+)/m.exec(limits)?.[1]);
  return Number.isSafeInteger(hard) ? hard : 524_288;
}
