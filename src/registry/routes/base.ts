/** distribution-spec, "Determining Support" (end-1). */
import type { RouteGroup } from '../context.js';

export const baseRoutes: RouteGroup = (server, { access }) => {
  server.route({
    method: ['GET', 'HEAD'],
    url: '/v2/',
    handler: async (request) => {
      await access.requireAny(request);
      return {};
    },
  });
  server.get('/v2', async (request, reply) => {
    await access.requireAny(request);
    return reply.redirect('/v2/', 308);
  });
};
