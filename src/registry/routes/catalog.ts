/**
 * The list of repositories, as CNCF Distribution and ACR have it: those that the client may pull, are not hidden, and
 * hold a manifest.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { RegistryContext, RouteGroup } from '../context.js';
import { page } from '../pagination.js';

export const catalogRoutes: RouteGroup = (server, context) => {
  for (const url of ['/v2/_catalog', '/acr/v1/_catalog']) {
    server.get(url, (request, reply) => list(context, request, reply));
  }
};

async function list({ storage, access }: RegistryContext, request: FastifyRequest, reply: FastifyReply) {
  const principal = await access.requireCatalog(request);
  const shown = async (name: string) => {
    if (!principal.mayList(name)) return false;
    const repository = storage.repository(name);
    return (await repository.hasManifests()) && (await repository.attributes()).listEnabled;
  };
  return { repositories: await page(request, reply, await storage.repositoryNames(), shown) };
}
