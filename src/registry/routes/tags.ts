/** distribution-spec, "Listing Tags" (end-8). */
import { ApiError } from '../api-error.js';
import { authorized, checkAttribute, type RouteGroup } from '../context.js';
import { page } from '../pagination.js';

export const tagRoutes: RouteGroup = (server, context) => {
  server.get('/v2/:name/tags/list', async (request, reply) => {
    const repository = await authorized(context, request, 'pull');
    const { name } = repository;
    if (!(await repository.exists())) throw new ApiError('NAME_UNKNOWN', { detail: { name } });
    await checkAttribute(repository, 'listEnabled');
    return { name, tags: await page(request, reply, await repository.tags()) };
  });
};
