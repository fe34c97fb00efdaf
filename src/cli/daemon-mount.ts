/** Mounts that commands leave to the host daemon. */
import { resolve } from 'node:path';
import type { MountInfo } from '../daemon/api.js';
import type { DaemonClient } from '../daemon/client.js';
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
}

/** The daemon that is to serve; undefined when this command serves by itself. */
export async function chosenDaemon(choice: DaemonChoice): Promise<DaemonClient | undefined> {
  if (choice.daemon === false) return undefined;
  const [{ DaemonClient }, { ensureDaemon, socketOf }] = await Promise.all([
    import('../daemon/client.js'),
    import('../daemon/start.js'),
  ]);
  const runDirectory = resolve(choice.runDir);
  const cache = resolve(choice.cache);
  const socket = choice.socket === undefined ? socketOf(runDirectory) : resolve(choice.socket);
  const client = new DaemonClient(socket);
  if (choice.daemon) {
    const { cacheSize } = choice;
    await ensureDaemon({ socket, runDirectory, cache, ...(cacheSize !== undefined && { cacheSize }) });
  }
  const answer = await client.ping();
  if (answer === undefined) return undefined;
  if (answer.cache === cache && answer.runDirectory === runDirectory) return client;
  const { DaemonError } = await import('../daemon/daemon-error.js');
  const text = `the daemon at ${socket} has another cache or run directory (${answer.cache}, ${answer.runDirectory})`;
  if (choice.daemon) throw new DaemonError('INVALID_OPTION', `${text}: give those, or --no-daemon`);
  log.warn(`${text}: going on without it`);
  return undefined;
}

/** The daemon has a working directory and an environment of its own. */
export async function mountByDaemon(
  client: DaemonClient,
  id: string,
  request: ImageRequest & MountSettings & { mountpoint: string; container?: string },
  signal?: AbortSignal,
): Promise<MountInfo> {
  const { store, credentials, registry, mountpoint } = request;
  const environment = Object.fromEntries(
    Object.entries(process.env).filter((entry): entry is [string, string] =>
      entry[0].startsWith('ORCA_SMB_'),
    ),
  );
  const order = {
    ...request,
    mountpoint: resolve(mountpoint),
    ...(store !== undefined && { store: absoluteStore(store) }),
    ...(credentials !== undefined && { credentials: resolve(credentials) }),
    ...(registry?.caFile !== undefined && { registry: { ...registry, caFile: resolve(registry.caFile) } }),
    ...(Object.keys(environment).length > 0 && { environment }),
  };
  const info = await client.createMount(id, order, { signal });
  for (const { kind, reason } of surprises(info.passedOver))
    log.warn(`${info.image} is not served by ${kind}: ${reason}`);
  return info;
}

function absoluteStore(store: string): string {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(store)) return store;
  return resolve(store.replace(/^file:/, ''));
}
