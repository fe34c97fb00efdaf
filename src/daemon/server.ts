/** The routes of the control API (api.ts) on the listening socket that the supervisor keeps. */
import type { Server, ServerResponse } from 'node:http';
import fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { OrcaError } from '../errors.js';
import { PROFILE_USES } from '../mount/profile-use.js';
import { type LogFields, type Logger, log } from '../telemetry/logger.js';
import { METRICS_TYPE } from '../telemetry/metrics.js';
import { REQUEST_ID_HEADER } from '../telemetry/request-id.js';
import { addRequestIds } from '../telemetry/request-id-hooks.js';
import {
  type ErrorBody,
  type ImageOrder,
  type Line,
  MAX_BODY_BYTES,
  MOUNT_ID,
  type MountRequest,
} from './api.js';
import type { Daemon } from './daemon.js';
import { DaemonError } from './daemon-error.js';
import { MAX_LAUNCH_BYTES } from './launch-format.js';
import { daemonMetrics } from './metrics.js';

const BYTES = 'application/octet-stream';

const STATUS: Record<string, number> = {
  INVALID_REQUEST: 400,
  INVALID_OPTION: 400,
  NOT_FOUND: 404,
  NOT_MOUNTED: 404,
  BUSY: 409,
  ENDING: 503,
};

/** What native/launcher asks for, in the bytes of launch-format.ts. Throws DaemonError INVALID_REQUEST. */
export interface Launches {
  launch(daemon: Daemon, body: Buffer, signal: AbortSignal): Promise<Buffer>;
  endLaunch(daemon: Daemon, id: string, body: Buffer): Promise<Buffer>;
}

/** Who may connect is a matter of the socket's mode; of the request nothing is believed. */
export async function createServer(
  daemon: Daemon,
  loadLaunches: () => Promise<Launches>,
): Promise<{ server: Server; close(): Promise<void> }> {
  const app = fastify({
    bodyLimit: MAX_BODY_BYTES,
    forceCloseConnections: true,
  });
  addRequestIds(app, { untilAnswered: true });
  app.addHook('onResponse', async ({ id, method, url }, reply) => {
    const ms = Math.round(reply.elapsedTime);
    log.debug('request', { request: id, method, url, status: reply.statusCode, ms });
  });
  app.setErrorHandler((error, _request, reply) => {
    const body = errorBody(error);
    void reply.status(STATUS[body.code] ?? statusOf(error)).send({ error: body });
  });
  app.setNotFoundHandler((_request, reply) => {
    void reply.status(404).send({ error: { code: 'NOT_FOUND', message: 'no such resource' } });
  });
  addRoutes(app, daemon);
  addLaunchRoutes(app, daemon, loadLaunches);
  await app.ready();
  return { server: app.server, close: () => app.close() };
}

function addRoutes(app: FastifyInstance, daemon: Daemon): void {
  const { mounts } = daemon;
  app.get('/v1/ping', () => daemon.ping());
  app.get('/v1/mounts', () => ({ mounts: mounts.list() }));
  app.get('/v1/mounts/:id', (request) => mounts.get(idOf(request)).details());
  app.put('/v1/mounts/:id', (request, reply) => {
    const id = idOf(request);
    const order = mountRequest(request.body);
    return stream(request, reply, async (send, signal) => {
      daemon.checkOpen();
      return { mount: await mounts.create(id, order, signal, loggerTo(send)) };
    });
  });
  app.delete('/v1/mounts/:id', async (request) => {
    const { lazy, force } = request.query as Record<string, string | undefined>;
    await mounts.remove(idOf(request), { lazy: lazy !== undefined, force: force !== undefined });
    return {};
  });
  app.get('/v1/images', async () => ({ images: await daemon.images.list() }));
  app.put('/v1/images/pin', async ({ body }) => ({
    image: await daemon.images.setPinned(imageName(body), true),
  }));
  app.delete('/v1/images/pin', async ({ body }) => ({
    image: await daemon.images.setPinned(imageName(body), false),
  }));
  app.delete('/v1/images', async ({ body }) => ({ image: await daemon.images.remove(imageName(body)) }));
  app.post('/v1/prune', ({ body }) => daemon.images.prune(objectOf(body ?? {})['all'] === true));
  app.post('/v1/pull', (request, reply) => {
    const { blocks, willMount, ...body } = objectOf(request.body);
    const order = { ...imageOrder(body), blocks: blocks === true, willMount: willMount === true };
    return stream(request, reply, async (send, signal) => {
      const onProgress = (done: number, total: number) => send({ progress: { done, total } });
      return { pulled: await daemon.images.pull(order, onProgress, signal, loggerTo(send)) };
    });
  });
  app.get('/v1/cache', () => daemon.cacheInfo());
  app.get('/metrics', (_request, reply) => reply.type(METRICS_TYPE).send(daemonMetrics(daemon)));
  app.post('/v1/shutdown', async (request) => {
    await daemon.shutDown(objectOf(request.body ?? {})['force'] === true);
    return {};
  });
  app.post('/v1/replace', async (request) => {
    const { command } = objectOf(request.body);
    if (!Array.isArray(command) || command.length === 0 || !command.every((part) => isText(part))) {
      throw invalid('command has to be a program and its arguments');
    }
    await daemon.replace(command as string[]);
    return {};
  });
}

function addLaunchRoutes(app: FastifyInstance, daemon: Daemon, loadLaunches: () => Promise<Launches>): void {
  const options = { bodyLimit: MAX_LAUNCH_BYTES };
  app.addContentTypeParser(BYTES, { parseAs: 'buffer', ...options }, (_request, body, done) =>
    done(null, body),
  );
  app.post('/v1/launch', options, async ({ body }, reply) => {
    const gone = goneSignal(reply.raw);
    return reply.type(BYTES).send(await (await loadLaunches()).launch(daemon, bytesOf(body), gone));
  });
  app.post('/v1/launch/:id/end', options, async (request, reply) => {
    const { endLaunch } = await loadLaunches();
    return reply.type(BYTES).send(await endLaunch(daemon, containerOf(request), bytesOf(request.body)));
  });
}

/** Lines while the work goes on, and its outcome as the last; a client that goes away ends the work. */
async function stream(
  request: FastifyRequest,
  reply: FastifyReply,
  work: (send: (line: Line) => void, signal: AbortSignal) => Promise<Line>,
): Promise<void> {
  reply.hijack();
  const { raw } = reply;
  raw.writeHead(200, { 'content-type': 'application/x-ndjson', [REQUEST_ID_HEADER]: request.id });
  const gone = goneSignal(raw);
  const send = (line: Line): void => {
    if (!raw.writableEnded) raw.write(`${JSON.stringify(line)}\n`);
  };
  try {
    send(await work(send, gone));
  } catch (error) {
    if (!gone.aborted) log.debug(`${request.method} ${request.url}: ${(error as Error).message}`);
    send({ error: errorBody(error) });
  }
  raw.end();
}

/** Aborted when the client leaves before it has its answer. */
function goneSignal(raw: ServerResponse): AbortSignal {
  const gone = new AbortController();
  raw.on('close', () => {
    if (!raw.writableFinished) gone.abort(new DaemonError('ENDING', 'the client has gone'));
  });
  return gone.signal;
}

/** To the daemon's own log and, as long as it waits, to the client. */
function loggerTo(send: (line: Line) => void): Logger {
  const both = (level: 'info' | 'warn' | 'error') => (message: string, fields?: LogFields) => {
    log[level](message, fields);
    send({ log: { level, message } });
  };
  return { debug: log.debug, info: both('info'), warn: both('warn'), error: both('error') };
}

function errorBody(error: unknown): ErrorBody {
  if (error instanceof OrcaError) {
    const { code, message, retryable } = error;
    return { code, message, ...(retryable && { retryable }) };
  }
  const { code, message, statusCode, syscall } = error as NodeJS.ErrnoException & { statusCode?: number };
  if (statusCode !== undefined && statusCode < 500) return { code: 'INVALID_REQUEST', message };
  if (syscall !== undefined) return { code: code ?? 'SYSTEM', message };
  log.error(`defect in the daemon: ${(error as Error).stack ?? message}`);
  return { code: 'UNEXPECTED', message };
}

function statusOf(error: unknown): number {
  return (error as { statusCode?: number }).statusCode ?? 500;
}

function idOf(request: FastifyRequest): string {
  const { id = '' } = request.params as { id?: string };
  if (!MOUNT_ID.test(id)) throw invalid('the id of a mount has 1 to 128 of A-Z a-z 0-9 _ . -');
  return id;
}

/** Its id names a directory. */
function containerOf(request: FastifyRequest): string {
  const { id = '' } = request.params as { id?: string };
  if (!/^[0-9a-f]{64}$/.test(id)) throw invalid('the id of a container has 64 hexadecimal digits');
  return id;
}

function bytesOf(body: unknown): Buffer {
  if (!Buffer.isBuffer(body)) throw invalid('bytes are expected');
  return body;
}

function mountRequest(body: unknown): MountRequest {
  const object = objectOf(body);
  const { mountpoint, container, preload, profiles, replayAfter, background } = object;
  if (!isPath(mountpoint)) throw invalid('mountpoint has to be an absolute path');
  if (container !== undefined && !isPath(container)) throw invalid('container has to be an absolute path');
  if (preload !== undefined && typeof preload !== 'boolean') throw invalid('preload has to be true or false');
  if (background !== undefined && !(typeof background === 'number' && background > 0))
    throw invalid('background has to be bytes per second');
  if (replayAfter !== undefined && !(typeof replayAfter === 'number' && replayAfter >= 0))
    throw invalid('replayAfter has to be milliseconds');
  if (profiles !== undefined && !PROFILE_USES.some((use) => use === profiles))
    throw invalid(`profiles has to be one of ${PROFILE_USES.join(', ')}`);
  return { ...imageOrder(object), mountpoint, ...(container !== undefined && { container }) };
}

function imageName(body: unknown): string {
  const { image } = objectOf(body);
  if (!isText(image)) throw invalid('image has to be a name');
  return image;
}

/** The objects in it are held to their meaning by openImage. */
function imageOrder(body: Record<string, unknown>): ImageOrder {
  const { image, store, credentials, environment, mountpoint: _, container: __, ...rest } = body;
  if (!isText(image)) throw invalid('image has to be a name');
  if (store !== undefined && !isText(store)) throw invalid('store has to be a text');
  if (credentials !== undefined && !isPath(credentials))
    throw invalid('credentials has to be an absolute path');
  return {
    ...(rest as Partial<ImageOrder>),
    image,
    ...(store !== undefined && { store }),
    ...(credentials !== undefined && { credentials }),
    ...(environment !== undefined && { environment: variables(environment) }),
  };
}

function variables(value: unknown): Record<string, string> {
  const entries = Object.entries(objectOf(value));
  if (!entries.every((entry): entry is [string, string] => typeof entry[1] === 'string')) {
    throw invalid('environment has to be texts by name');
  }
  return Object.fromEntries(entries);
}

function objectOf(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw invalid('a JSON object is expected');
  return value as Record<string, unknown>;
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && !/[\0\n]/.test(value);
}

function isPath(value: unknown): value is string {
  return isText(value) && value.startsWith('/');
}

function invalid(message: string): DaemonError {
  return new DaemonError('INVALID_REQUEST', message);
}
