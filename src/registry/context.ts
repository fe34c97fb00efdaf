/** What the routes share. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Access, Principal } from './access.js';
import { ApiError } from './api-error.js';
import type { RepositoryAttributes } from './attributes.js';
import type { Expansion } from './expansion/expansion.js';
import type { Repository } from './repository.js';
import type { RequestAction } from './scope.js';
import type { RegistryStorage } from './storage.js';
import type { UploadSlots } from './upload-slots.js';

/**
 * Called after a manifest has been stored, under these tags; the push is answered when it has ended. What it throws is
 * logged and does not fail the push.
 */
export type ManifestHook = (
  repository: string,
  manifestDigest: string,
  tags?: readonly string[],
) => void | Promise<void>;

export interface RegistryContext {
  readonly storage: RegistryStorage;
  readonly access: Access;
  readonly slots: UploadSlots;
  /** Milliseconds after which a client that neither sends nor takes anything is given up. */
  readonly stallTimeout: number;
  /** Where this registry is, for the mount API. */
  readonly region: string | undefined;
  readonly onManifest?: ManifestHook | undefined;
  /** Absent when nothing is expanded. */
  readonly expansion?: Expansion | undefined;
  /** Takes the account of a repository's share away, when nobody may read it any more. */
  readonly closeShare?: ((repository: string) => Promise<void>) | undefined;
}

/** A group of endpoints; it adds its routes to the server. */
export type RouteGroup = (server: FastifyInstance, context: RegistryContext) => void;

/** Parameters of the routes that name a repository. */
export interface RepositoryParams {
  name: string;
}

const NEEDED: Readonly<Partial<Record<RequestAction, keyof RepositoryAttributes>>> = {
  pull: 'readEnabled',
  push: 'writeEnabled',
  delete: 'deleteEnabled',
  teleport_read: 'readEnabled',
};

/**
 * The repository that a request is about, once it is sure that the client may do this with it. Throws ApiError
 * UNAUTHORIZED, DENIED, UNSUPPORTED (not with this repository), or OciError for a name that is none.
 */
export async function authorized(
  context: RegistryContext,
  request: FastifyRequest,
  action: RequestAction,
  mountFrom?: string,
): Promise<Repository> {
  return (await admitted(context, request, action, mountFrom)).repository;
}

/** As `authorized`, and who it is. */
export async function admitted(
  context: RegistryContext,
  request: FastifyRequest,
  action: RequestAction,
  mountFrom?: string,
): Promise<{ repository: Repository; principal: Principal }> {
  const { name } = request.params as RepositoryParams;
  const repository = context.storage.repository(name);
  const principal = await context.access.require(request, name, action, mountFrom);
  await requireAttribute(repository, action);
  return { repository, principal };
}

/** Throws ApiError UNSUPPORTED when an attribute of the repository forbids this to everybody. */
export async function requireAttribute(repository: Repository, action: RequestAction): Promise<void> {
  const attribute = NEEDED[action];
  if (attribute !== undefined) await checkAttribute(repository, attribute);
}

/** Throws ApiError UNSUPPORTED where the attribute is false. */
export async function checkAttribute(
  repository: Repository,
  attribute: keyof RepositoryAttributes,
): Promise<void> {
  if ((await repository.attributes())[attribute]) return;
  throw new ApiError('UNSUPPORTED', { message: `repository ${repository.name}: ${attribute} is false` });
}
