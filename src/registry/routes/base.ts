/** distribution-spec, "Determining Support" (end-1). */
import type { RouteGroup } from '../context.js';

export const baseRoutes: RouteGroup = (server, { access }) => {
  server.get('/v2/', async (request) => {
    await access.requireAny(request);
    return {};
  });
  server.get('/v2', async (request, reply) => {
    await access.requireAny(request);
    return reply.redirect('/v2/', 308);
  });
};
