/** Requests to a fastify server have ids: what leads to an answer, and the answer itself, are marked with them. */
import type { FastifyInstance } from 'fastify';
import { acceptRequestId, beginRequest, endRequest, REQUEST_ID_HEADER, withRequestId } from './request-id.js';

/**
 * Takes over the client's id where it is well-formed. `untilAnswered`: what goes on after the answer has no id, see
 * beginRequest.
 */
export function addRequestIds(server: FastifyInstance, { untilAnswered = false } = {}): void {
  server.setGenReqId(({ headers }) => acceptRequestId(headers[REQUEST_ID_HEADER]));
  server.addHook('onRequest', (request, reply, done) => {
    reply.header(REQUEST_ID_HEADER, request.id);
    done();
  });
  // When the head and, where it is read before, the body are there: events of the socket know no request.
  server.addHook('preHandler', (request, _reply, done) => {
    if (untilAnswered) beginRequest(request, request.id, done);
    else withRequestId(request.id, done);
  });
  server.addHook('onResponse', (request, _reply, done) => {
    endRequest(request);
    done();
  });
}
