/**
 * The distribution API of the gateway: requests go to the upstream, in the forms that the distribution-spec has and no
 * others. Pushed manifests are told to the expansion, and teleport artifacts, which the upstream does not have, are
 * served from here.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { parseDigest } from '../../oci/digest.js';
import { MAX_MANIFEST_BYTES } from '../../oci/manifest.js';
import { isTag } from '../../oci/reference.js';
import { log } from '../../telemetry/logger.js';
import { ApiError } from '../api-error.js';
import { checkAttribute, type RegistryContext, type RepositoryParams, type RouteGroup } from '../context.js';
import type { Repository } from '../repository.js';
import { parameters, readBody } from '../request-body.js';
import { sendBlob } from '../routes/blobs.js';
import { sendManifest } from '../routes/manifests.js';
import type { Gateway } from './gateway.js';
import { sendReferrers } from './merged-referrers.js';

type Params = RepositoryParams & { reference: string; digest: string; id: string };

export function gatewayRoutes(gateway: Gateway): RouteGroup {
  return (server, context) => {
    const { passThrough: through } = gateway;
    const plain = (path: string) => (request: FastifyRequest, reply: FastifyReply) =>
      through.pass(request, reply, { path: `${path}${queryOf(request)}` });
    server.route({ method: ['GET', 'HEAD'], url: '/v2/', handler: plain('/v2/') });
    server.get('/v2', async (_request, reply) => reply.redirect('/v2/', 308));
    server.get('/v2/_catalog', plain('/v2/_catalog'));
    server.get('/acr/v1/_catalog', plain('/v2/_catalog'));
    server.get('/v2/:name/tags/list', async (request, reply) => {
      const { name } = await named(context, request, 'listEnabled');
      return plain(`/v2/${name}/tags/list`)(request, reply);
    });
    server.get('/v2/:name/referrers/:digest', async (request, reply) =>
      sendReferrers(gateway, await named(context, request, 'readEnabled'), request, reply),
    );
    addBlobs(gateway, context, server);
    addManifests(gateway, context, server);
    for (const url of ['/v2/:name/blobs/uploads', '/v2/:name/blobs/uploads/']) {
      server.post(url, async (request, reply) => {
        const { name } = await named(context, request, 'writeEnabled');
        const path = `/v2/${name}/blobs/uploads/${queryOf(request)}`;
        return through.pass(request, reply, { path, upload: name });
      });
    }
    server.route({
      method: ['GET', 'HEAD', 'PATCH', 'PUT', 'DELETE'],
      url: '/v2/:name/blobs/uploads/:id',
      handler: async (request, reply) => {
        const { name } = await named(context, request, 'writeEnabled');
        const path = gateway.locations.uploadPath(name, rawUploadId(request), queryOf(request).slice(1));
        if (path === undefined) throw new ApiError('BLOB_UPLOAD_UNKNOWN');
        return through.pass(request, reply, { path, upload: name });
      },
    });
  };
}

const addBlobs: GatewayRoutes = ({ passThrough, access }, context, server) => {
  server.route({
    method: ['GET', 'HEAD', 'DELETE'],
    url: '/v2/:name/blobs/:digest',
    handler: async (request, reply) => {
      const isRead = request.method !== 'DELETE';
      const repository = await named(context, request, isRead ? 'readEnabled' : 'deleteEnabled');
      const { digest } = request.params as Params;
      parseDigest(digest);
      // HEAD is how a client finds out what it has to push, to the upstream; so ours are not there for it.
      if (request.method === 'GET' && (await repository.blobSize(digest)) !== undefined) {
        await access.requireWith(request, repository.name, 'pull', undefined);
        return sendBlob(context, repository, digest, request, reply);
      }
      const path = `/v2/${repository.name}/blobs/${digest}${queryOf(request)}`;
      return passThrough.pass(request, reply, { path });
    },
  });
};

const addManifests: GatewayRoutes = (gateway, context, server) => {
  const { passThrough, access } = gateway;
  const url = '/v2/:name/manifests/:reference';
  server.route({
    method: ['GET', 'HEAD'],
    url,
    handler: async (request, reply) => {
      const repository = await named(context, request, 'readEnabled');
      const reference = referenceOf(request);
      const subject = isTag(reference) ? undefined : await gateway.subjectOfOurs(repository, reference);
      if (subject !== undefined) {
        await access.requireWith(request, repository.name, 'pull', subject);
        return sendManifest(context, repository, reference, request, reply);
      }
      const path = `/v2/${repository.name}/manifests/${reference}${queryOf(request)}`;
      return passThrough.pass(request, reply, { path });
    },
  });
  server.put(url, async (request, reply) => {
    const repository = await named(context, request, 'writeEnabled');
    const path = `/v2/${repository.name}/manifests/${referenceOf(request)}${queryOf(request)}`;
    const body = await readBody(request, MAX_MANIFEST_BYTES, 'manifest', context.stallTimeout);
    const answer = await passThrough.ask(request, { path, body });
    if (answer.status === 201) await pushed(gateway, repository, body, request);
    return passThrough.give(reply, answer, { path });
  });
  server.delete(url, async (request, reply) => {
    const repository = await named(context, request, 'deleteEnabled');
    const reference = referenceOf(request);
    const path = `/v2/${repository.name}/manifests/${reference}${queryOf(request)}`;
    const answer = await passThrough.ask(request, { path });
    if (answer.status === 202) await deleted(gateway, repository, reference);
    return passThrough.give(reply, answer, { path });
  });
};

type GatewayRoutes = (gateway: Gateway, context: RegistryContext, server: Parameters<RouteGroup>[0]) => void;

/** What fails here does not fail the push: the upstream has the manifest. */
async function pushed(
  gateway: Gateway,
  repository: Repository,
  bytes: Uint8Array,
  request: FastifyRequest,
): Promise<void> {
  try {
    const reference = referenceOf(request);
    const algorithm = isTag(reference) ? 'sha256' : parseDigest(reference).algorithm;
    const tags = isTag(reference) ? [reference] : parameters(request, 'tag').filter(isTag);
    await gateway.pushed(repository, bytes, request.headers['content-type'], algorithm, tags);
  } catch (error) {
    log.error('what follows a push has failed', { repository: repository.name, error: error as Error });
  }
}

async function deleted(gateway: Gateway, repository: Repository, reference: string): Promise<void> {
  try {
    await (isTag(reference)
      ? gateway.forgetTag(repository, reference)
      : gateway.forget(repository, reference));
  } catch (error) {
    log.error('what follows a deletion has failed', { repository: repository.name, error: error as Error });
  }
}

/** The repository that a request names. Throws OciError for what is no name, ApiError where `needed` is false. */
async function named(
  { storage }: RegistryContext,
  request: FastifyRequest,
  needed: 'readEnabled' | 'writeEnabled' | 'deleteEnabled' | 'listEnabled',
): Promise<Repository> {
  const repository = storage.repository((request.params as Params).name);
  await checkAttribute(repository, needed);
  return repository;
}

function referenceOf(request: FastifyRequest): string {
  const { reference } = request.params as Params;
  if (reference.includes(':')) parseDigest(reference);
  else if (!isTag(reference)) throw new ApiError('TAG_INVALID');
  return reference;
}

/** `?` and the query as the client wrote it, or nothing. */
function queryOf({ originalUrl }: FastifyRequest): string {
  const start = originalUrl.indexOf('?');
  return start < 0 ? '' : originalUrl.slice(start).replace(/#.*$/s, '');
}

/** The id as the client wrote it: the upstream gets it back byte for byte. */
function rawUploadId({ originalUrl }: FastifyRequest): string {
  return (
    /\/([^/?#]*)(?:[?#]|$)/.exec(originalUrl.slice(originalUrl.indexOf('/blobs/uploads/') + 14))?.[1] ?? ''
  );
}
