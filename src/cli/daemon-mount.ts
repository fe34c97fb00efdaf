/** Mounts that commands leave to the host daemon. */
import { resolve } from 'node:path';
import { counted } from '../counted.js';
import { API_VERSION, type Line, type MountInfo, type PingAnswer } from '../daemon/api.js';
import type { DaemonClient } from '../daemon/client.js';
import { fileTree, orderOf, thisCaller } from '../daemon/order.js';
import type { MountSettings } from '../mount/mount.js';
import type { ImageRequest } from '../mount/open-image.js';
import { surprises } from '../mount/source-choice.js';
import { log } from '../telemetry/logger.js';

export interface DaemonChoice {
  daemon?: boolean;
  socket?: string;
  runDir: string;
  cache: string;
  cacheSize?: number;
  /** False: only a daemon that runs. */
  startDaemon?: boolean;
}

/**
 * The daemon that is to serve, started if none runs; undefined when this command serves by itself. With `daemon`
 * true whatever keeps the daemon from it is an error.
 */
export async function chosenDaemon(choice: DaemonChoice): Promise<DaemonClient | undefined> {
  if (choice.daemon === false) return undefined;
  const [{ DaemonClient }, { DaemonError }, { ensureDaemon, socketOf }] = await Promise.all([
    import('../daemon/client.js'),
    import('../daemon/daemon-error.js'),
    import('../daemon/start.js'),
  ]);
  const runDirectory = resolve(choice.runDir);
  const cache = resolve(choice.cache);
  const socket = choice.socket === undefined ? socketOf(runDirectory) : resolve(choice.socket);
  const { cacheSize } = choice;
  const client = new DaemonClient(socket);
  try {
    let answer = await client.ping();
    if (answer === undefined) {
      if (choice.startDaemon === false && !choice.daemon) return undefined;
      await ensureDaemon({ socket, runDirectory, cache, ...(cacheSize !== undefined && { cacheSize }) });
      answer = await client.ping();
    }
    const obstacle = answer === undefined ? 'ended at once' : obstacleIn(answer, { runDirectory, cache });
    if (obstacle === undefined) return client;
    throw new DaemonError('INVALID_OPTION', `the daemon at ${socket} ${obstacle}`);
  } catch (error) {
    if (choice.daemon || !(error instanceof DaemonError)) throw error;
    log.warn(`${error.message}: going on without it`);
    return undefined;
  }
}

/** Why a daemon cannot do what a command of this version, with these directories and in this place, asks for. */
function obstacleIn(
  daemon: PingAnswer,
  { runDirectory, cache }: { runDirectory: string; cache: string },
): string | undefined {
  if (daemon.api !== API_VERSION) {
    return `is orca ${daemon.version}, which this version cannot talk to (orca daemon --replace)`;
  }
  if (daemon.cache !== cache || daemon.runDirectory !== runDirectory) {
    return `has another cache or run directory (${daemon.cache}, ${daemon.runDirectory})`;
  }
  if (daemon.fileTree !== fileTree())
    return 'sees another file tree (mount namespace or root) than this command';
  return undefined;
}

export async function mountByDaemon(
  client: DaemonClient,
  id: string,
  request: ImageRequest & MountSettings & { mountpoint: string; container?: string },
  signal?: AbortSignal,
): Promise<MountInfo> {
  const { container } = request;
  const order = {
    ...orderOf(request, thisCaller()),
    mountpoint: resolve(request.mountpoint),
    ...(container !== undefined && { container }),
  };
  const info = await client.createMount(id, order, { signal, onLine: repeatLog });
  for (const { kind, reason } of surprises(info.passedOver))
    log.warn(`${info.image} is not served by ${kind}: ${reason}`);
  return info;
}

/** What the daemon logs on behalf of a command is for the command's user as well. */
export function repeatLog(line: Line): void {
  if ('log' in line) log[line.log.level](line.log.message);
}

/** Returns the digest of the platform's manifest. */
export async function pullByDaemon(
  client: DaemonClient,
  request: ImageRequest,
  signal: AbortSignal,
): Promise<string> {
  const order = orderOf(request, thisCaller());
  const { image, manifestDigest, layers } = await client.pull(order, { signal, onLine: repeatLog });
  log.info(`${image} has ${counted(layers, 'layer')}`);
  return manifestDigest;
}
