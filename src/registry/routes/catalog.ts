/** The list of repositories, as CNCF Distribution has it: those that the client may pull, are not hidden, and hold a manifest. */
import type { RouteGroup } from '../context.js';
import { page } from '../pagination.js';

export const catalogRoutes: RouteGroup = (server, { storage, access }) => {
  server.get('/v2/_catalog', async (request, reply) => {
    const principal = await access.requireCatalog(request);
    const shown = async (name: string) => {
      if (!principal.mayList(name)) return false;
      const repository = storage.repository(name);
      return (await repository.hasManifests()) && (await repository.attributes()).listEnabled;
    };
    return { repositories: await page(request, reply, await storage.repositoryNames(), shown) };
  });
};
