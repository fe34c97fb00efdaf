/** Manifests by tag or digest: distribution-spec, "Pulling manifests" (end-3), "Pushing Manifests" (end-7), "Deleting" (end-9). */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { parseDigest } from '../../oci/digest.js';
import type { ErrorItem } from '../../oci/error-codes.js';
import { MAX_MANIFEST_BYTES } from '../../oci/manifest.js';
import { isTag } from '../../oci/reference.js';
import { log } from '../../telemetry/logger.js';
import { ApiError } from '../api-error.js';
import { authorized, type RegistryContext, type RepositoryParams, type RouteGroup } from '../context.js';
import { type PushedManifest, parsePushedManifest } from '../pushed-manifest.js';
import type { Repository } from '../repository.js';
import { parameters, readBody } from '../request-body.js';

interface ManifestParams extends RepositoryParams {
  reference: string;
}

/** Tags of one push by digest (`?tag=`, distribution-spec after 1.1); a request line has room for about as many. */
const MAX_TAGS = 50;
/** Errors of one response: a manifest may name thousands of blobs that are not there. */
const MAX_ITEMS = 100;

export const manifestRoutes: RouteGroup = (server, context) => {
  const url = '/v2/:name/manifests/:reference';
  server.route({
    method: ['GET', 'HEAD'],
    url,
    handler: async (request, reply) =>
      sendManifest(context, await authorized(context, request, 'pull'), referenceOf(request), request, reply),
  });
  server.put(url, (request, reply) => store(context, request, reply));
  server.delete(url, async (request, reply) => {
    const repository = await authorized(context, request, 'delete');
    const reference = referenceOf(request);
    const record = isTag(reference) ? undefined : await repository.manifest(reference);
    const found = isTag(reference)
      ? await repository.deleteTag(reference)
      : await repository.deleteManifest(reference);
    if (!found) throw await unknown(repository, reference);
    await afterwards(repository.name, reference, () =>
      isTag(reference)
        ? context.expansion?.forgetTag(repository.name, reference)
        : context.expansion?.forget(repository.name, reference, record?.subject),
    );
    return reply.code(202).send();
  });
};

/** Answers GET and HEAD for a manifest that the repository has, by tag or digest; the client may pull it. */
export async function sendManifest(
  context: RegistryContext,
  repository: Repository,
  reference: string,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const digest = isTag(reference) ? await repository.resolve(reference) : reference;
  const record = digest === undefined ? undefined : await repository.manifest(digest);
  if (digest === undefined || record === undefined) throw await unknown(repository, reference);
  const etag = `"${digest}"`;
  reply.headers({ 'docker-content-digest': digest, etag });
  if (request.headers['if-none-match'] === etag) return reply.code(304).send();
  reply.headers({ 'content-type': record.mediaType, 'content-length': `${record.size}` });
  if (request.method === 'HEAD') return reply.send();
  const bytes = await context.storage.blobs.read(digest);
  if (bytes === undefined) throw await unknown(repository, reference);
  return reply.send(bytes);
}

async function store(context: RegistryContext, request: FastifyRequest, reply: FastifyReply) {
  const repository = await authorized(context, request, 'push');
  const reference = referenceOf(request);
  const bytes = await readBody(request, MAX_MANIFEST_BYTES, 'manifest', context.stallTimeout);
  const algorithm = isTag(reference) ? undefined : parseDigest(reference).algorithm;
  const manifest = parsePushedManifest(bytes, request.headers['content-type'], algorithm);
  const tags = tagsOf(request, reference);
  if (!isTag(reference) && reference !== manifest.digest) {
    throw new ApiError('DIGEST_INVALID', {
      message: `the manifest has digest ${manifest.digest}, not ${reference}`,
    });
  }
  await repository.putManifest(manifest, tags, () => checkReferences(repository, manifest));
  await afterwards(repository.name, manifest.digest, () =>
    context.onManifest?.(repository.name, manifest.digest, tags),
  );
  const { digest, subject } = manifest;
  reply
    .code(201)
    .headers({ location: `/v2/${repository.name}/manifests/${digest}`, 'docker-content-digest': digest });
  if (subject !== undefined) reply.header('oci-subject', subject);
  if (!isTag(reference) && tags.length > 0) reply.header('oci-tag', tags.join(', '));
  return reply.send();
}

function tagsOf(request: FastifyRequest, reference: string): string[] {
  if (isTag(reference)) return [reference];
  const tags = parameters(request, 'tag');
  if (tags.length > MAX_TAGS) throw new ApiError('TAG_INVALID', { message: `more than ${MAX_TAGS} tags` });
  for (const tag of tags) if (!isTag(tag)) throw invalidTag(tag);
  return tags;
}

async function checkReferences(repository: Repository, manifest: PushedManifest): Promise<void> {
  const missing: string[] = [];
  for (const digest of manifest.blobs)
    if ((await repository.blobSize(digest)) === undefined) missing.push(digest);
  for (const digest of manifest.manifests)
    if ((await repository.manifest(digest)) === undefined) missing.push(digest);
  if (missing.length === 0) return;
  const items = missing.slice(0, MAX_ITEMS).map(
    (digest): ErrorItem => ({
      code: 'MANIFEST_BLOB_UNKNOWN',
      message: `${digest} is not in the repository; push it first`,
      detail: { digest },
    }),
  );
  throw new ApiError('MANIFEST_BLOB_UNKNOWN', {}, items);
}

/** What follows a change that has been made: the client is not told when it fails, since it need not do it again. */
async function afterwards(
  repository: string,
  reference: string,
  action: () => void | Promise<void>,
): Promise<void> {
  try {
    await action();
  } catch (error) {
    log.error('what follows a change has failed', { repository, reference, error: error as Error });
  }
}

/** A tag or a digest. */
function referenceOf(request: FastifyRequest): string {
  const { reference } = request.params as ManifestParams;
  if (reference.includes(':')) parseDigest(reference);
  else if (!isTag(reference)) throw invalidTag(reference);
  return reference;
}

function invalidTag(tag: string): ApiError {
  return new ApiError('TAG_INVALID', {
    message: `${JSON.stringify(tag.slice(0, 160))} is neither a tag nor a digest`,
  });
}

async function unknown(repository: Repository, reference: string): Promise<ApiError> {
  const code = (await repository.exists()) ? 'MANIFEST_UNKNOWN' : 'NAME_UNKNOWN';
  return new ApiError(code, { detail: { name: repository.name, reference } });
}
