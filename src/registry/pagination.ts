/** Lists in pages: distribution-spec, "Listing Tags": `n`, `last`, and a Link header to the next page. */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { ApiError } from './api-error.js';
import { parameter } from './request-body.js';

/** Of one page, also when a client asks for more or does not say. */
const MAX_ENTRIES = 10_000;

/**
 * The page of `entries` (sorted by bytes) that a request asks for, of those that `shown` lets through; sets the Link
 * header when there are more.
 */
export async function page(
  request: FastifyRequest,
  reply: FastifyReply,
  entries: readonly string[],
  shown: (entry: string) => boolean | Promise<boolean> = () => true,
): Promise<string[]> {
  const requested = parameter(request, 'n');
  const last = parameter(request, 'last') ?? '';
  if (requested !== undefined && !/^\d{1,9}$/.test(requested)) {
    throw new ApiError('PAGINATION_NUMBER_INVALID', { detail: { n: requested.slice(0, 32) } });
  }
  const count = Math.min(requested === undefined ? MAX_ENTRIES : Number(requested), MAX_ENTRIES);
  const found: string[] = [];
  if (count === 0) return found;
  for (const entry of entries) {
    if (entry <= last || !(await shown(entry))) continue;
    const end = found[count - 1];
    if (end !== undefined) {
      linkNext(request, reply, { n: `${count}`, last: end });
      break;
    }
    found.push(entry);
  }
  return found;
}

/** A Link header (RFC 8288) to the same resource with these parameters and the others as they are. */
export function linkNext(
  request: FastifyRequest,
  reply: FastifyReply,
  parameters: Readonly<Record<string, string>>,
): void {
  const url = new URL(request.originalUrl, 'http://registry');
  for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
  reply.header('link', `<${url.pathname}${url.search}>; rel="next"`);
}
