/**
 * The registry that the gateway stands before: requests to it as they are, without redirects, retries or credentials
 * of ours; and, apart from that, its repositories as the gateway itself reads them, with credentials of its own.
 */
import { readFile } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import type { Dispatcher } from 'undici';
import { type CredentialFinder, RegistryCredentials } from '../../oci/credentials.js';
import { dockerCredentials } from '../../oci/docker-config.js';
import { createDispatcher, type HttpHeaders, type HttpTimeouts, isLoopback } from '../../oci/http-client.js';
import { RegistryEndpoint } from '../../oci/registry-endpoint.js';
import { networkError } from '../../oci/registry-error.js';
import { type TrustOptions, trustFor } from '../../oci/registry-trust.js';
import { Repository } from '../../oci/repository.js';
import { log } from '../../telemetry/logger.js';
import { ApiError } from '../api-error.js';
import { RegistryError } from '../registry-error.js';

export interface UpstreamOptions {
  /** `https://HOST[:PORT]`, or `http:`. */
  url: string;
  /** PEM file of CAs that are trusted beside the public ones. */
  caFile?: string;
  /** Any certificate will do. */
  insecure?: boolean;
  /** A file with `NAME:PASSWORD`, read at every need. Without it: Docker's configuration. */
  credentials?: string;
  timeouts?: HttpTimeouts;
}

export interface UpstreamRequest {
  method: string;
  /** With its query. */
  path: string;
  headers?: Readonly<Record<string, string | string[]>>;
  body?: AsyncIterable<Uint8Array> | Uint8Array | undefined;
  signal?: AbortSignal | undefined;
}

export interface UpstreamResponse {
  status: number;
  headers: HttpHeaders;
  /** Must be read to its end, or destroyed. */
  body: Readable & { dump(options?: { limit: number }): Promise<void> };
}

/** A registry that puts a large blob together before it answers takes its time. */
const RESPONSE_MS = 300_000;
const IDLE_MS = 60_000;
/** As many as the gateway has clients: one that is slow must not hold up the others. */
const CONNECTIONS = 4096;
const MAX_CREDENTIALS_BYTES = 64 << 10;

export class Upstream {
  private constructor(
    readonly url: URL,
    private readonly dispatcher: Dispatcher,
    /** The same place, as the gateway itself asks it. */
    private readonly endpoint: RegistryEndpoint,
  ) {}

  /** Nothing is contacted yet. Throws RegistryError INVALID_OPTION, or that of a CA file that cannot be used. */
  static async open(options: UpstreamOptions): Promise<Upstream> {
    const url = URL.canParse(options.url) ? new URL(options.url) : undefined;
    const plain = url !== undefined && url.pathname === '/' && url.search + url.hash + url.username === '';
    if (!plain || !/^https?:$/.test(url.protocol)) {
      throw new RegistryError('INVALID_OPTION', `upstream ${options.url}: write https://HOST[:PORT]`);
    }
    const { credentials } = options;
    const find = credentials === undefined ? dockerCredentials() : fileCredentials(credentials);
    if (credentials !== undefined) await find(url.host, '');
    const trust = trustOptions(url, options);
    const tls = { ...(await trustFor(url.host, trust)), unverified: options.insecure ?? false };
    const dispatcher = createDispatcher({
      response: RESPONSE_MS,
      idle: IDLE_MS,
      ...options.timeouts,
      tls,
      connections: CONNECTIONS,
      // As with Go's programs, no proxy stands between a host and itself.
      env: isLoopback(url.hostname) ? {} : process.env,
    });
    const endpoint = new RegistryEndpoint({
      domain: url.host,
      url: url.origin,
      credentials: find,
      ...trust,
    });
    return new Upstream(url, dispatcher, endpoint);
  }

  /**
   * The answer, whatever its status; redirects are answers. Throws ApiError with status 502 or 504 when there is
   * none, 400 for what HTTP cannot say, and the reason of the signal.
   */
  async send({ method, path, headers, body, signal }: UpstreamRequest): Promise<UpstreamResponse> {
    try {
      const answer = await this.dispatcher.request({
        origin: this.url.origin,
        path,
        method: method as Dispatcher.HttpMethod,
        ...(headers === undefined ? {} : { headers: { ...headers } }),
        // Iterables are bodies, too, which its types do not say.
        ...(body === undefined ? {} : { body: body as Uint8Array }),
        ...(signal === undefined ? {} : { signal }),
      });
      return { status: answer.statusCode, headers: answer.headers, body: answer.body };
    } catch (error) {
      signal?.throwIfAborted();
      throw this.failure(error);
    }
  }

  /** What the client is told; the log has the whole of it. */
  failure(error: unknown): ApiError {
    if (error instanceof ApiError) return error;
    if ((error as { code?: unknown }).code === 'UND_ERR_INVALID_ARG') {
      return new ApiError('UNSUPPORTED', { status: 400, message: 'the request is malformed' });
    }
    const { code, message } = networkError(error, this.url);
    log.warn('the upstream registry fails', { code, message });
    return code === 'TIMEOUT'
      ? new ApiError('UNAVAILABLE', { status: 504, message: 'the upstream registry does not answer in time' })
      : new ApiError('UNAVAILABLE', { status: 502, message: `the upstream registry fails: ${code}` });
  }

  /** A repository, read with the gateway's own credentials and verified. */
  repository(path: string): Repository {
    return new Repository({
      domain: this.url.host,
      path,
      upstream: this.endpoint,
      mirrors: [],
      logger: log,
    });
  }

  /** True of a URL on the upstream's host, whichever of http and https it says: a proxy may end TLS before it. */
  isHostOf({ hostname, port }: URL): boolean {
    return hostname === this.url.hostname && port === this.url.port;
  }

  async close(): Promise<void> {
    await this.dispatcher.destroy();
    await this.endpoint.close();
  }
}

function trustOptions({ host }: URL, { caFile, insecure }: UpstreamOptions): TrustOptions {
  return {
    ...(caFile === undefined ? {} : { caFile }),
    ...(insecure ? { insecure: [host] } : {}),
  };
}

/** Throws RegistryError INVALID_OPTION, which does not quote the file. */
function fileCredentials(path: string): CredentialFinder {
  return async () => {
    const text = await readFile(path, 'utf8').catch((cause: Error) => {
      throw new RegistryError('INVALID_OPTION', `upstream credentials: ${cause.message}`, { cause });
    });
    const line = text.trim();
    const colon = line.indexOf(':');
    if (colon < 1 || line.length > MAX_CREDENTIALS_BYTES || /[\r\n]/.test(line)) {
      throw new RegistryError(
        'INVALID_OPTION',
        `upstream credentials ${path}: write one line, NAME:PASSWORD`,
      );
    }
    return new RegistryCredentials({ username: line.slice(0, colon), password: line.slice(colon + 1) });
  };
}

/** At most `limit` bytes of a body. Throws ApiError with status 502 beyond. */
export async function readAnswer(body: Readable, limit: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length > limit) {
      body.destroy();
      throw new ApiError('UNAVAILABLE', {
        status: 502,
        message: `the upstream's answer has more than ${limit} bytes`,
      });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, length);
}
