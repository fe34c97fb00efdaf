/**
 * Who asks, and what they may do: Basic credentials and bearer tokens against the users file. Without a users file
 * the registry is open, and everybody may do everything.
 */
import type { FastifyRequest } from 'fastify';
import { ApiError } from './api-error.js';
import {
  allows,
  CATALOG_SCOPE,
  grantedAction,
  type RequestAction,
  scopeFor,
  type Access as TokenAccess,
} from './scope.js';
import type { Tokens } from './tokens.js';
import { type Action, ANONYMOUS, type User, type UsersFile } from './users-file.js';

export type { Action } from './users-file.js';

export interface Principal {
  /** The user; undefined is somebody who has shown no credentials. */
  readonly user: string | undefined;
  readonly name: string;
  may(repository: string, action: RequestAction): boolean;
  /** Whether a catalog for it may show the repository. */
  mayList(repository: string): boolean;
}

/** Everybody, when there is no users file. */
const ANYBODY: Principal = { user: undefined, name: ANONYMOUS, may: () => true, mayList: () => true };
const NOBODY: Pick<User, 'name' | 'may'> = { name: ANONYMOUS, may: () => false };

/** Who has shown Basic credentials, or none, or a token that narrows what the user may. */
class UserPrincipal implements Principal {
  constructor(
    readonly holder: Pick<User, 'name' | 'may'>,
    private readonly access: readonly TokenAccess[] | undefined,
  ) {}

  get name(): string {
    return this.holder.name;
  }

  get user(): string | undefined {
    return this.name === ANONYMOUS ? undefined : this.name;
  }

  may(repository: string, action: RequestAction): boolean {
    return (
      userMay(this.holder, repository, grantedAction(action)) &&
      (this.access === undefined || allows(this.access, repository, action))
    );
  }

  get mayCatalog(): boolean {
    return this.access === undefined || this.access.some(({ type }) => type === 'registry');
  }

  mayList(repository: string): boolean {
    return this.mayCatalog && this.holder.may(repository, 'pull');
  }
}

/** Whoever may push may change the attributes, as in ACR. */
export function userMay(user: Pick<User, 'may'>, repository: string, action: Action): boolean {
  return user.may(repository, action) || (action === 'metadata' && user.may(repository, 'push'));
}

export interface AccessOptions {
  users: UsersFile | undefined;
  tokens: Tokens;
  service: string;
  /** How clients reach this registry, when that is not what their requests say. */
  publicUrl: string | undefined;
  secure: boolean;
}

export class Access {
  constructor(readonly options: AccessOptions) {}

  get isOpen(): boolean {
    return this.options.users === undefined;
  }

  /**
   * Who sends the request; undefined when it has no credentials and there is no anonymous user. Throws ApiError
   * UNAUTHORIZED for credentials that are wrong.
   */
  async authenticate(request: FastifyRequest): Promise<Principal | undefined> {
    const { users, tokens } = this.options;
    if (users === undefined) return ANYBODY;
    const header = request.headers.authorization;
    if (header === undefined) {
      const anonymous = await users.find(ANONYMOUS);
      return anonymous && new UserPrincipal(anonymous, undefined);
    }
    const basic = basicCredentials(header);
    if (basic !== undefined) {
      const user = await users.login(basic.name, basic.password);
      if (user !== undefined) return new UserPrincipal(user, undefined);
      throw this.challenge(request, undefined, 'wrong user name or password');
    }
    const [, token] = /^bearer +([\w.~+/=-]+)$/i.exec(header) ?? [];
    const claims = token === undefined ? undefined : await tokens.verifyAccess(token);
    const user =
      claims &&
      ((await users.find(claims.user ?? ANONYMOUS)) ?? (claims.user === undefined ? NOBODY : undefined));
    if (claims === undefined || user === undefined) {
      throw this.challenge(request, undefined, 'the token is not valid', 'invalid_token');
    }
    return new UserPrincipal(user, claims.access);
  }

  /** Throws ApiError UNAUTHORIZED (come again with credentials or a wider token) or DENIED (do not). */
  async require(
    request: FastifyRequest,
    repository: string,
    action: RequestAction,
    mountFrom?: string,
  ): Promise<Principal> {
    const scopes = [scopeFor(repository, action), ...(mountFrom ? [scopeFor(mountFrom, 'pull')] : [])];
    const scope = scopes.join(' ');
    const principal = await this.authenticated(request, scope);
    if (principal.may(repository, action)) return principal;
    if (request.headers.authorization === undefined) throw this.challenge(request, scope);
    if (principal instanceof UserPrincipal && userMay(principal.holder, repository, grantedAction(action))) {
      throw this.challenge(request, scope, 'the token is not for this', 'insufficient_scope');
    }
    throw new ApiError('DENIED', { message: `${principal.name} may not ${action} ${repository}` });
  }

  /** Throws ApiError UNAUTHORIZED unless the request has credentials; a client that sees it learns how to get some. */
  async requireAny(request: FastifyRequest): Promise<void> {
    if (!this.isOpen && request.headers.authorization === undefined) throw this.challenge(request);
    await this.authenticated(request, undefined);
  }

  async requireCatalog(request: FastifyRequest): Promise<Principal> {
    const principal = await this.authenticated(request, CATALOG_SCOPE);
    if (!(principal instanceof UserPrincipal) || principal.mayCatalog) return principal;
    throw this.challenge(request, CATALOG_SCOPE, 'the token is not for this', 'insufficient_scope');
  }

  private async authenticated(request: FastifyRequest, scope: string | undefined): Promise<Principal> {
    try {
      const principal = await this.authenticate(request);
      if (principal !== undefined) return principal;
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 401 || scope === undefined) throw error;
      throw this.challenge(request, scope, error.message, 'invalid_token');
    }
    throw this.challenge(request, scope);
  }

  /** RFC 6750 §3, with the parameters of the Docker token protocol. */
  challenge(request: FastifyRequest, scope?: string, message?: string, error?: string): ApiError {
    const parameters = [`realm="${this.origin(request)}/oauth2/token"`, `service="${this.options.service}"`];
    if (scope !== undefined) parameters.push(`scope="${scope}"`);
    if (error !== undefined) parameters.push(`error="${error}"`);
    return new ApiError('UNAUTHORIZED', {
      ...(message === undefined ? {} : { message }),
      ...(scope === undefined ? {} : { detail: { scope } }),
      headers: { 'www-authenticate': `Bearer ${parameters.join(',')}` },
    });
  }

  /** The URL of this server as the client sees it, without a path; what a client says goes back to nobody else. */
  origin(request: FastifyRequest): string {
    if (this.options.publicUrl !== undefined) return this.options.publicUrl;
    const host = request.headers.host ?? '';
    const named = /^(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?$/.test(host);
    const { localAddress, localPort } = request.raw.socket;
    return `${this.options.secure ? 'https' : 'http'}://${named ? host : `${localAddress}:${localPort}`}`;
  }
}

/** RFC 7617: base64 of `name:password`. Undefined when the header is of another scheme or malformed. */
export function basicCredentials(header: string): { name: string; password: string } | undefined {
  const [, encoded] = /^basic +([A-Za-z0-9+/]+={0,2})$/i.exec(header) ?? [];
  if (encoded === undefined) return undefined;
  const text = Buffer.from(encoded, 'base64').toString();
  const colon = text.indexOf(':');
  return colon < 0 ? undefined : { name: text.slice(0, colon), password: text.slice(colon + 1) };
}
