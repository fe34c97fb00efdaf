/**
 * One place that serves the distribution API: the registry itself or a mirror of it. Adds authorization to requests
 * and turns refusals into RegistryError.
 */
import { orAbort } from '../abort.js';
import { RegistryAuth } from './auth.js';
import type { CredentialFinder } from './credentials.js';
import type { ErrorCodeName } from './error-codes.js';
import { HttpClient, type HttpResponse, type HttpTimeouts, isLoopback } from './http-client.js';
import { RegistryError, responseError } from './registry-error.js';
import { isInsecure, type TrustOptions, trustFor } from './registry-trust.js';

/** An error body with the status of every layer of an image. */
const MAX_ERROR_BODY = 1 << 20;
/** Refusals that one request may answer: an old token, and a scope that was too narrow. */
const MAX_RENEWALS = 2;

export interface EndpointOptions extends HttpTimeouts, TrustOptions {
  /** `host[:port]`, by which users name it and log in. */
  domain: string;
  /** Host and port of the API, where they differ from `domain`; or a whole URL with scheme and path, of a mirror. */
  url?: string;
  /** The registry that this is a mirror of; told to it as containerd does (`ns=docker.io`). */
  mirrorOf?: string;
  credentials: CredentialFinder;
  env?: NodeJS.ProcessEnv;
  connections?: number;
}

export interface EndpointRequest {
  method?: 'GET' | 'HEAD' | 'POST' | 'PUT';
  /** Path of the API, such as `/v2/library/python/manifests/3`, with its query. */
  path: string;
  /** Repository path, for which the token has to be good. */
  repository: string;
  headers?: Readonly<Record<string, string>>;
  body?: Uint8Array;
  signal?: AbortSignal | undefined;
  /** Statuses that are answers and no errors; 200 by default. */
  accept?: readonly number[];
  /** Code of a 404 that gives none. */
  missing?: ErrorCodeName;
  /** For messages. */
  what: string;
}

interface Connection {
  /** Without a slash at its end. */
  base: URL;
  http: HttpClient;
  auth: RegistryAuth;
}

export class RegistryEndpoint {
  readonly domain: string;
  readonly #options: EndpointOptions;
  readonly #mayBePlain: boolean;
  readonly #closing = new AbortController();
  #connection: Promise<Connection> | undefined;

  /** Throws RegistryError INVALID_URL for the URL of a mirror that is none. */
  constructor(options: EndpointOptions) {
    this.domain = options.domain;
    this.#options = options;
    const { url = options.domain } = options;
    const text = url.includes('://') ? url : `https://${url}`;
    if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) {
      throw new RegistryError(
        'INVALID_URL',
        `${options.domain} is not a registry: write HOST[:PORT] or an http URL`,
      );
    }
    this.#mayBePlain = isInsecure(new URL(text).host, options) || isInsecure(options.domain, options);
  }

  /** A URL that an earlier answer came from, asked without authorization; for storage that a registry redirects to. */
  async fetch(
    url: URL,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined,
  ): Promise<HttpResponse> {
    const { http } = await orAbort(this.#connect(), signal);
    return http.send({ url, headers, signal });
  }

  /** Origin and path under which the API is reached, once that is known. */
  async baseUrl(): Promise<URL> {
    return (await this.#connect()).base;
  }

  async close(): Promise<void> {
    this.#closing.abort(new RegistryError('UNREACHABLE', `${this.domain}: the connection is closed`));
    const connection = await this.#connection?.catch(() => undefined);
    await connection?.http.close();
  }

  /** The answer, of a status in `accept`, by one attempt. Throws RegistryError, or the reason of the signal. */
  async request(request: EndpointRequest): Promise<HttpResponse> {
    const {
      accept = [200],
      method = 'GET',
      headers,
      body: sent,
      missing,
      repository,
      signal,
      what,
    } = request;
    const { http, auth, base } = await orAbort(this.#connect(), signal);
    const url = new URL(`${base.href.replace(/\/$/, '')}${request.path}`);
    if (this.#options.mirrorOf !== undefined) url.searchParams.set('ns', this.#options.mirrorOf);
    let authorization = await auth.header(repository, signal);
    for (let renewals = 0; ; renewals++) {
      const response = await http.send({
        method,
        url,
        authorization,
        signal,
        ...(headers === undefined ? {} : { headers }),
        ...(sent === undefined ? {} : { body: sent }),
      });
      if (accept.includes(response.status)) return response;
      const body = await response.body.readSome(MAX_ERROR_BODY);
      // Beyond a redirect it is the storage that refuses, and our token says nothing there.
      const oldToken = response.status === 403 && authorization !== undefined && renewals === 0;
      const ours = response.url.origin === url.origin;
      if (ours && (response.status === 401 || oldToken) && renewals < MAX_RENEWALS) {
        const next = await auth.renew(repository, response.headers, authorization, signal);
        if (next !== undefined) {
          authorization = next;
          continue;
        }
      }
      throw responseError(response, body, { what, host: this.domain, ...(missing && { missing }) });
    }
  }

  #connect(): Promise<Connection> {
    this.#connection ??= this.#open().catch((error) => {
      this.#connection = undefined;
      throw error;
    });
    return this.#connection;
  }

  async #open(): Promise<Connection> {
    const { url = this.domain, env = process.env } = this.#options;
    const { host, hostname } = new URL(url.includes('://') ? url : `https://${url}`);
    const http = new HttpClient({
      ...this.#options,
      tls: { ...(await trustFor(this.domain, this.#options)), unverified: this.#mayBePlain },
      // As with Go's programs, no proxy stands between a host and itself.
      env: isLoopback(hostname) ? {} : env,
    });
    try {
      const base = url.includes('://')
        ? new URL(url)
        : new URL(`${this.#mayBePlain ? await this.#findScheme(http, host) : 'https'}://${host}`);
      const auth = new RegistryAuth({
        http,
        url: base,
        insecure: this.#mayBePlain,
        name: this.domain,
        credentials: (repository) => this.#options.credentials(this.domain, repository),
      });
      return { base, http, auth };
    } catch (error) {
      await http.close();
      throw error;
    }
  }

  /** Docker's order: TLS with any certificate, then plain http. */
  async #findScheme(http: HttpClient, host: string): Promise<'https' | 'http'> {
    let failure: unknown;
    for (const scheme of ['https', 'http'] as const) {
      try {
        const { signal } = this.#closing;
        const response = await http.send({ url: new URL(`${scheme}://${host}/v2/`), signal });
        await response.body.discard();
        return scheme;
      } catch (error) {
        this.#closing.signal.throwIfAborted();
        failure = error;
      }
    }
    throw failure;
  }
}
