/**
 * The files of a repository's store, for the `https` source: byte ranges (RFC 9110 §14), by a token or by a signed,
 * expiring link.
 */
import { randomBytes } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { ApiError } from '../api-error.js';
import {
  authorized,
  type RegistryContext,
  type RepositoryParams,
  type RouteGroup,
  requireAttribute,
} from '../context.js';
import { type Segment, sendFile } from '../file-response.js';
import { type ByteRange, parseRanges } from '../range.js';
import type { Repository } from '../repository.js';
import { parameter } from '../request-body.js';
import type { SignedLinks } from '../signed-link.js';
import { isStorePath, openStoreFile, type StoreFile } from '../store-file.js';

export interface TeleportFileOptions {
  links: SignedLinks;
  /** The directory of a repository's store. */
  sharePath(repository: string): string;
}

export function teleportFileRoutes(options: TeleportFileOptions): RouteGroup {
  return (server, context) => {
    server.route({
      method: ['GET', 'HEAD'],
      url: '/teleport/v1/:name/*',
      handler: (request, reply) => send(context, options, request, reply),
    });
  };
}

async function send(
  context: RegistryContext,
  options: TeleportFileOptions,
  request: FastifyRequest,
  reply: FastifyReply,
) {
  const { '*': path } = request.params as RepositoryParams & { '*': string };
  const repository = await permitted(context, options.links, request, path);
  const { name } = repository;
  const unknown = new ApiError('BLOB_UNKNOWN', { detail: { name, path: path.slice(0, 200) } });
  if (!isStorePath(path) || !(await repository.attributes()).teleportEnabled) throw unknown;
  const found = await openStoreFile(options.sharePath(name), path);
  if (found === undefined) throw unknown;
  let handedOver = false;
  try {
    const segments = answer(found, request, reply);
    if (segments === undefined) return await reply.send();
    handedOver = true;
    return await sendFile(reply, found.file, segments, context.stallTimeout);
  } finally {
    if (!handedOver) await found.file.close();
  }
}

/** By a signed link, or by credentials of who may pull. */
async function permitted(
  context: RegistryContext,
  links: SignedLinks,
  request: FastifyRequest,
  path: string,
): Promise<Repository> {
  const expires = parameter(request, 'expires');
  const signature = parameter(request, 'signature');
  if (expires === undefined && signature === undefined) return authorized(context, request, 'teleport_read');
  const { name } = request.params as RepositoryParams;
  const repository = context.storage.repository(name);
  if (!links.verify(name, path, { expires: expires ?? '', signature: signature ?? '' })) {
    throw new ApiError('DENIED', { message: 'the link is not for this file, or has expired' });
  }
  await requireAttribute(repository, 'teleport_read');
  return repository;
}

/** Sets status and headers; gives what to send, undefined for nothing. */
function answer(
  { size, etag, immutable, contentType }: StoreFile,
  request: FastifyRequest,
  reply: FastifyReply,
): Segment[] | undefined {
  const { range, 'if-range': ifRange, 'if-none-match': ifNoneMatch } = request.headers;
  reply.headers({
    etag,
    'accept-ranges': 'bytes',
    'cache-control': immutable ? 'private, max-age=31536000, immutable' : 'private, no-cache',
  });
  if (ifNoneMatch !== undefined && (ifNoneMatch === '*' || tagsOf(ifNoneMatch).includes(etag))) {
    reply.code(304);
    return undefined;
  }
  reply.header('content-type', contentType);
  // Ranges are defined for GET alone (RFC 9110 §14.2).
  const isGet = request.method === 'GET';
  const ranges = isGet && (ifRange === undefined || ifRange === etag) ? parseRanges(range, size) : undefined;
  if (ranges === 'unsatisfiable') {
    throw new ApiError('RANGE_INVALID', {
      message: `the file has ${size} bytes, Range is ${JSON.stringify(range?.slice(0, 200))}`,
      headers: { 'content-range': `bytes */${size}` },
    });
  }
  if (ranges === undefined) {
    reply.header('content-length', `${size}`);
    return isGet && size > 0 ? [{ start: 0, end: size }] : undefined;
  }
  reply.code(206);
  const [only] = ranges;
  if (ranges.length === 1 && only !== undefined) {
    reply.header('content-range', contentRange(only, size));
    return [only];
  }
  return multipart(ranges, size, contentType, reply);
}

/** `multipart/byteranges` (RFC 9110 §14.6). */
function multipart(ranges: readonly ByteRange[], size: number, type: string, reply: FastifyReply): Segment[] {
  const boundary = randomBytes(18).toString('hex');
  reply.header('content-type', `multipart/byteranges; boundary=${boundary}`);
  const segments = ranges.flatMap((range, i): Segment[] => [
    Buffer.from(
      `${i === 0 ? '' : '\r\n'}--${boundary}\r\nContent-Type: ${type}\r\nContent-Range: ${contentRange(range, size)}\r\n\r\n`,
    ),
    range,
  ]);
  return [...segments, Buffer.from(`\r\n--${boundary}--\r\n`)];
}

function contentRange({ start, end }: ByteRange, size: number): string {
  return `bytes ${start}-${end - 1}/${size}`;
}

/** The tags of If-None-Match, which compares weakly (RFC 9110 §13.1.2). */
function tagsOf(header: string): string[] {
  return header.split(',').map((tag) => tag.trim().replace(/^W\//, ''));
}
