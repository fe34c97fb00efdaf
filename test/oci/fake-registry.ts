/**
 * A registry in memory, for what a real one does not do on demand: faults, odd answers, every kind of challenge.
 * Tests of the ordinary case run against the project's own registry and Debian's docker-registry.
 */
import { readFile } from 'node:fs/promises';
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { join, resolve } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { digestOf } from '../../src/oci/digest.js';
import { type Descriptor, encodeManifest, MEDIA_TYPE } from '../../src/oci/manifest.js';

/** Of the sources, since the compiler copies no such files. */
export const CERTIFICATES = resolve(import.meta.dirname, '..', '..', '..', 'test', 'oci', 'certificates');

export interface FakeRequest {
  method: string;
  /** Path and query. */
  url: string;
  authorization: string | undefined;
  range: string | undefined;
  host: string;
}

/** True when it has answered; otherwise the registry does. */
export type Fault = (request: IncomingMessage, response: ServerResponse) => boolean | Promise<boolean>;

export class FakeRegistry {
  readonly blobs = new Map<string, Buffer>();
  /** By tag and by digest. */
  readonly manifests = new Map<string, { mediaType: string; bytes: Buffer }>();
  readonly requests: FakeRequest[] = [];
  /** Asked first. */
  fault: Fault | undefined;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #tls: boolean;

  private constructor(server: Server, tls: boolean) {
    this.#server = server;
    this.#tls = tls;
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  static async start(options: { tls?: boolean } = {}): Promise<FakeRegistry> {
    const listener: RequestListener = (request, response) => void registry.#serve(request, response);
    const server = options.tls
      ? createTlsServer(
          {
            cert: await readFile(join(CERTIFICATES, 'server.crt')),
            key: await readFile(join(CERTIFICATES, 'server.key')),
          },
          listener,
        )
      : createServer(listener);
    const registry = new FakeRegistry(server, options.tls ?? false);
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    return registry;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** `127.0.0.1:PORT`. */
  get host(): string {
    return `127.0.0.1:${this.port}`;
  }

  get url(): string {
    return `${this.#tls ? 'https' : 'http'}://${this.host}`;
  }

  /** The repository `app` of this registry. */
  get app(): { domain: string; path: string } {
    return { domain: this.host, path: 'app' };
  }

  /** Requests whose path contains `part`. */
  seen(part: string): FakeRequest[] {
    return this.requests.filter(({ url }) => url.includes(part));
  }

  addBlob(mediaType: string, content: Uint8Array): Descriptor {
    const digest = digestOf(content);
    this.blobs.set(digest, Buffer.from(content));
    return { mediaType, digest, size: content.length };
  }

  addManifest(mediaType: string, bytes: Uint8Array, tag?: string): Descriptor {
    const digest = digestOf(bytes);
    for (const name of tag === undefined ? [digest] : [digest, tag]) {
      this.manifests.set(name, { mediaType, bytes: Buffer.from(bytes) });
    }
    return { mediaType, digest, size: bytes.length };
  }

  /** An image of these layer blobs. */
  addImage(tag: string | undefined, layers: readonly Uint8Array[], architecture = 'amd64'): Descriptor {
    const diffIDs = layers.map((layer) => digestOf(layer[0] === 0x1f ? gunzipSync(layer) : layer));
    const config = { os: 'linux', architecture, rootfs: { type: 'layers', diff_ids: diffIDs } };
    const bytes = encodeManifest({
      mediaType: MEDIA_TYPE.manifest,
      config: this.addBlob(MEDIA_TYPE.config, Buffer.from(JSON.stringify(config))),
      layers: layers.map((layer) => this.addBlob(MEDIA_TYPE.layerTar, layer)),
    });
    return this.addManifest(MEDIA_TYPE.manifest, bytes, tag);
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((done) => this.#server.close(done));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '', headers } = request;
    const { authorization, range, host = '' } = headers;
    this.requests.push({ method, url, authorization, range, host });
    response.on('error', () => undefined);
    try {
      if (await this.fault?.(request, response)) return;
    } catch {
      response.destroy();
      return;
    }
    const { pathname } = new URL(url, this.url);
    const [, kind, name = ''] = /\/(manifests|blobs)\/([^/]+)$/.exec(pathname) ?? [];
    if (pathname === '/v2/') {
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
    } else if (kind === 'manifests' && this.manifests.has(name)) {
      const { mediaType, bytes } = this.manifests.get(name)!;
      response
        .writeHead(200, {
          'content-type': mediaType,
          'content-length': bytes.length,
          'docker-content-digest': digestOf(bytes),
        })
        .end(method === 'HEAD' ? undefined : bytes);
    } else if (kind === 'blobs' && this.blobs.has(name)) {
      sendBytes(response, this.blobs.get(name)!, range);
    } else {
      sendError(response, 404, kind === 'blobs' ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN', 'not here');
    }
  }
}

/** The whole, or the range that is asked for. */
export function sendBytes(response: ServerResponse, bytes: Buffer, range: string | undefined): void {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? [];
  if (first === undefined) {
    response.writeHead(200, { 'content-length': bytes.length, etag: '"1"' }).end(bytes);
    return;
  }
  const end = Math.min(bytes.length, last ? Number(last) + 1 : bytes.length);
  const part = bytes.subarray(Number(first), end);
  response
    .writeHead(206, {
      'content-length': part.length,
      'content-range': `bytes ${first}-${end - 1}/${bytes.length}`,
      etag: '"1"',
    })
    .end(part);
}

export function sendError(
  response: ServerResponse,
  status: number,
  code: string,
  message: string,
  headers: Record<string, string> = {},
  detail?: unknown,
): void {
  response
    .writeHead(status, { 'content-type': 'application/json', ...headers })
    .end(JSON.stringify({ errors: [{ code, message, detail }] }));
}

export interface TokenOptions {
  /** `NAME:PASSWORD` that the token service wants; nobody's when it is missing. */
  user?: string;
  /** Seconds. */
  lifetime?: number;
  /** Realm of the challenge. */
  realm?: string;
  /** Status with which a token that is no longer valid is refused. */
  refusal?: 401 | 403;
}

/** Bearer authorization (distribution, docs/spec/auth/token.md) at `/token`, as a fault that lets good requests pass. */
export class TokenService {
  /** Tokens that are valid. */
  readonly valid = new Set<string>();
  issued = 0;
  /** Query or form of each request for a token. */
  readonly asked: URLSearchParams[] = [];

  constructor(
    readonly registry: FakeRegistry,
    readonly options: TokenOptions = {},
  ) {
    registry.fault = (request, response) => this.#serve(request, response);
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<boolean> {
    const { user, lifetime = 300, realm = `${this.registry.url}/token`, refusal = 401 } = this.options;
    const url = new URL(request.url ?? '', this.registry.url);
    const { authorization = '' } = request.headers;
    if (url.pathname === '/token') {
      const form = request.method === 'POST' ? new URLSearchParams(await bodyOf(request)) : url.searchParams;
      this.asked.push(form);
      const basic = user === undefined ? authorization : `Basic ${Buffer.from(user).toString('base64')}`;
      if (form.get('refresh_token') !== 'identity' && authorization !== basic) {
        sendError(response, 401, 'UNAUTHORIZED', `no such user ${authorization}`);
        return true;
      }
      const token = `token-${++this.issued}`;
      this.valid.add(token);
      response.end(JSON.stringify({ token, expires_in: lifetime }));
      return true;
    }
    if (this.valid.has(authorization.replace(/^Bearer /, ''))) return false;
    const challenge = `Bearer realm="${realm}",service="fake",scope="repository:app:pull"`;
    const status = authorization === '' ? 401 : refusal;
    sendError(response, status, status === 401 ? 'UNAUTHORIZED' : 'DENIED', 'token needed', {
      ...(status === 401 ? { 'www-authenticate': challenge } : {}),
    });
    return true;
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text;
}

/** A proxy (CONNECT, RFC 9110 §9.3.6) that takes every name for one server, so that names can be used in tests. */
export async function startProxy(
  port: number,
): Promise<{ url: string; names: string[]; stop(): Promise<void> }> {
  const names: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer().on('connect', (request, socket: Socket) => {
    names.push(request.url ?? '');
    const target = connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection Established\r\n\r\n');
      target.pipe(socket).pipe(target);
    });
    for (const one of [socket, target]) {
      sockets.add(one);
      one.on('error', () => undefined).on('close', () => sockets.delete(one));
    }
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    names,
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((done) => server.close(done));
    },
  };
}
