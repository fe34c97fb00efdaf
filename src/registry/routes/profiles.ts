/**
 * `PUT /mount/v1/<repository>/_profiles/<digest>`: publishes the startup profile of an image, for whoever may push to
 * the repository. What is published the mount API offers (docs/REGISTRY.md, "Startup profiles").
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { MAX_PROFILE_BYTES, StartupProfile } from '../../cache/startup-profile.js';
import { parseDigest } from '../../oci/digest.js';
import { ApiError } from '../api-error.js';
import { authorized, type RegistryContext, type RepositoryParams, type RouteGroup } from '../context.js';
import type { BlobOrigin, Expansion } from '../expansion/expansion.js';
import type { PublishedProfiles } from '../published-profiles.js';
import { readBody } from '../request-body.js';
import { requireTeleport } from './mount.js';

export interface ProfileOptions {
  profiles: PublishedProfiles;
  expansion: Expansion;
  origin: Pick<BlobOrigin, 'readManifest'>;
}

export function profileRoutes(options: ProfileOptions): RouteGroup {
  return (server, context) => {
    server.put('/mount/v1/:name/_profiles/:digest', (request, reply) =>
      publish(context, options, request, reply),
    );
  };
}

async function publish(
  context: RegistryContext,
  { profiles, expansion, origin }: ProfileOptions,
  request: FastifyRequest,
  reply: FastifyReply,
) {
  const { digest } = request.params as RepositoryParams & { digest: string };
  parseDigest(digest);
  const repository = await authorized(context, request, 'push');
  const { name } = repository;
  await requireTeleport(repository);
  const body = await readBody(request, MAX_PROFILE_BYTES, 'startup profile', context.stallTimeout);
  const document = await origin.readManifest(name, digest);
  const status = await expansion.status(name, digest);
  if (document === undefined || status?.state !== 'expanded') {
    const message = `${digest} is no image that is expanded: a startup profile is of one that is`;
    throw new ApiError('MANIFEST_UNKNOWN', { message, detail: { name, reference: digest } });
  }
  const profile = decoded(body);
  const layers = new Set(status.layers.map(({ diffID }) => diffID));
  if (!profile.layers.every((diffID) => layers.has(diffID)))
    throw invalid('a startup profile cannot be used: it has layers that are not the image’s');
  const image = { mediaType: document.mediaType, digest, size: document.bytes.length };
  reply.code(201);
  return { profile: await profiles.publish(repository, image, profile), runs: profile.runs };
}

function decoded(body: Uint8Array): StartupProfile {
  try {
    return StartupProfile.decode(body);
  } catch (error) {
    throw invalid((error as Error).message);
  }
}

function invalid(message: string): ApiError {
  return new ApiError('MANIFEST_INVALID', { message });
}
