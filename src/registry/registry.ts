/** The registry as a whole: storage, access and the HTTP server with its limits. */
import { readFile } from 'node:fs/promises';
import type { AddressInfo } from 'node:net';
import type { Server as TlsServer } from 'node:tls';
import { type FastifyInstance, type FastifyServerOptions, fastify } from 'fastify';
import { httpUrl } from '../http-url.js';
import { log } from '../telemetry/logger.js';
import { addRequestIds } from '../telemetry/request-id-hooks.js';
import { Access, type AccessOptions } from './access.js';
import { ApiError } from './api-error.js';
import type { ManifestHook, RegistryContext, RouteGroup } from './context.js';
import { pathOf, sendError } from './error-response.js';
import { type ExpansionOptions, ExpansionService } from './expansion/service.js';
import { StorageOrigin } from './expansion/storage-origin.js';
import { Gateway } from './gateway/gateway.js';
import { gatewayApi } from './gateway/gateway-api.js';
import { Upstream, type UpstreamOptions } from './gateway/upstream.js';
import { UpstreamOrigin } from './gateway/upstream-origin.js';
import { RegistryError } from './registry-error.js';
import { RegistryMetrics } from './registry-metrics.js';
import { isRepositoryUrl, redirectedUrl, routedUrl } from './repository-url.js';
import { acrRoutes } from './routes/acr.js';
import { baseRoutes } from './routes/base.js';
import { blobRoutes } from './routes/blobs.js';
import { catalogRoutes } from './routes/catalog.js';
import { expansionRoutes } from './routes/expansion.js';
import { manifestRoutes } from './routes/manifests.js';
import { tokenRoutes } from './routes/oauth2.js';
import { referrerRoutes } from './routes/referrers.js';
import { tagRoutes } from './routes/tags.js';
import { uploadRoutes } from './routes/uploads.js';
import type { ShareOptions } from './share-option.js';
import { RegistryStorage } from './storage.js';
import { createTeleport } from './teleport-routes.js';
import { Tokens } from './tokens.js';
import { UploadSlots } from './upload-slots.js';
import { UsersFile } from './users-file.js';

export interface RegistryOptions {
  /** The data directory; made when it is missing. */
  data: string;
  /** Default 127.0.0.1. */
  host?: string;
  /** Default 0: a free one. */
  port?: number;
  /** Paths of PEM files. */
  tls?: { cert: string; key: string };
  /** Path of a users file; without one, everybody may do everything. */
  users?: string;
  /** How tokens call this registry. */
  service?: string;
  /** How clients reach this registry through a proxy, such as `https://registry.example`. */
  publicUrl?: string;
  /** Uploads that are received at the same time. */
  maxUploads?: number;
  /** Milliseconds after which a client that neither sends nor takes anything is given up. Default one minute. */
  stallTimeout?: number;
  /** Where this registry is, for the mount API. */
  region?: string;
  /** Whether a client that does not say where it is counts as being elsewhere. */
  requireRegion?: boolean;
  /** Where the shares of the repositories are served by SMB; without it they are not. */
  share?: ShareOptions;
  /** Without it, nothing is expanded. */
  expansion?: ExpansionOptions;
  /** Whether repositories are expanded that have not set `teleportEnabled`. Default true. */
  teleportDefault?: boolean;
  /** Called after what is to be expanded has been enqueued. */
  onManifest?: ManifestHook;
  /** The registry that this one is a gateway to; the users file is then for what the gateway adds. */
  upstream?: UpstreamOptions;
  /** Path of the file with the secret of those who send notifications to a gateway. */
  notificationsToken?: string;
  /** More endpoints, added after those of the distribution API. */
  routes?: readonly RouteGroup[];
}

export interface Registry {
  readonly server: FastifyInstance;
  readonly context: RegistryContext;
  /** What Prometheus gets. */
  metrics(): string;
  /** Resolves with the URL once connections are accepted. Throws RegistryError LISTEN. */
  listen(): Promise<string>;
  /** Takes no more requests, lets those under way end (for at most `grace` milliseconds), and frees the directory. */
  close(grace?: number): Promise<void>;
  /** Reads the TLS files again; connections that there are keep the old certificate. */
  reloadCertificate(): Promise<void>;
}

const DISTRIBUTION: readonly RouteGroup[] = [
  baseRoutes,
  uploadRoutes,
  blobRoutes,
  manifestRoutes,
  tagRoutes,
  referrerRoutes,
  catalogRoutes,
  tokenRoutes,
];

/** A bearer token with many scopes, and a mount of the longest names, fit; nothing else is long. */
const MAX_HEADER_BYTES = 32 * 1024;
/** For the headers of a request. Bodies and responses have rules of their own (request-body.ts, blobs.ts). */
const HEADERS_MS = 30_000;
/** A client between two requests; longer than the idle time of the usual proxies. */
const KEEP_ALIVE_MS = 75_000;
const MAX_CONNECTIONS = 4096;
const DEFAULT_MAX_UPLOADS = 256;
const DEFAULT_SERVICE = 'orca-registry';
const DEFAULT_GRACE_MS = 10_000;
const IDLE_CHECK_MS = 50;
const DEFAULT_STALL_MS = 60_000;
const DIGEST_HEADER = 'Docker-Content-Digest';
/** Of one path component: a repository name, percent-encoded. */
const MAX_PARAM_LENGTH = 1024;

export async function createRegistry(options: RegistryOptions): Promise<Registry> {
  const storage = await RegistryStorage.open(options.data, {
    teleportEnabled: options.teleportDefault ?? true,
  });
  let upstream: Upstream | undefined;
  let expansion: ExpansionService | undefined;
  try {
    const service = options.service ?? DEFAULT_SERVICE;
    upstream = options.upstream && (await Upstream.open(options.upstream));
    const origin = upstream ? new UpstreamOrigin(upstream, storage) : new StorageOrigin(storage);
    if (options.expansion !== undefined)
      expansion = await ExpansionService.open(storage.data, origin, options.expansion);
    const access: AccessOptions = {
      users: options.users === undefined ? undefined : await UsersFile.open(options.users),
      tokens: await Tokens.open(storage.data, service),
      service,
      publicUrl: options.publicUrl === undefined ? undefined : originOf(options.publicUrl),
      secure: options.tls !== undefined,
    };
    const teleport =
      expansion &&
      createTeleport({
        storage,
        data: options.data,
        key: access.tokens.key,
        expansion,
        origin,
        share: options.share,
        requireRegion: options.requireRegion ?? false,
      });
    const shared = {
      storage,
      slots: new UploadSlots(options.maxUploads ?? DEFAULT_MAX_UPLOADS),
      stallTimeout: options.stallTimeout ?? DEFAULT_STALL_MS,
      region: options.region,
      expansion,
      closeShare: teleport?.closeShare,
      onManifest: async (repository: string, digest: string, tags: readonly string[] = []) => {
        if (expansion !== undefined && (await storage.repository(repository).attributes()).teleportEnabled)
          await expansion.enqueue(repository, digest, tags);
        await options.onManifest?.(repository, digest, tags);
      },
    };
    const gateway = upstream && new Gateway({ ...shared, upstream, access });
    const context: RegistryContext = { ...shared, access: gateway?.access ?? new Access(access) };
    const api = gateway ? await gatewayApi(gateway, context, options.notificationsToken) : DISTRIBUTION;
    const metrics = new RegistryMetrics();
    const server = await createServer(options, context, metrics, [
      ...api,
      acrRoutes,
      expansionRoutes,
      ...(teleport?.routes ?? []),
    ]);
    return {
      server,
      context,
      metrics: () => metrics.text(expansion),
      listen: () => listen(server, options),
      reloadCertificate: async () => {
        if (options.tls === undefined) return;
        (server.server as unknown as TlsServer).setSecureContext(await readTls(options.tls));
      },
      close: async (grace = DEFAULT_GRACE_MS) => {
        const timer = setTimeout(() => server.server.closeAllConnections(), grace);
        // Connections whose last request ends now would be kept for the next one.
        const idle = setInterval(() => server.server.closeIdleConnections(), IDLE_CHECK_MS);
        await server.close();
        clearInterval(idle);
        clearTimeout(timer);
        await expansion?.close();
        await upstream?.close();
        storage.close();
      },
    };
  } catch (error) {
    await expansion?.close();
    await upstream?.close();
    storage.close();
    throw error;
  }
}

async function createServer(
  options: RegistryOptions,
  context: RegistryContext,
  metrics: RegistryMetrics,
  api: readonly RouteGroup[],
): Promise<FastifyInstance> {
  const common: FastifyServerOptions = {
    rewriteUrl: (request) => routedUrl(request.url ?? '/'),
    requestTimeout: 0,
    keepAliveTimeout: KEEP_ALIVE_MS,
    forceCloseConnections: 'idle',
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: MAX_PARAM_LENGTH },
    frameworkErrors: (error, request, reply) => {
      sendError(new ApiError('NAME_INVALID', { message: error.message }), request, reply);
    },
  };
  const limits = { maxHeaderSize: MAX_HEADER_BYTES, headersTimeout: HEADERS_MS };
  // The type of an HTTPS server is another, which the routes do not care for.
  const transport =
    options.tls === undefined ? { http: limits } : { https: { ...limits, ...(await readTls(options.tls)) } };
  const server = fastify({ ...common, ...transport } as FastifyServerOptions);
  server.server.maxConnections = MAX_CONNECTIONS;
  // Bodies are streams of bytes, whatever type they say they have.
  server.removeAllContentTypeParsers();
  server.addContentTypeParser('*', (_request, payload, done) => done(null, payload));
  server.addHook('onRequest', (request, reply, done) => {
    metrics.watch(request, reply);
    done();
  });
  addRequestIds(server);
  server.addHook('onRequest', async (request, reply) => {
    reply.header('docker-distribution-api-version', 'registry/2.0');
    const elsewhere = request.method === 'HEAD' ? redirectedUrl(request.originalUrl) : undefined;
    return elsewhere === undefined ? undefined : reply.redirect(elsewhere, 308);
  });
  server.addHook('onSend', async (_request, reply) => {
    // Fastify writes header names in small letters, and the scripts of Project Teleport look for this one with grep.
    const digest = reply.getHeader(DIGEST_HEADER);
    if (digest === undefined) return;
    reply.removeHeader(DIGEST_HEADER);
    reply.raw.setHeader(DIGEST_HEADER, digest);
  });
  server.addHook('onResponse', async (request, reply) => {
    const { method } = request;
    log.debug('request', {
      request: request.id,
      method,
      path: pathOf(request),
      status: reply.statusCode,
      ms: Math.round(reply.elapsedTime),
    });
  });
  server.setErrorHandler(sendError);
  server.setNotFoundHandler((request, reply) => {
    const status = isRepositoryUrl(request.originalUrl) ? 405 : 404;
    const message = status === 405 ? `${request.method} is not supported here` : 'there is no such resource';
    return sendError(new ApiError('UNSUPPORTED', { status, message }), request, reply);
  });
  for (const group of [...api, ...(options.routes ?? [])]) group(server, context);
  return server;
}

function originOf(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  const plain = url !== undefined && url.pathname === '/' && url.search + url.hash + url.username === '';
  if (plain && /^https?:$/.test(url.protocol)) return url.origin;
  throw new RegistryError('INVALID_OPTION', `public URL ${text}: write https://HOST[:PORT]`);
}

async function readTls({ cert, key }: { cert: string; key: string }) {
  const read = (path: string) =>
    readFile(path).catch((cause: Error) => {
      throw new RegistryError('INVALID_OPTION', `${path}: ${cause.message}`, { cause });
    });
  return { cert: await read(cert), key: await read(key), minVersion: 'TLSv1.2' as const };
}

async function listen(server: FastifyInstance, options: RegistryOptions): Promise<string> {
  const host = options.host ?? '127.0.0.1';
  try {
    await server.listen({ host, port: options.port ?? 0 });
  } catch (cause) {
    throw new RegistryError('LISTEN', `${host}:${options.port ?? 0}: ${(cause as Error).message}`, { cause });
  }
  return httpUrl(server.server.address() as AddressInfo, options.tls === undefined ? 'http' : 'https');
}
