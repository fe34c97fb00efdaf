/**
 * The expansion by request: of what a repository had before it was enabled, or of what has failed, and how far it is.
 *
 *     POST /orca/v1/<repository>/_expand[?reference=TAG or DIGEST]   202 {"images": [{"digest", "tags"}]}   push scope
 *     GET  /orca/v1/<repository>/_expansion/<manifest digest>        200 an ImageExpansion                  pull scope
 */
import { parseDigest } from '../../oci/digest.js';
import { isTag } from '../../oci/reference.js';
import { ApiError } from '../api-error.js';
import { authorized, type RegistryContext, type RepositoryParams, type RouteGroup } from '../context.js';
import type { Expansion } from '../expansion/expansion.js';
import { parameter } from '../request-body.js';

export const expansionRoutes: RouteGroup = (server, context) => {
  server.post('/orca/v1/:name/_expand', async (request, reply) => {
    const { name } = await authorized(context, request, 'push');
    const reference = parameter(request, 'reference');
    if (reference?.includes(':')) parseDigest(reference);
    else if (reference !== undefined && !isTag(reference)) throw new ApiError('TAG_INVALID');
    const images = await expansionOf(context).enqueueRepository(name, reference);
    if (images.length === 0) {
      const message =
        reference === undefined ? `repository ${name} has no tags` : `repository ${name} has no ${reference}`;
      throw new ApiError('MANIFEST_UNKNOWN', { message });
    }
    return reply.code(202).send({ images });
  });
  server.get('/orca/v1/:name/_expansion/:digest', async (request) => {
    const { name } = await authorized(context, request, 'pull');
    const { digest } = request.params as RepositoryParams & { digest: string };
    parseDigest(digest);
    const status = await expansionOf(context).status(name, digest);
    if (status !== undefined) return status;
    throw new ApiError('MANIFEST_UNKNOWN', { message: `${digest} has not been queued for expansion` });
  });
};

function expansionOf({ expansion }: RegistryContext): Expansion {
  if (expansion !== undefined) return expansion;
  throw new ApiError('UNSUPPORTED', { message: 'this registry does not expand images' });
}
