/** The list of repositories, as CNCF Distribution has it: those that the client may pull, are not hidden, and hold a manifest. */
import type { RouteGroup } from '../context.js';
import { page } from '../pagination.js';

export const catalogRoutes: RouteGroup = (server, { storage, access }) => {
  server.get('/v2/_catalog', async (request, reply) => {
    const principal = await access.requireCatalog(request);
    const listed: string[] = [];
    for (const name of await storage.repositoryNames()) {
      if (!principal.mayList(name)) continue;
      const repository = storage.repository(name);
      if ((await repository.hasManifests()) && (await repository.attributes()).listEnabled) listed.push(name);
    }
    return { repositories: page(request, reply, listed) };
  });
};
