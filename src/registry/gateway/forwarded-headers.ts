/** Headers on their way through the gateway (RFC 9110 §7.6). */
import type { IncomingHttpHeaders } from 'node:http';
import type { HttpHeaders } from '../../oci/http-client.js';

/** Of one connection, not of the message (§7.6.1). */
const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-authenticate',
  'proxy-authentication-info',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);
/** What the gateway says itself, or does itself; and what a client might say of others to pass for them. */
const NOT_OF_CLIENT = new Set([
  'host',
  'content-length',
  'expect',
  'forwarded',
  'via',
  'x-forwarded-for',
  'x-forwarded-host',
  'x-forwarded-port',
  'x-forwarded-proto',
  'x-real-ip',
]);
/** What is said of the upstream's host and not of ours. */
const NOT_OF_UPSTREAM = new Set(['alt-svc', 'strict-transport-security', 'location', 'link']);

/** The client's headers for the upstream. `via` tells gateways apart, so that a loop is noticed. */
export function requestHeaders(
  headers: IncomingHttpHeaders,
  { via, client }: { via: string; client: string | undefined },
): Record<string, string | string[]> {
  const forwarded = without(headers, NOT_OF_CLIENT);
  const before = headers.via;
  forwarded['via'] = before === undefined ? via : `${before}, ${via}`;
  if (client !== undefined) forwarded['x-forwarded-for'] = client;
  return forwarded;
}

/** The upstream's headers for the client, but Location and Link, which name the upstream. */
export function responseHeaders(headers: HttpHeaders): Record<string, string | string[]> {
  return without(headers, NOT_OF_UPSTREAM);
}

function without(headers: HttpHeaders, names: ReadonlySet<string>): Record<string, string | string[]> {
  const connection = headers['connection'];
  const named = new Set(
    [connection ?? []].flat().flatMap((value) => value.split(',').map((name) => name.trim().toLowerCase())),
  );
  const kept: Record<string, string | string[]> = {};
  for (const [name, value] of Object.entries(headers)) {
    if (value === undefined || HOP_BY_HOP.has(name) || names.has(name) || named.has(name)) continue;
    kept[name] = value;
  }
  return kept;
}
