/**
 * HTTP as the registry client and the https source use it: one pool of connections per origin, bounded redirects
 * that never carry credentials to another origin, timeouts on everything, and errors as RegistryError.
 */
import { setMaxListeners } from 'node:events';
import { isIP } from 'node:net';
import { rootCertificates } from 'node:tls';
import type { Agent, Dispatcher } from 'undici';
import { REQUEST_ID_HEADER, requestId } from '../telemetry/request-id.js';
import { networkError, RegistryError, shownUrl } from './registry-error.js';
import { createAgent, createProxyAgent } from './undici.js';

export interface TlsTrust {
  /** PEM certificates that are trusted beside those that Node ships. */
  ca?: readonly string[];
  /** PEM certificate and key of the client. */
  cert?: string;
  key?: string;
  /** Accept any certificate, and plain http in redirects. */
  unverified?: boolean;
}

export interface HttpTimeouts {
  /** Milliseconds until a connection stands, TLS included. */
  connect?: number;
  /** Milliseconds until the headers of an answer are there. */
  response?: number;
  /** Milliseconds between two pieces of a body. */
  idle?: number;
}

export interface HttpClientOptions extends HttpTimeouts {
  tls?: TlsTrust;
  /** Connections per origin. */
  connections?: number;
  /** Use HTTP/2 where the server offers it. */
  http2?: boolean;
  /** For HTTPS_PROXY, HTTP_PROXY, NO_PROXY. */
  env?: NodeJS.ProcessEnv;
}

export interface HttpRequest {
  method?: 'GET' | 'HEAD' | 'POST' | 'PUT';
  url: URL;
  headers?: Readonly<Record<string, string>>;
  /** Value of the Authorization header; sent to the origin of `url` alone. */
  authorization?: string | undefined;
  body?: string | Uint8Array;
  signal?: AbortSignal | undefined;
}

export type HttpHeaders = Readonly<Record<string, string | string[] | undefined>>;

export interface HttpResponse {
  status: number;
  headers: HttpHeaders;
  /** Where it came from, after redirects. */
  url: URL;
  /** Must be read to its end or discarded, or the connection is not used again. Throws RegistryError. */
  body: HttpBody;
}

const CONNECT_TIMEOUT = 10_000;
const RESPONSE_TIMEOUT = 60_000;
const IDLE_TIMEOUT = 30_000;
const CONNECTIONS = 16;
/** Registries redirect once to their blob storage; a loop has to end. */
const MAX_REDIRECTS = 5;
/** Beyond this many bytes a body that nobody wants costs more than a new connection. */
const DISCARD_LIMIT = 128 << 10;
const USER_AGENT = 'orca';

/** The pools of connections, one per origin, that a client sends its requests through. */
export function createDispatcher(options: HttpClientOptions): Dispatcher {
  const { tls = {}, env = {} } = options;
  const connect = {
    timeout: options.connect ?? CONNECT_TIMEOUT,
    rejectUnauthorized: !tls.unverified,
    ...(tls.ca === undefined || tls.ca.length === 0 ? {} : { ca: [...rootCertificates, ...tls.ca] }),
    ...(tls.cert === undefined || tls.key === undefined ? {} : { cert: tls.cert, key: tls.key }),
  };
  const agent: Agent.Options = {
    connect,
    connections: options.connections ?? CONNECTIONS,
    allowH2: options.http2 ?? false,
    headersTimeout: options.response ?? RESPONSE_TIMEOUT,
    bodyTimeout: options.idle ?? IDLE_TIMEOUT,
  };
  const httpProxy = env['http_proxy'] || env['HTTP_PROXY'] || '';
  const httpsProxy = env['https_proxy'] || env['HTTPS_PROXY'] || '';
  const noProxy = env['no_proxy'] || env['NO_PROXY'] || '';
  return httpProxy === '' && httpsProxy === ''
    ? createAgent(agent)
    : createProxyAgent({ ...agent, requestTls: connect, httpProxy, httpsProxy, noProxy });
}

export class HttpClient {
  readonly #dispatcher: Dispatcher;
  readonly #unverified: boolean;

  constructor(options: HttpClientOptions = {}) {
    this.#unverified = options.tls?.unverified ?? false;
    this.#dispatcher = createDispatcher(options);
  }

  /** The answer, whatever its status, after redirects. Throws RegistryError, or the reason of the signal. */
  async send(request: HttpRequest): Promise<HttpResponse> {
    let { url, authorization } = request;
    for (let redirects = 0; ; redirects++) {
      const response = await this.#sendOnce(request, url, authorization);
      const location = response.headers['location'];
      const isRedirect = [301, 302, 303, 307, 308].includes(response.status) && typeof location === 'string';
      if (!isRedirect || request.method === 'POST') return response;
      await response.body.discard();
      if (redirects === MAX_REDIRECTS) {
        throw new RegistryError(
          'BAD_REDIRECT',
          `${shownUrl(request.url)}: more than ${MAX_REDIRECTS} redirects`,
        );
      }
      const next = this.#redirectTarget(url, location);
      // RFC 9110 §15.4 leaves it to the client; a token for the registry is none for its storage.
      if (next.origin !== url.origin) authorization = undefined;
      url = next;
    }
  }

  #redirectTarget(from: URL, location: string): URL {
    const refused = (why: string) =>
      new RegistryError('BAD_REDIRECT', `${shownUrl(from)} redirects to ${why}`);
    if (!URL.canParse(location, from.href)) throw refused('what is not a URL');
    const to = new URL(location, from.href);
    to.username = '';
    to.password = '';
    if (to.protocol !== 'https:' && to.protocol !== 'http:') throw refused(`the scheme ${to.protocol}`);
    if (from.protocol === 'https:' && to.protocol === 'http:' && !this.#unverified) {
      throw refused(`${to.host} without TLS`);
    }
    if (isInternalAddress(to.hostname) && !isInternalAddress(from.hostname)) {
      throw refused(`the internal address ${to.host}`);
    }
    return to;
  }

  async #sendOnce(request: HttpRequest, url: URL, authorization: string | undefined): Promise<HttpResponse> {
    const { method = 'GET', signal, body } = request;
    signal?.throwIfAborted();
    // One command has many requests under way, and one signal for all of them.
    if (signal !== undefined) setMaxListeners(0, signal);
    const id = requestId();
    try {
      const answer = await this.#dispatcher.request({
        origin: url.origin,
        path: `${url.pathname}${url.search}`,
        method,
        headers: {
          'user-agent': USER_AGENT,
          ...(id === undefined ? {} : { [REQUEST_ID_HEADER]: id }),
          ...request.headers,
          ...(authorization === undefined ? {} : { authorization }),
        },
        ...(body === undefined ? {} : { body }),
        ...(signal === undefined ? {} : { signal }),
      });
      return {
        status: answer.statusCode,
        headers: answer.headers,
        url,
        body: new HttpBody(answer.body, url, signal),
      };
    } catch (error) {
      signal?.throwIfAborted();
      throw networkError(error, url);
    }
  }

  /** Ends what is under way. */
  async close(): Promise<void> {
    await this.#dispatcher.destroy();
  }
}

/** The body of an answer, to be read once. */
export class HttpBody {
  readonly #body: Dispatcher.ResponseData['body'];
  readonly #url: URL;
  readonly #signal: AbortSignal | undefined;

  constructor(body: Dispatcher.ResponseData['body'], url: URL, signal: AbortSignal | undefined) {
    this.#body = body;
    this.#url = url;
    this.#signal = signal;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    const chunks: AsyncIterator<Uint8Array> = this.#body[Symbol.asyncIterator]();
    try {
      for (;;) {
        let next: IteratorResult<Uint8Array>;
        try {
          next = await chunks.next();
        } catch (error) {
          this.#signal?.throwIfAborted();
          throw networkError(error, this.#url);
        }
        if (next.done) return;
        yield next.value;
      }
    } finally {
      this.#body.destroy();
    }
  }

  /** All of it, at most `maxBytes`. Throws RegistryError TOO_LARGE beyond. */
  async read(maxBytes: number): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    let length = 0;
    for await (const chunk of this) {
      length += chunk.length;
      if (length > maxBytes) {
        throw new RegistryError(
          'TOO_LARGE',
          `${shownUrl(this.#url)}: more than the ${maxBytes} bytes allowed`,
        );
      }
      chunks.push(chunk);
    }
    return Buffer.concat(chunks, length);
  }

  /** At most the first `maxBytes`, and never an error: for the text of errors. */
  async readSome(maxBytes: number): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    let length = 0;
    try {
      for await (const chunk of this) {
        length += chunk.length;
        chunks.push(chunk);
        if (length >= maxBytes) break;
      }
    } catch {
      // What has arrived has to do.
    }
    return Buffer.concat(chunks, length).subarray(0, maxBytes);
  }

  /** Gives the connection back. */
  async discard(): Promise<void> {
    await this.#body.dump({ limit: DISCARD_LIMIT }).catch(() => undefined);
  }
}

/** The first value of a header. */
export function headerOf(headers: HttpHeaders, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
}

/** True of 127.0.0.0/8, ::1 and names that end in localhost. */
export function isLoopback(hostname: string): boolean {
  const name = bareName(hostname);
  if (isIP(name) === 4) return name.startsWith('127.');
  return name === '::1' || name === 'localhost' || name.endsWith('.localhost');
}

/**
 * True of the addresses at which a host finds its own services and its cloud's metadata (RFC 3927, RFC 4291 §2.5.6):
 * where no registry elsewhere has any business to send us. Names are not looked up.
 */
export function isInternalAddress(hostname: string): boolean {
  const name = bareName(hostname);
  if (isLoopback(name)) return true;
  if (isIP(name) === 4) return name.startsWith('169.254.') || name.startsWith('0.');
  // URL has made the mapped form hexadecimal: ::ffff:a9fe:a9fe is 169.254.169.254.
  return isIP(name) === 6 && /^(?:fe[89ab]|::$|::ffff:(?:7f|a9fe:)|fd00:ec2:)/.test(name);
}

/** Without the brackets of an IPv6 address and the dot of an absolute name. */
function bareName(hostname: string): string {
  return hostname.replace(/^\[|\]$|\.$/g, '').toLowerCase();
}
