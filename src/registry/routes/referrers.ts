/** distribution-spec, "Listing Referrers" (end-12). */
import { parseDigest } from '../../oci/digest.js';
import { type Descriptor, MAX_MANIFEST_BYTES, MEDIA_TYPE } from '../../oci/manifest.js';
import { authorized, type RepositoryParams, type RouteGroup } from '../context.js';
import { linkNext } from '../pagination.js';
import { parameter } from '../request-body.js';

export const referrerRoutes: RouteGroup = (server, context) => {
  server.get('/v2/:name/referrers/:digest', async (request, reply) => {
    const repository = await authorized(context, request, 'pull');
    const { digest } = request.params as RepositoryParams & { digest: string };
    parseDigest(digest);
    const artifactType = parameter(request, 'artifactType');
    const manifests: Descriptor[] = [];
    let length = 0;
    for await (const descriptor of repository.referrers(digest, parameter(request, 'last'))) {
      if (artifactType !== undefined && descriptor.artifactType !== artifactType) continue;
      length += Buffer.byteLength(JSON.stringify(descriptor));
      // The response is an index, which clients read up to the size of a manifest.
      const before = manifests.at(-1);
      if (length > MAX_MANIFEST_BYTES - 1024 && before !== undefined) {
        linkNext(request, reply, { last: parseDigest(before.digest).hex });
        break;
      }
      manifests.push(descriptor);
    }
    if (artifactType !== undefined) reply.header('oci-filters-applied', 'artifactType');
    reply.header('content-type', MEDIA_TYPE.index);
    return reply.send(
      Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests })),
    );
  });
};
