/**
 * Tokens for credentials: the Docker token protocol (distribution/docs/spec/auth: token.md for GET, oauth.md for
 * POST). A token has what is asked for as far as the user has it, so asking for too much gives a narrower token.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { basicCredentials, userMay } from '../access.js';
import { ApiError } from '../api-error.js';
import type { RegistryContext, RouteGroup } from '../context.js';
import { parameter, parameters, readBody } from '../request-body.js';
import { grantScopes, parseScopes } from '../scope.js';
import { tokenAnswer } from '../tokens.js';
import { ANONYMOUS, type User, UsersFile } from '../users-file.js';

const MAX_FORM_BYTES = 64 * 1024;

interface TokenRequest {
  /** Undefined: nobody in particular. */
  user: User | undefined;
  scopes: readonly string[];
  offline: boolean;
}

export const tokenRoutes: RouteGroup = (server, context) => {
  server.get('/oauth2/token', async (request, reply) => {
    checkService(context, request, parameter(request, 'service'));
    const offline = parameter(request, 'offline_token') === 'true';
    return answer(context, reply, {
      user: await userOf(context, request),
      scopes: parameters(request, 'scope'),
      offline,
    });
  });
  server.post('/oauth2/token', async (request, reply) => {
    const form = new URLSearchParams(
      (await readBody(request, MAX_FORM_BYTES, 'form', context.stallTimeout)).toString(),
    );
    checkService(context, request, form.get('service') ?? undefined);
    const user = await userOfForm(context, form);
    return answer(context, reply, {
      user,
      scopes: form.getAll('scope'),
      offline: form.get('access_type') === 'offline',
    });
  });
};

async function userOf({ access }: RegistryContext, request: FastifyRequest): Promise<User | undefined> {
  const { users } = access.options;
  const header = request.headers.authorization;
  if (users === undefined || header === undefined) return undefined;
  const basic = basicCredentials(header);
  const user = basic && (await users.login(basic.name, basic.password));
  if (user === undefined) throw refused();
  return user;
}

async function userOfForm({ access }: RegistryContext, form: URLSearchParams): Promise<User | undefined> {
  const { users, tokens } = access.options;
  if (users === undefined) return undefined;
  switch (form.get('grant_type')) {
    case 'password': {
      const user = await users.login(form.get('username') ?? '', form.get('password') ?? '');
      if (user === undefined) throw refused();
      return user;
    }
    case 'refresh_token': {
      const claims = await tokens.verifyRefresh(form.get('refresh_token') ?? '');
      const user = claims && (await users.find(claims.user));
      if (claims === undefined || user === undefined) throw refused();
      if (!UsersFile.sameFingerprint(claims.fingerprint, UsersFile.fingerprint(user, tokens.key)))
        throw refused();
      return user;
    }
    default:
      throw new ApiError('UNSUPPORTED', {
        status: 400,
        message: 'grant_type must be password or refresh_token',
      });
  }
}

function refused(): ApiError {
  return new ApiError('UNAUTHORIZED', {
    message: 'wrong user name, password or refresh token',
    headers: { 'www-authenticate': 'Basic realm="Orca registry"' },
  });
}

/** The service is this registry, by its own name or by that under which the client reaches it. */
function checkService(
  { access }: RegistryContext,
  request: FastifyRequest,
  service: string | undefined,
): void {
  const host = request.headers.host ?? '';
  const names = [undefined, '', access.options.service, host, host.replace(/:\d+$/, '')];
  if (names.includes(service)) return;
  throw new ApiError('UNSUPPORTED', { status: 400, message: 'the token is asked for another service' });
}

async function answer(
  { access }: RegistryContext,
  reply: FastifyReply,
  { user, scopes, offline }: TokenRequest,
): Promise<FastifyReply> {
  const { users, tokens } = access.options;
  const holder = user ?? (await users?.find(ANONYMOUS));
  // Without users everybody may do everything; with users, nobody in particular may what `anonymous` may.
  if (users !== undefined && holder === undefined) throw refused();
  const granted = grantScopes(parseScopes(scopes), (repository, action) =>
    holder === undefined ? true : userMay(holder, repository, action),
  );
  const issued = await tokens.issueAccess(user?.name, granted);
  return reply.header('cache-control', 'no-store').send({
    ...tokenAnswer(issued, granted),
    ...(offline && user !== undefined
      ? { refresh_token: await tokens.issueRefresh(user.name, UsersFile.fingerprint(user, tokens.key)) }
      : {}),
  });
}
