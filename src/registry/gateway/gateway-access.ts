/**
 * Who may do what at a gateway. In this order: a token that the gateway itself has given; a user of its users file,
 * if there is one; and the upstream, which is asked with the client's own credentials. All of this is for what the
 * gateway adds; requests of the distribution API go to the upstream, which decides by itself.
 */
import type { FastifyRequest } from 'fastify';
import { isDigest } from '../../oci/digest.js';
import { Access, type AccessOptions, basicCredentials, type Principal, userMay } from '../access.js';
import { ApiError } from '../api-error.js';
import { allows, grantedAction, type RequestAction } from '../scope.js';
import type { RegistryStorage } from '../storage.js';
import type { ClientHeaders, UpstreamRights } from './upstream-rights.js';

/** Manifests that are asked for, one after the other, where a repository has no tags. */
const MAX_CANDIDATES = 4;

export class GatewayAccess extends Access {
  constructor(
    options: AccessOptions,
    private readonly rights: UpstreamRights,
    private readonly storage: RegistryStorage,
    /** Headers of requests to the upstream on a client's behalf. */
    private readonly headersOf: (request: FastifyRequest) => ClientHeaders,
  ) {
    super(options);
  }

  /** The upstream decides; even one that is open has been asked. */
  override get isOpen(): boolean {
    return false;
  }

  /** Somebody with rights here; those that only the upstream knows of may nothing until it has been asked. */
  override async authenticate(request: FastifyRequest): Promise<Principal> {
    return (await this.own(request.headers.authorization)) ?? clientOf(request, () => false);
  }

  override async require(
    request: FastifyRequest,
    repository: string,
    action: RequestAction,
  ): Promise<Principal> {
    const { digest } = request.params as { digest?: string };
    return this.requireWith(request, repository, action, isDigest(digest ?? '') ? digest : undefined);
  }

  /** As `require`; a right to pull is that to pull the manifest `digest`, when one is given. */
  async requireWith(
    request: FastifyRequest,
    repository: string,
    action: RequestAction,
    digest: string | undefined,
  ): Promise<Principal> {
    const own = await this.own(request.headers.authorization);
    if (own?.may(repository, action)) return own;
    await this.requireUpstream(this.headersOf(request), repository, action, digest);
    return clientOf(request, (name, wanted) => name === repository && wanted === action);
  }

  /** What `require` asks of the upstream, for given headers. */
  async requireUpstream(
    headers: ClientHeaders,
    repository: string,
    action: RequestAction,
    digest?: string,
  ): Promise<void> {
    switch (grantedAction(action)) {
      case 'pull':
        return this.rights.requirePull(headers, repository, digest, () => this.manifests(repository));
      case 'push':
      case 'metadata':
        return this.rights.requirePush(headers, repository);
      default:
        throw new ApiError('DENIED', { message: `${action} is for the upstream registry to decide` });
    }
  }

  override async requireAny(request: FastifyRequest): Promise<void> {
    if ((await this.own(request.headers.authorization)) === undefined)
      await this.rights.requireAny(this.headersOf(request));
  }

  override async requireCatalog(request: FastifyRequest): Promise<Principal> {
    const own = await this.own(request.headers.authorization);
    if (own !== undefined) return own;
    await this.rights.requireCatalog(this.headersOf(request));
    return clientOf(request, () => false, true);
  }

  /** The bearer of a token of ours, or a user of the users file. */
  async own(authorization: string | undefined): Promise<Principal | undefined> {
    if (authorization === undefined) return undefined;
    const { users, tokens } = this.options;
    const [, token] = /^bearer +([\w.~+/=-]+)$/i.exec(authorization) ?? [];
    if (token !== undefined) {
      const claims = await tokens.verifyAccess(token);
      if (claims === undefined) return undefined;
      // A user of the file has no more than the file gives now.
      const holder = claims.user === undefined ? undefined : await users?.find(claims.user);
      if (claims.user !== undefined && holder === undefined) return undefined;
      return {
        user: claims.user,
        name: claims.user ?? 'token',
        may: (repository, action) =>
          allows(claims.access, repository, action) &&
          (holder === undefined || userMay(holder, repository, grantedAction(action))),
        mayList: (repository) =>
          allows(claims.access, repository, 'pull') &&
          (holder === undefined || holder.may(repository, 'pull')),
      };
    }
    const basic = users && basicCredentials(authorization);
    // Names that are not in the file are the upstream's; comparing their passwords would only take time.
    if (basic === undefined || (await users?.find(basic.name)) === undefined) return undefined;
    const user = await users?.login(basic.name, basic.password);
    return (
      user && {
        user: user.name,
        name: user.name,
        may: (repository, action) => userMay(user, repository, grantedAction(action)),
        mayList: (repository) => user.may(repository, 'pull'),
      }
    );
  }

  /** Images of the repository that the gateway has seen. */
  private async manifests(repository: string): Promise<string[]> {
    const found: string[] = [];
    const kept = this.storage.repository(repository);
    for await (const digest of kept.digests('_manifests')) {
      if ((await kept.manifest(digest))?.subject === undefined) found.push(digest);
      if (found.length === MAX_CANDIDATES) break;
    }
    return found;
  }
}

function clientOf(request: FastifyRequest, may: Principal['may'], lists = false): Principal {
  const name = basicCredentials(request.headers.authorization ?? '')?.name ?? 'client of the upstream';
  return { user: undefined, name, may, mayList: () => lists };
}
