/**
 * The daemon's process, as the supervisor or systemd starts it. What it needs to serve the mounts that were left is
 * imported first; the control API comes when they answer.
 *
 *   main.js --run-dir DIR --cache DIR [--cache-size BYTES] [--log-level LEVEL] [--log-format FORMAT]
 *           [--http 127.0.0.1:PORT]
 */
import { setImmediate as turn } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { configureLogging, type LogFormat, type LogLevel, log } from '../telemetry/logger.js';
import { Daemon } from './daemon.js';
import { CONTROL, type Descriptor, takeDescriptors } from './descriptors.js';
import type { Launches } from './server.js';

/** What the daemon does for native/launcher; loaded when it serves. */
export type LoadLaunches = () => Promise<Launches>;

/** Milliseconds after the start: whoever has started the daemon wants something else first. */
const LOAD_AFTER_MS = 300;

/** What a first mount from a registry needs: to load it takes longer than the mount. */
async function loadTheRest(): Promise<void> {
  const parts = [
    () => import('../mount/open-image.js'),
    () => import('../mount/unexpanded-image.js'),
    () => import('../source/registry-image.js'),
    () => import('../oci/registry-client.js'),
    () => import('../source/smb-source.js'),
  ];
  for (const load of parts) {
    // One at a time, with requests between. What cannot be loaded is told of when it is needed.
    await load().catch(() => undefined);
    await turn();
  }
}

export async function serveDaemon(loadLaunches: LoadLaunches): Promise<void> {
  const descriptors = takeDescriptors();
  process.title = 'orcad';
  // A blocked stderr must not end what others depend on.
  process.stderr.on('error', () => undefined);
  process.chdir('/');
  try {
    await serve(descriptors, loadLaunches);
  } catch (error) {
    log.error(`the daemon cannot start: ${(error as Error).message}`);
    process.exit(1);
  }
}

async function serve(descriptors: readonly Descriptor[], loadLaunches: LoadLaunches): Promise<void> {
  const { values } = parseArgs({
    options: {
      'run-dir': { type: 'string' },
      cache: { type: 'string' },
      'cache-size': { type: 'string' },
      http: { type: 'string' },
      'log-level': { type: 'string', default: 'info' },
      'log-format': { type: 'string', default: 'text' },
    },
  });
  const level = values['log-level'] as LogLevel;
  await configureLogging({ level, format: values['log-format'] as LogFormat });
  const { 'run-dir': runDirectory, cache, 'cache-size': cacheSize } = values;
  if (runDirectory === undefined || cache === undefined) throw new Error('--run-dir and --cache are needed');
  const control = descriptors.find(({ name }) => name === CONTROL);
  if (control === undefined) throw new Error('no control socket is passed: start it by orca daemon');
  const daemon = await Daemon.start(
    { runDirectory, cache, ...(cacheSize !== undefined && { cacheSize: Number(cacheSize) }) },
    descriptors,
  );
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => void daemon.terminate(signal));
  }
  process.on('SIGHUP', () => undefined);
  const { createServer } = await import('./server.js');
  const { server } = await createServer(daemon, loadLaunches);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ fd: control.fd }, resolve);
  });
  daemon.store.ready(takeCommand());
  await daemon.watchContainers();
  daemon.watchSupervisor();
  if (values.http !== undefined) await servePort(daemon, values.http);
  // So that the first container does not wait for it.
  await loadLaunches();
  setTimeout(() => void loadTheRest(), LOAD_AFTER_MS).unref();
}

/** A port that is taken is no reason to serve no mounts. */
async function servePort(daemon: Daemon, address: string): Promise<void> {
  try {
    const { parseHttpAddress, serveHttp } = await import('./http.js');
    daemon.http = await serveHttp(daemon, parseHttpAddress(address));
    log.info(`the page is at ${daemon.http}, metrics at ${daemon.http}metrics`);
  } catch (error) {
    log.error(`nothing is served at ${address}: ${(error as Error).message}`);
  }
}

/** Where this process replaced another: how to start it anew. */
function takeCommand(): string[] {
  const { ORCA_COMMAND } = process.env;
  delete process.env['ORCA_COMMAND'];
  return ORCA_COMMAND === undefined ? [] : (JSON.parse(ORCA_COMMAND) as string[]);
}
