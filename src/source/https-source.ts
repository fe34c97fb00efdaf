/**
 * The source of a store behind a web server: whole files by GET, pieces of layer VHDs by range requests (RFC 9110
 * §14) over several connections.
 */
import { layerPath } from '../image/catalog.js';
import {
  HttpClient,
  type HttpClientOptions,
  type HttpResponse,
  headerOf,
  isLoopback,
} from '../oci/http-client.js';
import { isRetryableStatus, shownUrl } from '../oci/registry-error.js';
import { withRetries } from '../oci/retry.js';
import { asSource } from './registry-failure.js';
import { type LayerHandle, type Source, SourceError } from './source.js';

export interface HttpsSourceOptions extends HttpClientOptions {
  /** Root of the store. Its user part is not used. */
  url: string;
  /** Allow http: to other hosts than this one. */
  insecure?: boolean;
  /**
   * Gives the value of the Authorization header, or undefined. Called for every request, so it keeps what it gives;
   * `refused` is one that the server did not accept, and asks for another.
   */
  authorization?: (refused?: string) => Promise<string | undefined>;
}

/**
 * Of HTTP/1.1: with 5 ms of latency 8 read more than 4, and 16 no more than 8. HTTP/2 takes more CPU time and is slower
 * (docs/DEPENDENCIES.md).
 */
const CONNECTIONS = 8;
/** For files of the catalog, before any other source can take over. */
const ATTEMPTS = 3;

export class HttpsSource implements Source {
  readonly kind = 'https';
  readonly location: string;
  readonly #base: URL;
  readonly #http: HttpClient;
  readonly #authorization: NonNullable<HttpsSourceOptions['authorization']>;
  #closed = false;

  /** Throws SourceError INVALID_URL. */
  constructor(options: HttpsSourceOptions) {
    this.#base = parseStoreUrl(options.url, options.insecure ?? false);
    this.location = shownUrl(this.#base).replace(/\/$/, '');
    this.#authorization = options.authorization ?? (async () => undefined);
    const env = isLoopback(this.#base.hostname) ? {} : (options.env ?? process.env);
    this.#http = new HttpClient({ connections: CONNECTIONS, ...options, env });
  }

  async readFile(path: string, maxBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
    return withRetries(ATTEMPTS, signal, async () => {
      const response = await this.#request(path, {}, signal);
      const where = `${this.location}/${path}`;
      const declared = Number(headerOf(response.headers, 'content-length') ?? 0);
      if (declared > maxBytes) {
        await response.body.discard();
        throw new SourceError(
          'TOO_LARGE',
          `${where} has ${declared} bytes; at most ${maxBytes} are accepted`,
        );
      }
      if (response.status !== 200) throw await this.#unexpected(response, where);
      return await asSource(response.body.read(maxBytes));
    });
  }

  async openLayer(diffID: string, signal?: AbortSignal): Promise<LayerHandle> {
    const path = layerPath(diffID);
    const version = await withRetries(ATTEMPTS, signal, () => this.#version(path, signal));
    return new HttpsLayer(version, this.#layerReader(path, version));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#http.close();
  }

  /** Length and entity tag of a file as it is now. Not by HEAD, after which undici gives the connection up. */
  async #version(path: string, signal: AbortSignal | undefined): Promise<FileVersion> {
    const response = await this.#request(path, { range: 'bytes=0-0' }, signal);
    await response.body.discard();
    const total = /^bytes 0-0\/(\d{1,15})$/.exec(headerOf(response.headers, 'content-range') ?? '')?.[1];
    if (response.status === 206 && total !== undefined) {
      return { size: Number(total), etag: strongTag(response) };
    }
    const where = `${this.location}/${path}`;
    if (response.status !== 200) throw await this.#unexpected(response, where);
    throw new SourceError('PROTOCOL', `${where}: the server does not send ranges`);
  }

  #layerReader(path: string, opened: FileVersion): ReadRange {
    const where = `${this.location}/${path}`;
    let version = opened;
    return async (offset, length, signal) => {
      for (let renewed = false; ; renewed = true) {
        const { etag } = version;
        const response = await this.#request(
          path,
          {
            range: `bytes=${offset}-${offset + length - 1}`,
            ...(etag === undefined ? {} : { 'if-range': etag }),
          },
          signal,
        );
        if (response.status === 206 && isTheRange(response, offset, length, opened.size)) {
          const bytes = await asSource(response.body.read(length));
          if (bytes.length === length) return bytes;
          const message = `${where} ends at byte ${offset + bytes.length}, before ${offset + length}`;
          throw new SourceError('SHORT_READ', message);
        }
        await response.body.discard();
        // A 200 says that the file is another than the one that was opened (RFC 9110 §13.1.5), as do other totals.
        if (response.status !== 200 && response.status !== 206 && response.status !== 416) {
          throw await this.#unexpected(response, where);
        }
        const now = await this.#version(path, signal);
        if (now.size !== opened.size) {
          throw new SourceError(
            'CORRUPT',
            `${where} has changed: it had ${opened.size} bytes, now ${now.size}`,
          );
        }
        if (renewed || now.etag === version.etag) {
          throw new SourceError(
            'PROTOCOL',
            `${where}: the server does not send the ranges that are asked for`,
          );
        }
        // Written anew with the same length: the block digests tell whether it is the same layer.
        version = now;
      }
    };
  }

  /** An answer of a status below 400 or 416. Throws SourceError. */
  async #request(
    path: string,
    headers: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined,
  ): Promise<HttpResponse> {
    if (this.#closed) throw new SourceError('CLOSED', `the source ${this.location} is closed`);
    const url = new URL(path, this.#base);
    const send = (authorization: string | undefined) =>
      asSource(this.#http.send({ url, headers, authorization, signal }));
    const authorization = await asSource(this.#authorization());
    let response = await send(authorization);
    // Some servers answer an expired token with 403.
    if (response.status === 401 || (response.status === 403 && authorization !== undefined)) {
      const next = await asSource(this.#authorization(authorization ?? ''));
      if (next !== undefined && next !== authorization) {
        await response.body.discard();
        response = await send(next);
      }
    }
    if (response.status < 400 || response.status === 416) return response;
    throw await this.#unexpected(response, `${this.location}/${path}`);
  }

  async #unexpected(response: HttpResponse, where: string): Promise<SourceError> {
    await response.body.discard();
    const { status } = response;
    if (status === 404 || status === 410) return new SourceError('NOT_FOUND', `${where} does not exist`);
    if (status === 401)
      return new SourceError('BAD_CREDENTIALS', `${where}: the server accepts no token of ours`);
    if (status === 403) return new SourceError('ACCESS_DENIED', `${where} may not be read with this token`);
    if (isRetryableStatus(status)) {
      const message = `${where} cannot be read now (status ${status})`;
      return new SourceError('UNREACHABLE', message, { retryable: true });
    }
    return new SourceError('PROTOCOL', `${where}: unexpected answer with status ${status}`);
  }
}

interface FileVersion {
  /** Bytes. */
  size: number;
  etag: string | undefined;
}

type ReadRange = (offset: number, length: number, signal: AbortSignal | undefined) => Promise<Uint8Array>;

class HttpsLayer implements LayerHandle {
  readonly size: number;
  readonly #read: ReadRange;

  constructor({ size }: FileVersion, read: ReadRange) {
    this.size = size;
    this.#read = read;
  }

  async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    return length === 0 ? new Uint8Array() : this.#read(offset, length, signal);
  }

  /** Nothing is kept open for it. */
  async close(): Promise<void> {}
}

/** Content-Range (RFC 9110 §14.4) as asked for, of a file that still has its length. */
function isTheRange(response: HttpResponse, offset: number, length: number, size: number): boolean {
  const range = headerOf(response.headers, 'content-range') ?? '';
  const [, first, last, total] = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15}|\*)$/.exec(range) ?? [];
  return (
    Number(first) === offset &&
    Number(last) === offset + length - 1 &&
    (total === '*' || Number(total) === size)
  );
}

/** If-Range takes no weak tags (RFC 9110 §13.1.5). */
function strongTag(response: HttpResponse): string | undefined {
  const etag = headerOf(response.headers, 'etag');
  return etag !== undefined && /^"[\x21\x23-\x7e]{0,200}"$/.test(etag) ? etag : undefined;
}

/** The URL of a store's root, without user and query. Throws SourceError INVALID_URL. */
export function parseStoreUrl(text: string, insecure: boolean): URL {
  const invalid = (why: string) =>
    new SourceError('INVALID_URL', `${why}: a store on a web server is https://HOST[:PORT]/[PATH]`);
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) throw invalid('no https URL');
  const url = new URL(text);
  url.username = '';
  url.password = '';
  url.search = '';
  url.hash = '';
  if (!url.pathname.endsWith('/')) url.pathname += '/';
  if (url.protocol === 'http:' && !insecure && !isLoopback(url.hostname)) {
    throw invalid(`${shownUrl(url)} has no TLS`);
  }
  return url;
}
