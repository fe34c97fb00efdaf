/**
 * Repository attributes, as Azure Container Registry has them: REST API "Repository – Get Properties" and "Update
 * Attributes".
 */
import type { FastifyRequest } from 'fastify';
import { log } from '../../telemetry/logger.js';
import { ApiError } from '../api-error.js';
import { parseAttributes } from '../attributes.js';
import { authorized, type RegistryContext, type RouteGroup } from '../context.js';
import type { Repository } from '../repository.js';
import { readBody } from '../request-body.js';

/** Five attributes and much white space. */
const MAX_BODY_BYTES = 4096;

export const acrRoutes: RouteGroup = (server, context) => {
  const url = '/acr/v1/:name';
  server.get(url, async (request) => {
    const repository = await authorized(context, request, 'metadata_read');
    return properties(context, request, repository);
  });
  // A repository may get its attributes before anything is pushed to it, so that the first push is expanded.
  server.patch(url, async (request) => {
    const repository = await authorized(context, request, 'metadata');
    const changes = parseAttributes(
      await readBody(request, MAX_BODY_BYTES, 'attributes', context.stallTimeout),
    );
    const { teleportEnabled, readEnabled } = await repository.setAttributes(changes);
    if (!teleportEnabled || !readEnabled) await context.closeShare?.(repository.name);
    if (changes.teleportEnabled === true) await backfill(context, repository.name);
    return properties(context, request, repository);
  });
};

/** The attribute is set, whatever becomes of the images that are there already. */
async function backfill({ expansion }: RegistryContext, repository: string): Promise<void> {
  try {
    await expansion?.enqueueRepository(repository);
  } catch (error) {
    log.error('images that were there before are not expanded', { repository, error: error as Error });
  }
}

async function properties({ access }: RegistryContext, request: FastifyRequest, repository: Repository) {
  const { name } = repository;
  const summary = await repository.summary();
  if (summary === undefined) throw new ApiError('NAME_UNKNOWN', { detail: { name } });
  const { deleteEnabled, writeEnabled, readEnabled, listEnabled, teleportEnabled } =
    await repository.attributes();
  return {
    registry: new URL(access.origin(request)).host,
    imageName: name,
    createdTime: summary.createdTime.toISOString(),
    lastUpdateTime: summary.lastUpdateTime.toISOString(),
    manifestCount: summary.manifestCount,
    tagCount: summary.tagCount,
    changeableAttributes: { deleteEnabled, writeEnabled, readEnabled, listEnabled, teleportEnabled },
  };
}
