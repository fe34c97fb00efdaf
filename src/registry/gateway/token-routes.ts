/**
 * Tokens of the gateway for clients that know it only as an Azure container registry (`/oauth2/token` with Basic
 * credentials): good for what the gateway adds, not for the upstream. What the client may is found out by asking the
 * upstream, so a token is worth what the credentials were.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Action, basicCredentials } from '../access.js';
import { ApiError } from '../api-error.js';
import type { RouteGroup } from '../context.js';
import { parameters, readBody } from '../request-body.js';
import { type Access, grantScopes, parseScopes } from '../scope.js';
import { tokenAnswer } from '../tokens.js';
import type { Gateway } from './gateway.js';

const MAX_FORM_BYTES = 64 * 1024;
/** Each is a question to the upstream. */
const MAX_QUESTIONS = 8;

export function gatewayTokenRoutes(gateway: Gateway): RouteGroup {
  return (server, { stallTimeout }) => {
    server.get('/oauth2/token', (request, reply) =>
      answer(gateway, request, reply, request.headers.authorization, parameters(request, 'scope')),
    );
    server.post('/oauth2/token', async (request, reply) => {
      const form = new URLSearchParams(
        (await readBody(request, MAX_FORM_BYTES, 'form', stallTimeout)).toString(),
      );
      if (form.get('grant_type') !== 'password') {
        const message = 'grant_type must be password: this gateway has no refresh tokens';
        throw new ApiError('UNSUPPORTED', { status: 400, message });
      }
      const credentials = Buffer.from(`${form.get('username') ?? ''}:${form.get('password') ?? ''}`);
      return answer(gateway, request, reply, `Basic ${credentials.toString('base64')}`, form.getAll('scope'));
    });
  };
}

async function answer(
  gateway: Gateway,
  request: FastifyRequest,
  reply: FastifyReply,
  authorization: string | undefined,
  scopes: readonly string[],
): Promise<FastifyReply> {
  if (authorization !== undefined && basicCredentials(authorization) === undefined) {
    throw new ApiError('UNAUTHORIZED', {
      message: 'a token is given for a user name and password',
      headers: { 'www-authenticate': 'Basic realm="Orca gateway"' },
    });
  }
  const { access, passThrough } = gateway;
  const headers = { ...passThrough.headers(request) };
  delete headers['authorization'];
  if (authorization !== undefined) headers['authorization'] = authorization;
  const own = await access.own(authorization);
  const requested = parseScopes(scopes);
  const allowed = new Set<string>();
  for (const [repository, action] of questions(requested)) {
    const may =
      own?.may(repository, action) ||
      (await access.requireUpstream(headers, repository, action).then(
        () => true,
        (error: ApiError) => {
          if (error.status >= 500 || error.status === 429) throw error;
          return false;
        },
      ));
    if (may) allowed.add(JSON.stringify([repository, action]));
  }
  const granted = grantScopes(requested, (repository, action) =>
    allowed.has(JSON.stringify([repository, action])),
  ).filter(({ type }) => type === 'repository');
  const issued = await access.options.tokens.issueAccess(undefined, granted);
  return reply.header('cache-control', 'no-store').send({
    ...tokenAnswer(issued, granted),
  });
}

/** What has to be known for the scopes. Throws ApiError UNSUPPORTED when that is too much. */
function questions(requested: readonly Access[]): (readonly [string, Action])[] {
  const found = new Map<string, readonly [string, Action]>();
  grantScopes(requested, (repository, action) => {
    found.set(JSON.stringify([repository, action]), [repository, action]);
    return false;
  });
  if (found.size > MAX_QUESTIONS) {
    throw new ApiError('UNSUPPORTED', { status: 400, message: `more than ${MAX_QUESTIONS} scopes` });
  }
  return [...found.values()];
}
