/**
 * The read-only HTTP port of the daemon: off unless `--http` is given, and on loopback addresses alone.
 *
 *   GET /            a page that draws the mounts (page.ts), and its files
 *   GET /view/…      what it draws (page-view.ts)
 *   GET /metrics     for Prometheus
 *
 * Every user of the host can connect, so what is answered holds no configuration of containers and no credentials.
 * A request that names another host than this one is refused: a page of the web could have led a browser here by a
 * name of its own (DNS rebinding).
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { httpUrl } from '../http-url.js';
import { log } from '../telemetry/logger.js';
import { METRICS_TYPE } from '../telemetry/metrics.js';
import { MOUNT_ID } from './api.js';
import type { Daemon } from './daemon.js';
import { DaemonError } from './daemon-error.js';
import { daemonMetrics } from './metrics.js';
import { Views } from './mount-view.js';
import { PAGE_HEADERS, pageFile } from './page.js';

const MAX_CONNECTIONS = 64;
const HEADERS_MS = 10_000;

export interface HttpAddress {
  host: string;
  /** 0: a free one. */
  port: number;
}

/** `127.0.0.1:PORT`, `[::1]:PORT` or `localhost:PORT`. Throws DaemonError INVALID_OPTION. */
export function parseHttpAddress(text: string): HttpAddress {
  const [, name = '', digits = ''] = /^(127(?:\.\d{1,3}){3}|localhost|\[::1\]):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(digits);
  if (digits === '' || port > 65_535)
    throw new DaemonError(
      'INVALID_OPTION',
      `--http ${text}: write 127.0.0.1:PORT; it is for this host alone`,
    );
  return { host: name.replace(/[[\]]/g, ''), port };
}

/** Resolves with the URL. Throws what listening throws. */
export async function serveHttp(daemon: Daemon, { host, port }: HttpAddress): Promise<string> {
  const views = new Views(daemon);
  const server: Server = createServer(
    { headersTimeout: HEADERS_MS, requestTimeout: HEADERS_MS },
    (request, response) => {
      void answer(daemon, views, request, response);
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  return `${httpUrl(server.address() as AddressInfo)}/`;
}

interface Answer {
  type: string;
  body: string;
}

const VIEW = /^\/view\/mounts\/([^/]+)\.json$/;

async function answer(
  daemon: Daemon,
  views: Views,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    const { host = '' } = request.headers;
    if (!/^(127(\.\d{1,3}){3}|localhost|\[::1\])(:\d{1,5})?$/.test(host))
      return send(response, 421, text('this port is for its own host alone\n'));
    if (request.method !== 'GET') return send(response, 405, text('only GET\n'));
    const path = (request.url ?? '/').replace(/\?.*$/s, '');
    const found = await resource(daemon, views, path);
    send(response, found === undefined ? 404 : 200, found ?? text('no such resource\n'));
  } catch (error) {
    const missing = error instanceof DaemonError && error.code === 'NOT_FOUND';
    if (!missing) log.error('a request to the HTTP port failed', { error: error as Error });
    send(response, missing ? 404 : 500, text('failed\n'));
  }
}

async function resource(daemon: Daemon, views: Views, path: string): Promise<Answer | undefined> {
  if (path === '/metrics') return { type: METRICS_TYPE, body: daemonMetrics(daemon) };
  if (path === '/view/mounts.json') return json(views.mounts());
  const id = VIEW.exec(path)?.[1];
  if (id !== undefined) return MOUNT_ID.test(id) ? json(await views.mount(id)) : undefined;
  return pageFile(path);
}

function json(value: object): Answer {
  return { type: 'application/json', body: JSON.stringify(value) };
}

function text(body: string): Answer {
  return { type: 'text/plain; charset=utf-8', body };
}

function send(response: ServerResponse, status: number, { type, body }: Answer): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...PAGE_HEADERS,
  });
  response.end(body);
}
