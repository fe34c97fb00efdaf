/** Pushing blobs: distribution-spec, "Pushing Blobs" (end-4a to end-6, end-11, end-13, end-14). */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { parseDigest } from '../../oci/digest.js';
import { OciError } from '../../oci/oci-error.js';
import { ApiError } from '../api-error.js';
import { authorized, type RegistryContext, type RepositoryParams, type RouteGroup } from '../context.js';
import { parseContentRange } from '../range.js';
import type { Repository } from '../repository.js';
import { bodyOf, parameter } from '../request-body.js';
import type { Upload } from '../uploads.js';
import { sendCreatedBlob } from './blobs.js';

interface UploadParams extends RepositoryParams {
  id: string;
}

export const uploadRoutes: RouteGroup = (server, context) => {
  for (const path of ['/v2/:name/blobs/uploads', '/v2/:name/blobs/uploads/']) {
    server.post(path, (request, reply) => start(context, request, reply));
  }
  const path = '/v2/:name/blobs/uploads/:id';
  server.get(path, (request, reply) =>
    withUpload(context, request, async (upload) => progress(reply, upload, 204)),
  );
  server.patch(path, (request, reply) =>
    withUpload(context, request, async (upload) => {
      await receive(context, request, upload);
      return progress(reply, upload, 202);
    }),
  );
  server.put(path, (request, reply) =>
    withUpload(context, request, async (upload, repository) => {
      const digest = requiredDigest(request);
      await receive(context, request, upload);
      return finish(context, reply, upload, repository, digest);
    }),
  );
  server.delete(path, (request, reply) =>
    withUpload(context, request, async (upload) => {
      await context.storage.uploads.remove(upload);
      return reply.code(204).send();
    }),
  );
};

/** `mount`: the blob of another repository; `digest`: the body is the whole blob; neither: a session. */
async function start(context: RegistryContext, request: FastifyRequest, reply: FastifyReply) {
  const mount = parameter(request, 'mount');
  const from = parameter(request, 'from');
  const digest = parameter(request, 'digest');
  // The name comes into the challenge, so it must be one.
  if (mount !== undefined && from !== undefined) context.storage.repository(from);
  const repository = await authorized(context, request, 'push', mount === undefined ? undefined : from);
  if (mount !== undefined) {
    parseDigest(mount, 'mount');
    if (await mounted(context, request, repository, mount, from))
      return sendCreatedBlob(reply, repository, mount);
  } else if (digest !== undefined) {
    parseDigest(digest);
    const upload = await context.storage.uploads.create(repository.name);
    try {
      await receive(context, request, upload);
      return await finish(context, reply, upload, repository, digest);
    } catch (error) {
      await context.storage.uploads.remove(upload);
      throw error;
    }
  }
  return progress(reply, await context.storage.uploads.create(repository.name), 202);
}

/**
 * Mounts a blob that the client may read in the repository `from` or, when none is named, anywhere (end-11). False
 * when there is none: the client then uploads.
 */
async function mounted(
  { storage, access }: RegistryContext,
  request: FastifyRequest,
  repository: Repository,
  digest: string,
  from: string | undefined,
): Promise<boolean> {
  const principal = await access.authenticate(request);
  if (principal === undefined || (await storage.blobs.size(digest)) === undefined) return false;
  const candidates = from === undefined ? [repository.name, ...(await storage.repositoryNames())] : [from];
  for (const name of candidates) {
    if (!principal.may(name, 'pull')) continue;
    const source = storage.repository(name);
    if ((await source.blobSize(digest)) === undefined || !(await source.attributes()).readEnabled) continue;
    return repository.linkBlob(digest);
  }
  return false;
}

async function withUpload<T>(
  context: RegistryContext,
  request: FastifyRequest,
  action: (upload: Upload, repository: Repository) => Promise<T>,
): Promise<T> {
  const repository = await authorized(context, request, 'push');
  const { id } = request.params as UploadParams;
  return context.storage.uploads.using(repository.name, id, async (upload) => {
    if (upload === undefined) throw new ApiError('BLOB_UPLOAD_UNKNOWN', { detail: { uploadId: id } });
    return action(upload, repository);
  });
}

/** Appends the body; with a Content-Range, only where the upload is and exactly what was announced. */
async function receive(
  { slots, stallTimeout }: RegistryContext,
  request: FastifyRequest,
  upload: Upload,
): Promise<void> {
  const header = request.headers['content-range'];
  let length: number | undefined;
  if (header !== undefined) {
    const range = parseContentRange(header);
    if (range === undefined || range.start !== upload.offset) {
      throw new ApiError('RANGE_INVALID', {
        message: `the next byte is ${upload.offset}, Content-Range is ${JSON.stringify(header)}`,
        headers: progressHeaders(upload),
      });
    }
    length = range.end - range.start;
    const declared = request.headers['content-length'];
    if (declared !== undefined && Number(declared) !== length) {
      throw new ApiError('SIZE_INVALID', {
        message: `Content-Range has ${length} bytes, Content-Length ${declared}`,
      });
    }
  }
  await slots.using(() => upload.append(bodyOf(request, stallTimeout), length));
}

async function finish(
  { storage }: RegistryContext,
  reply: FastifyReply,
  upload: Upload,
  repository: Repository,
  digest: string,
): Promise<FastifyReply> {
  try {
    await upload.seal(digest);
  } catch (error) {
    // The specification lets a failed upload be started anew only.
    if (error instanceof OciError) await storage.uploads.remove(upload);
    throw error;
  }
  await repository.takeBlob(digest, upload.file);
  await storage.uploads.remove(upload);
  return sendCreatedBlob(reply, repository, digest);
}

function requiredDigest(request: FastifyRequest): string {
  const digest = parameter(request, 'digest');
  if (digest === undefined)
    throw new ApiError('DIGEST_INVALID', { message: 'the parameter digest is missing' });
  parseDigest(digest);
  return digest;
}

function progress(reply: FastifyReply, upload: Upload, status: number): FastifyReply {
  return reply.code(status).headers(progressHeaders(upload)).send();
}

/** The range is inclusive, so nothing at all cannot be said; `0-0` is what registries send then. */
function progressHeaders(upload: Upload): Record<string, string> {
  return {
    location: `/v2/${upload.repository}/blobs/uploads/${upload.id}`,
    range: `0-${Math.max(0, upload.offset - 1)}`,
    'docker-upload-uuid': upload.id,
  };
}
