/** Runs a registry until the process is told to end, and keeps its data directory clean meanwhile. */
import { isIP } from 'node:net';
import { log } from '../telemetry/logger.js';
import type { RegistryContext } from './context.js';
import { collectGarbage } from './garbage.js';
import { createRegistry, type RegistryOptions } from './registry.js';
import { RegistryError } from './registry-error.js';
import { type MetricsServer, serveMetrics } from './registry-metrics.js';

/** An upload that nobody has gone on with for so long is not gone on with. */
const UPLOAD_IDLE_MS = 7 * 24 * 3600_000;
/** No push takes longer from its first blob to its manifest. */
const GARBAGE_GRACE_MS = 24 * 3600_000;
const CLEANING_MS = 6 * 3600_000;
const ENDING = ['SIGTERM', 'SIGINT'] as const;

/** Resolves when SIGTERM or SIGINT has come and the requests under way have ended; SIGHUP reads the certificate again. */
export async function serveRegistry(
  options: RegistryOptions & { metrics?: { host: string; port: number } },
  print: (url: string) => void,
): Promise<void> {
  const registry = await createRegistry(options);
  const reload = () => {
    registry
      .reloadCertificate()
      .catch((error: Error) => log.error('the certificate stays as it was', { error }));
  };
  const ended = new Promise<void>((resolve) => {
    for (const signal of ENDING) process.once(signal, () => resolve());
  });
  process.on('SIGHUP', reload);
  const { context } = registry;
  const timer = setInterval(() => void clean(context), CLEANING_MS);
  let metrics: MetricsServer | undefined;
  try {
    if (options.metrics !== undefined) {
      metrics = await serveMetrics(options.metrics, registry.metrics);
      log.info(`metrics are at ${metrics.url}`);
    }
    print(await registry.listen());
    const first = clean(context);
    await ended;
    await first;
  } finally {
    clearInterval(timer);
    process.off('SIGHUP', reload);
    metrics?.close();
    await registry.close();
  }
}

async function clean({ storage, expansion }: RegistryContext): Promise<void> {
  try {
    const uploads = await storage.uploads.removeIdle(Date.now() - UPLOAD_IDLE_MS);
    const { unlinked, removed, bytes } = await collectGarbage(storage, GARBAGE_GRACE_MS);
    if (uploads + unlinked + removed > 0) log.info('cleaned', { uploads, unlinked, removed, bytes });
    const expanded = await expansion?.collectGarbage(GARBAGE_GRACE_MS);
    if (expanded !== undefined && expanded.images + expanded.layers > 0)
      log.info('cleaned the expanded layers', { ...expanded });
  } catch (error) {
    log.error('cleaning failed', { error: error as Error });
  }
}

/** `HOST:PORT`, `[IPV6]:PORT` or `:PORT` (all addresses). Throws RegistryError INVALID_OPTION, with the option's name. */
export function parseListenAddress(text: string, option = '--listen'): { host: string; port: number } {
  const [, bracketed, plain, digits] =
    /^(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9.-]*)):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === undefined || port > 65535 || (bracketed !== undefined && isIP(bracketed) !== 6)) {
    throw new RegistryError('INVALID_OPTION', `${option} ${text}: write HOST:PORT, such as 0.0.0.0:5000`);
  }
  return { host: bracketed ?? (plain || '::'), port };
}
