/**
 * A mount that serves until it is unmounted, in this process or in one of its own in the background.
 *
 * The background process gets its request through a pipe, not as arguments, since a URL may hold a password.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type ImageMountRequest, mountRequested } from '../mount/image-mount.js';
import { isAutomounting, locate } from '../mount/mount-point.js';
import type { LogFormat, LogLevel } from '../telemetry/logger.js';
import { configureLogging, log } from '../telemetry/logger.js';
import { InterruptedError, Interruption } from './interruption.js';
import { cleanUpMount, mountID } from './mount-point.js';
import { type ClaimedDirectory, RunDirectory } from './run-directory.js';
import { RuntimeError } from './runtime-error.js';

export interface MountRequest extends ImageMountRequest {
  runDir: string;
}

export interface BackgroundOptions {
  /** The script that has the command `serve-mount`. */
  entry: string;
  logFile?: string | undefined;
  logLevel: LogLevel;
  logFormat: LogFormat;
}

type Order = MountRequest & { logLevel: LogLevel; logFormat: LogFormat };
type Reply = { mounted: string } | { failed: string; code: string; exitCode?: number };

/** Serves until the kernel or a signal ends it. `onMounted` is told what is mounted and which source serves it. */
export async function serveMount(
  request: MountRequest,
  onMounted: (description: string) => void,
): Promise<void> {
  const interruption = new Interruption();
  const mountpoint = await locate(request.mountpoint);
  const directory = await claim(await RunDirectory.open(request.runDir), mountpoint);
  try {
    await writeFile(join(directory.path, 'mountpoint'), mountpoint);
    const mount = await mountRequested({ ...request, mountpoint }, interruption.signal);
    onMounted(mount.description);
    const interrupted = new Promise<'interrupted'>((resolve) => {
      if (interruption.signal.aborted) resolve('interrupted');
      interruption.signal.addEventListener('abort', () => resolve('interrupted'));
    });
    const end = await Promise.race([mount.ended, interrupted]);
    if (end === 'interrupted') await mount.unmount();
    else if (end.reason === 'failed') throw new RuntimeError('SERVER_ENDED', `${mountpoint}: ${end.message}`);
    log.info('unmounted', { mountpoint });
  } finally {
    await directory.removeAndEnd();
    interruption.close();
  }
}

async function claim(runDirectory: RunDirectory, mountpoint: string): Promise<ClaimedDirectory> {
  try {
    return await runDirectory.claim('mounts', {
      id: mountID(mountpoint),
      cleanUp: (path) => cleanUpMount(path),
    });
  } catch (cause) {
    if ((cause as { code?: string }).code !== 'NAME_IN_USE') throw cause;
    const text = `${mountpoint} is served by another orca already: run orca umount ${mountpoint} first`;
    throw new RuntimeError('BUSY', text, { cause });
  }
}

/** Starts a process that serves the mount; resolves with its description when it answers, throws what it reports. */
export async function serveInBackground(request: MountRequest, options: BackgroundOptions): Promise<string> {
  const runDirectory = await RunDirectory.open(request.runDir);
  const mountpoint = await locate(request.mountpoint);
  const logFile = options.logFile ?? join(runDirectory.path, 'log', `${mountID(mountpoint)}.log`);
  const output = await open(logFile, 'a', 0o600);
  const child = spawn(
    process.execPath,
    [...process.execArgv, options.entry, 'serve-mount', request.image, mountpoint],
    // Out of the process group, an automount would hold it up.
    { detached: !(await isAutomounting(mountpoint)), stdio: ['ignore', output.fd, output.fd, 'ipc'] },
  );
  await output.close();
  const interruption = new Interruption();
  const onAbort = () => child.kill('SIGTERM');
  interruption.signal.addEventListener('abort', onAbort);
  try {
    child.send({ ...request, logLevel: options.logLevel, logFormat: options.logFormat } satisfies Order);
    const reply = await replyOf(child, logFile);
    if ('mounted' in reply) return reply.mounted;
    const { failed, code, exitCode } = reply;
    throw Object.assign(new RuntimeError(code, failed), exitCode === undefined ? {} : { exitCode });
  } finally {
    interruption.close();
    if (child.connected) child.disconnect();
    child.unref();
  }
}

/** The other side of `serveInBackground`: the whole life of the background process. */
export async function serveForParent(): Promise<void> {
  const order = await new Promise<Order>((resolve, reject) => {
    process.once('message', (message) => resolve(message as Order));
    process.once('disconnect', () => reject(new InterruptedError('SIGHUP')));
    if (process.send === undefined) {
      reject(new RuntimeError('INVALID_OPTION', 'serve-mount is started by orca mount, not by hand'));
    }
  });
  const reply = (message: Reply) => {
    if (process.connected) process.send?.(message, () => process.disconnect());
  };
  // A parent that dies before the mount answers takes the attempt with it.
  const orphaned = () => process.kill(process.pid, 'SIGTERM');
  process.once('disconnect', orphaned);
  try {
    await configureLogging({ level: order.logLevel, format: order.logFormat });
    await serveMount(order, (description) => {
      process.off('disconnect', orphaned);
      // Paths of the request are relative to where the parent was; from here on no directory is kept busy.
      process.chdir('/');
      reply({ mounted: description });
    });
  } catch (error) {
    process.off('disconnect', orphaned);
    const { message, code, exitCode } = error as { message: string; code?: string; exitCode?: number };
    const failed = {
      failed: message,
      code: code ?? 'UNEXPECTED',
      ...(exitCode === undefined ? {} : { exitCode }),
    };
    reply(failed);
    throw error;
  }
}

function replyOf(child: ChildProcess, logFile: string): Promise<Reply> {
  return new Promise((resolve, reject) => {
    child.once('message', (message) => resolve(message as Reply));
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      const how = signal === null ? `exit code ${code}` : signal;
      const text = `the process that serves the mount ended with ${how}: ${logFile} says why`;
      reject(new RuntimeError('SERVER_ENDED', text));
    });
  });
}
