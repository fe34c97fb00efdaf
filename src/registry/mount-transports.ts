/** By which transports a client may read the store of a repository, and what it needs for that. */
import { basename, join } from 'node:path';
import type { FastifyRequest } from 'fastify';
import { blockDigestsPath, layerPath } from '../image/catalog.js';
import { isLoopback } from '../oci/http-client.js';
import { log } from '../telemetry/logger.js';
import type { RegistryContext } from './context.js';
import type { ShareAccounts } from './share-accounts.js';
import type { SignedLinks } from './signed-link.js';
import { ACCESS_SECONDS } from './tokens.js';

export interface MountRequest {
  /** Where the client is. */
  region: string | undefined;
  /** What it can use. */
  kinds: readonly string[];
  /** Whether it wants signed links to the layers. */
  links: boolean;
  /** Whether it wants the manifests with the answer. */
  documents: boolean;
}

/** Where the shares are, as clients see them. */
export interface ShareLocation {
  /** `smb://HOST[:PORT]`. */
  origin: string;
  /** What the names of shares begin with. */
  prefix: string;
  /** Where smbd finds the stores of the repositories; default: where they are. */
  directory: string | undefined;
  accounts: ShareAccounts;
}

export interface OfferOptions {
  links: SignedLinks;
  /** The directory of a repository's store. */
  sharePath(repository: string): string;
  share: ShareLocation | undefined;
  /** A client that does not say where it is counts as being elsewhere. */
  requireRegion: boolean;
}

type Transport =
  | { kind: 'smb'; url: string; username: string; password: string }
  | { kind: 'https'; url: string; token?: string; expiresAt?: string }
  | { kind: 'blob' };

export interface Offer {
  sameRegion: boolean;
  /** Best first. */
  transports: Transport[];
  /** Why better ones are left out. */
  reasons: string[];
  /** Signed links to the files of a layer, where they are wanted. */
  linkTo(diffID: string): { links?: { vhd: string; digests: string } };
}

/** What is offered of an image, whose layers are there when `isExpanded`. */
export async function offeredTransports(
  context: RegistryContext,
  options: OfferOptions,
  request: FastifyRequest,
  asked: MountRequest & { repository: string; user: string | undefined },
  isExpanded: boolean,
): Promise<Offer> {
  const { access, region } = context;
  const { kinds, repository } = asked;
  const sameRegion =
    region === undefined || (asked.region === undefined ? !options.requireRegion : asked.region === region);
  const reasons: string[] = [];
  const transports: Transport[] = [];
  const base = `${access.origin(request)}/teleport/v1/${repository}/`;
  if (isExpanded && !sameRegion) {
    const where =
      asked.region === undefined ? 'the client does not say where it is' : `it is in ${asked.region}`;
    reasons.push(`the share is in ${region}, and ${where}`);
  }
  const near = isExpanded && sameRegion;
  if (near && kinds.includes('smb') && options.share !== undefined) {
    if (isPrivate(access.origin(request)))
      transports.push(...(await smb(options, options.share, repository, reasons)));
    else reasons.push('passwords of shares are sent by TLS only');
  }
  if (near && kinds.includes('https')) {
    transports.push({ kind: 'https', url: base, ...(await tokenFor(context, asked)) });
  }
  if (kinds.includes('blob')) transports.push({ kind: 'blob' });
  const link = (path: string) => `${base}${path}?${options.links.sign(repository, path)}`;
  const linkTo = (diffID: string) =>
    near && asked.links
      ? { links: { vhd: link(layerPath(diffID)), digests: link(blockDigestsPath(diffID)) } }
      : {};
  return { sameRegion, transports, reasons, linkTo };
}

async function smb(
  { sharePath }: OfferOptions,
  share: ShareLocation,
  repository: string,
  reasons: string[],
): Promise<Transport[]> {
  const path = sharePath(repository);
  const directory = share.directory === undefined ? path : join(share.directory, basename(path));
  try {
    const { name, password } = await share.accounts.ensure(repository, share.prefix, directory);
    return [{ kind: 'smb', url: `${share.origin}/${name}`, username: name, password }];
  } catch (error) {
    log.error('a share has no account', { repository, error: error as Error });
    reasons.push('the share of the repository is not there now');
    return [];
  }
}

/**
 * A token for the files of this repository's store and for nothing else, not even for another one of its kind. It is
 * the user's, so it goes when the user does.
 */
async function tokenFor(
  { access }: RegistryContext,
  { repository, user }: { repository: string; user: string | undefined },
): Promise<{ token?: string; expiresAt?: string }> {
  if (access.isOpen) return {};
  const { token, issuedAt } = await access.options.tokens.issueAccess(user, [
    { type: 'repository', name: repository, actions: ['teleport_read'] },
  ]);
  return { token, expiresAt: new Date(issuedAt.getTime() + ACCESS_SECONDS * 1000).toISOString() };
}

/** Nobody on the way reads what is sent there. */
function isPrivate(origin: string): boolean {
  const { protocol, hostname } = new URL(origin);
  return protocol === 'https:' || isLoopback(hostname);
}
