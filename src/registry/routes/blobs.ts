/** Blobs by digest: distribution-spec, "Pulling Blobs" (end-2), "Deleting Blobs" (end-10). */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { parseDigest } from '../../oci/digest.js';
import { ApiError } from '../api-error.js';
import { authorized, type RegistryContext, type RepositoryParams, type RouteGroup } from '../context.js';
import { sendFile } from '../file-response.js';
import { parseRange } from '../range.js';
import type { Repository } from '../repository.js';

interface BlobParams extends RepositoryParams {
  digest: string;
}

export const blobRoutes: RouteGroup = (server, context) => {
  const path = '/v2/:name/blobs/:digest';
  server.route({
    method: ['GET', 'HEAD'],
    url: path,
    handler: async (request, reply) =>
      sendBlob(context, await authorized(context, request, 'pull'), digestOf(request), request, reply),
  });
  server.delete(path, async (request, reply) => {
    const repository = await authorized(context, request, 'delete');
    const digest = digestOf(request);
    if (!(await repository.deleteBlob(digest))) throw unknown(digest);
    return reply.code(202).send();
  });
};

/** Answers GET and HEAD for a blob that the repository has, with its ranges; the client may pull it. */
export async function sendBlob(
  context: RegistryContext,
  repository: Repository,
  digest: string,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const size = await repository.blobSize(digest);
  if (size === undefined) throw unknown(digest);
  const etag = `"${digest}"`;
  reply.headers({ 'docker-content-digest': digest, etag, 'accept-ranges': 'bytes' });
  if (request.headers['if-none-match'] === etag) return reply.code(304).send();
  const condition = request.headers['if-range'];
  const range = parseRange(
    condition === undefined || condition === etag ? request.headers.range : undefined,
    size,
  );
  if (range === 'unsatisfiable') {
    throw new ApiError('RANGE_INVALID', {
      message: `the blob has ${size} bytes, Range is ${JSON.stringify(request.headers.range)}`,
      headers: { 'content-range': `bytes */${size}` },
    });
  }
  const { start, end } = range ?? { start: 0, end: size };
  if (range !== undefined) reply.code(206).header('content-range', `bytes ${start}-${end - 1}/${size}`);
  reply.headers({ 'content-type': 'application/octet-stream', 'content-length': `${end - start}` });
  if (request.method === 'HEAD') {
    await repository.touchBlob(digest);
    return reply.send();
  }
  if (start === end) return reply.send(Buffer.alloc(0));
  const file = await context.storage.blobs.open(digest);
  if (file === undefined) throw unknown(digest);
  return sendFile(reply, file, [{ start, end }], context.stallTimeout);
}

function digestOf(request: FastifyRequest): string {
  const { digest } = request.params as BlobParams;
  parseDigest(digest);
  return digest;
}

function unknown(digest: string): ApiError {
  return new ApiError('BLOB_UNKNOWN', { detail: { digest } });
}

export function sendCreatedBlob(reply: FastifyReply, repository: Repository, digest: string): FastifyReply {
  return reply
    .code(201)
    .headers({ location: `/v2/${repository.name}/blobs/${digest}`, 'docker-content-digest': digest })
    .send();
}
