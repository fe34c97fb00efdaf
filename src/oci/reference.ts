/**
 * Image references as Docker reads them (github.com/distribution/reference): `[DOMAIN/]PATH[:TAG][@DIGEST]`,
 * where a familiar name such as `python` stands for `docker.io/library/python`.
 */
import { isDigest, printable } from './digest.js';
import { OciError } from './oci-error.js';

export interface Reference {
  /** Host name or address with optional port; `docker.io` when the text names none. */
  domain: string;
  /** Repository path in the registry, such as `library/python`. */
  path: string;
  tag?: string;
  digest?: string;
}

const DEFAULT_DOMAIN = 'docker.io';
const LEGACY_DOMAIN = 'index.docker.io';
const OFFICIAL = 'library/';
export const DEFAULT_TAG = 'latest';
/** Cap of the reference grammar on the repository path, in characters. */
const MAX_PATH_LENGTH = 255;
/** Domain (RFC 1035: 255, and a port), path, tag (128) and digest together; bounds the work of the expressions. */
const MAX_REFERENCE_LENGTH = 1024;

const LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?';
const DOMAIN = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?$`);
const COMPONENT = '[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*';
const PATH = new RegExp(`^${COMPONENT}(?:/${COMPONENT})*$`);
const TAG = /^\w[\w.-]{0,127}$/;

/** True of a string that can be the tag of a reference. */
export function isTag(text: string): boolean {
  return TAG.test(text);
}

/** True of a string that can be a repository path (`NAME` of the distribution specification). */
export function isRepositoryPath(text: string): boolean {
  return text.length <= MAX_PATH_LENGTH && PATH.test(text);
}

/** Parses a reference and completes familiar names. Throws INVALID_REFERENCE, which says what is wrong. */
export function parseReference(text: string): Reference {
  const invalid = (why: string) =>
    new OciError('INVALID_REFERENCE', `${printable(text)} is not an image name: ${why}`);
  if (text.length === 0) throw invalid('it is empty');
  if (text.length > MAX_REFERENCE_LENGTH)
    throw invalid(`it is longer than ${MAX_REFERENCE_LENGTH} characters`);
  if (/^[a-f0-9]{64}$/.test(text))
    throw invalid(`64 hex digits are reserved for image ids; write sha256:${text}`);

  let rest = text;
  let digest: string | undefined;
  const at = rest.indexOf('@');
  if (at >= 0) {
    digest = rest.slice(at + 1);
    rest = rest.slice(0, at);
    if (!isDigest(digest)) throw invalid(`what follows @ must be a digest (sha256:<64 hex digits>)`);
  }
  const [domain, remainder] = splitDomain(rest);
  const colon = remainder.indexOf(':');
  const path = colon < 0 ? remainder : remainder.slice(0, colon);
  const tag = colon < 0 ? undefined : remainder.slice(colon + 1);
  if (!DOMAIN.test(domain)) throw invalid(`${printable(domain)} is not a host name`);
  if (path.toLowerCase() !== path) throw invalid('the repository name must be lower case');
  if (path.length > MAX_PATH_LENGTH)
    throw invalid(`the repository name is longer than ${MAX_PATH_LENGTH} characters`);
  if (!PATH.test(path))
    throw invalid('a repository name is made of a-z, 0-9 and single . _ - / between them');
  if (tag !== undefined && !TAG.test(tag))
    throw invalid(`the tag must match [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`);
  return { domain, path, ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) };
}

/** Docker's rule for what comes before the first slash: a domain only if it looks like one. */
function splitDomain(text: string): [domain: string, remainder: string] {
  const slash = text.indexOf('/');
  const first = slash < 0 ? '' : text.slice(0, slash);
  const isDomain =
    slash >= 0 && (first === 'localhost' || /[.:]/.test(first) || first.toLowerCase() !== first);
  let domain = isDomain ? first : DEFAULT_DOMAIN;
  let remainder = isDomain ? text.slice(slash + 1) : text;
  if (domain === LEGACY_DOMAIN) domain = DEFAULT_DOMAIN;
  if (domain === DEFAULT_DOMAIN && !remainder.includes('/')) remainder = OFFICIAL + remainder;
  return [domain, remainder];
}

/** The reference with `latest` where it has neither tag nor digest. */
export function withDefaultTag(reference: Reference): Reference {
  if (reference.tag !== undefined || reference.digest !== undefined) return reference;
  return { ...reference, tag: DEFAULT_TAG };
}

/** The complete text: `docker.io/library/python:3`. */
export function formatReference(reference: Reference): string {
  return `${reference.domain}/${reference.path}${suffix(reference)}`;
}

/** The short text that Docker shows: `python:3`, `user/app`, `ghcr.io/user/app:1`. */
export function familiarReference(reference: Reference): string {
  const { domain, path } = reference;
  if (domain !== DEFAULT_DOMAIN) return formatReference(reference);
  const official = path.startsWith(OFFICIAL) && !path.slice(OFFICIAL.length).includes('/');
  return `${official ? path.slice(OFFICIAL.length) : path}${suffix(reference)}`;
}

/** The same image, whatever the name means by now, or means on another platform. */
export function pinnedReference(text: string, digest: string): string {
  return familiarReference({ ...parseReference(text), digest });
}

/**
 * What the names of all versions of an image have in common: `docker.io/library/python`. Undefined of what is named by
 * its digest alone, or by what is no reference.
 */
export function repositoryName(text: string): string | undefined {
  if (isDigest(text)) return undefined;
  try {
    const { domain, path } = parseReference(text);
    return `${domain}/${path}`;
  } catch {
    return undefined;
  }
}

function suffix({ tag, digest }: Reference): string {
  return `${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
}

/**
 * The name under which a store knows an image: familiar and with a tag, so that `python`, `python:latest` and
 * `docker.io/library/python` are one name. A name with a digest is refused, since the digest alone identifies.
 */
export function canonicalName(text: string): string {
  const reference = withDefaultTag(parseReference(text));
  if (reference.digest !== undefined) {
    throw new OciError(
      'INVALID_REFERENCE',
      `${printable(text)}: give a name with a tag, or the digest alone`,
    );
  }
  return familiarReference(reference);
}
