import { oneLine } from '../telemetry/logger.js';
import { type ErrorCodeName, type ErrorItem, isErrorCode } from './error-codes.js';
import type { HttpHeaders } from './http-client.js';
import { OciError } from './oci-error.js';

export interface RegistryErrorOptions {
  cause?: unknown;
  retryable?: boolean;
  /** HTTP status, when there was an answer. */
  status?: number;
  /** Milliseconds that the server asks to wait (Retry-After). */
  retryAfter?: number;
  /** The code that the registry's error body gives, known to us or not. */
  declared?: string;
}

/**
 * What goes wrong between client and registry.
 *
 * Codes: those of error-codes.ts as the registry gives them; and of the client UNREACHABLE, TIMEOUT,
 * CONNECTION_LOST (retryable), CERTIFICATE, PROTOCOL, BAD_REDIRECT, HOSTILE_REALM, BAD_CREDENTIALS,
 * INVALID_CONFIG, HELPER_FAILED, TOO_LARGE, INVALID_URL. Messages name URLs without query and user, which may be
 * secrets.
 */
export class RegistryError extends OciError {
  readonly status: number | undefined;
  readonly retryAfter: number | undefined;
  readonly declared: string | undefined;

  constructor(code: string, message: string, options: RegistryErrorOptions = {}) {
    super(code, message, options);
    this.status = options.status;
    this.retryAfter = options.retryAfter;
    this.declared = options.declared;
  }
}

/** An URL as messages show it: signatures and tokens stand in queries and user parts. */
export function shownUrl(url: URL): string {
  return `${url.origin}${url.pathname}`;
}

const UNREACHABLE = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EAI_FAIL',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'EADDRNOTAVAIL',
]);
const TIMEOUTS = new Set([
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
  'ETIMEDOUT',
]);
const LOST = new Set([
  'UND_ERR_SOCKET',
  'UND_ERR_RES_CONTENT_LENGTH_MISMATCH',
  'UND_ERR_INFO',
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'HPE_INVALID_EOF_STATE',
]);
/** Node's names of what is wrong with a certificate (tls, "X509 certificate error codes"). */
const CERTIFICATE =
  /^(?:CERT_|CRL_|UNABLE_TO_|DEPTH_ZERO_|SELF_SIGNED_|INVALID_CA|INVALID_PURPOSE|HOSTNAME_MISMATCH|ERR_TLS_CERT)/;
/** The peer does not speak TLS, or no TLS of ours. */
const TLS = /^(?:EPROTO|ERR_SSL_)/;

/** The RegistryError that stands for what a socket or the HTTP parser threw. `url` is what was asked for. */
export function networkError(cause: unknown, url: URL): RegistryError {
  if (cause instanceof RegistryError) return cause;
  const code = codeOf(cause);
  const where = shownUrl(url);
  if (TIMEOUTS.has(code)) {
    return new RegistryError('TIMEOUT', `${where}: no answer in time`, { cause, retryable: true });
  }
  if (UNREACHABLE.has(code)) {
    const why = code === 'ENOTFOUND' || code === 'EAI_AGAIN' ? `no address for ${url.hostname}` : code;
    return new RegistryError('UNREACHABLE', `${url.host} cannot be reached (${why})`, {
      cause,
      retryable: true,
    });
  }
  if (CERTIFICATE.test(code)) {
    return new RegistryError(
      'CERTIFICATE',
      `the certificate of ${url.host} is not trusted (${code}): put its CA into /etc/docker/certs.d/${url.host}/ca.crt, or use --insecure-registry ${url.host}`,
      { cause },
    );
  }
  if (TLS.test(code)) {
    return new RegistryError(
      'PROTOCOL',
      `${url.host} does not answer by TLS (${code}): if it is a plain http registry, use --insecure-registry ${url.host}`,
      { cause },
    );
  }
  if (LOST.has(code) || code.startsWith('ERR_HTTP2_')) {
    return new RegistryError('CONNECTION_LOST', `${where}: the connection was lost (${code})`, {
      cause,
      retryable: true,
    });
  }
  const reason = code || oneLine(String((cause as Error)?.message ?? cause)).slice(0, 200);
  return new RegistryError('PROTOCOL', `${where}: ${reason}`, { cause });
}

function codeOf(error: unknown): string {
  const { code, errors } = error as { code?: unknown; errors?: unknown[] };
  if (typeof code === 'string') return code;
  // Attempts at several addresses (RFC 8305) fail together.
  return Array.isArray(errors) && errors.length > 0 ? codeOf(errors[0]) : '';
}

/** Code of an answer that has none that we know, by its status. */
const CODE_BY_STATUS: Readonly<Record<number, string>> = {
  401: 'UNAUTHORIZED',
  403: 'DENIED',
  405: 'UNSUPPORTED',
  408: 'TIMEOUT',
  416: 'RANGE_INVALID',
  429: 'TOOMANYREQUESTS',
  501: 'UNSUPPORTED',
};
const PERMANENT_5XX = new Set([501, 505, 511]);

/** True of statuses after which the same request may succeed. */
export function isRetryableStatus(status: number): boolean {
  return status === 408 || status === 425 || status === 429 || (status >= 500 && !PERMANENT_5XX.has(status));
}

/** Longest text of a server that a message repeats. */
const MAX_QUOTED = 300;

/**
 * The error of an answer (distribution-spec, "Error Codes"): the first code of its body that we know, otherwise one
 * for the status. `body` may be anything; `host` is what a user logs in to, `missing` the code of a bare 404.
 */
export function responseError(
  { status, headers }: { status: number; headers: HttpHeaders },
  body: Uint8Array,
  { what, host, missing = 'NAME_UNKNOWN' }: { what: string; host: string; missing?: ErrorCodeName },
): RegistryError {
  const items = errorItems(body);
  const item = items.find(({ code }) => isErrorCode(code)) ?? items[0];
  const known = item !== undefined && isErrorCode(item.code) ? item.code : undefined;
  const code =
    known ??
    (status === 404 ? missing : CODE_BY_STATUS[status]) ??
    (status >= 500 ? 'UNAVAILABLE' : 'UNKNOWN');
  const said = item?.message ? `: ${oneLine(item.message).slice(0, MAX_QUOTED)}` : '';
  const retryAfter = parseRetryAfter(headers['retry-after']);
  return new RegistryError(code, `${what}: ${host} says ${status} ${code}${said}${remedy(code, host)}`, {
    status,
    retryable: isRetryableStatus(status),
    ...(retryAfter === undefined ? {} : { retryAfter }),
    ...(item === undefined ? {} : { declared: item.code }),
  });
}

function remedy(code: string, host: string): string {
  if (code === 'UNAUTHORIZED') return `; log in with docker login ${host}`;
  if (code === 'MANIFEST_UNKNOWN' || code === 'NAME_UNKNOWN') return '; check name and tag';
  return '';
}

function errorItems(body: Uint8Array): ErrorItem[] {
  let document: unknown;
  try {
    document = JSON.parse(Buffer.from(body).toString());
  } catch {
    return [];
  }
  const errors = (document as { errors?: unknown } | null)?.errors;
  if (!Array.isArray(errors)) return [];
  return errors.slice(0, 16).flatMap((item: unknown) => {
    const { code, message } = (item ?? {}) as Record<string, unknown>;
    if (typeof code !== 'string') return [];
    return [{ code, ...(typeof message === 'string' ? { message } : {}) }];
  });
}

/** Milliseconds of a Retry-After (RFC 9110 §10.2.3): seconds or a date. */
export function parseRetryAfter(value: string | string[] | undefined, now = Date.now()): number | undefined {
  const text = Array.isArray(value) ? value[0] : value;
  if (text === undefined) return undefined;
  if (/^\s*\d{1,9}\s*$/.test(text)) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
