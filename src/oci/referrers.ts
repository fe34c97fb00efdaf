/** Listing referrers (distribution-spec 1.1): the API page by page, or the tag schema of registries before it. */
import { parseDigest } from './digest.js';
import { headerOf } from './http-client.js';
import { type Descriptor, MAX_MANIFEST_BYTES, MEDIA_TYPE, parseIndex } from './manifest.js';
import { RegistryError } from './registry-error.js';
import type { Repository } from './repository.js';

/** A list of 4 MiB has some ten thousand entries; a registry that always has a next page must end. */
const MAX_PAGES = 64;
/** What registries without the API answer to it, besides 404. */
const NO_API = [400, 404, 405, 406, 501];

/** The referrers of `digest`, in the registry's order; of `artifactType` only, if it is given. */
export async function readReferrers(
  repository: Repository,
  digest: string,
  artifactType: string | undefined,
  signal: AbortSignal | undefined,
): Promise<Descriptor[]> {
  const what = `referrers of ${repository.name}@${digest}`;
  const filter = artifactType === undefined ? '' : `?artifactType=${encodeURIComponent(artifactType)}`;
  const found: Descriptor[] = [];
  let path: string | undefined = `/v2/${repository.path}/referrers/${digest}${filter}`;
  for (let page = 0; path !== undefined; page++) {
    if (page === MAX_PAGES) throw new RegistryError('TOO_LARGE', `${what}: more than ${MAX_PAGES} pages`);
    const accept = page === 0 ? [200, ...NO_API] : [200];
    const headers = { accept: MEDIA_TYPE.index };
    const answer = await repository.ask({ path, headers, accept, signal, what }, MAX_MANIFEST_BYTES);
    const type = headerOf(answer.headers, 'content-type') ?? '';
    if (answer.status !== 200 || (page === 0 && !type.startsWith(MEDIA_TYPE.index))) {
      found.push(...(await readTagSchema(repository, digest, signal)));
      break;
    }
    found.push(...parseIndex(answer.bytes, what).manifests);
    path = nextPage(headerOf(answer.headers, 'link'), path);
  }
  // A registry need not filter (OCI-Filters-Applied).
  return artifactType === undefined ? found : found.filter((entry) => entry.artifactType === artifactType);
}

/** "Referrers Tag Schema": an index under the tag `sha256-<hex>`, cut to what a tag can hold. */
async function readTagSchema(
  repository: Repository,
  digest: string,
  signal: AbortSignal | undefined,
): Promise<Descriptor[]> {
  const { algorithm, hex } = parseDigest(digest);
  const tag = `${algorithm.slice(0, 32)}-${hex.slice(0, 64)}`;
  try {
    const { bytes } = await repository.manifest(tag, signal);
    return parseIndex(bytes, `referrers of ${repository.name}@${digest}`).manifests;
  } catch (error) {
    if (error instanceof RegistryError && error.status === 404) return [];
    throw error;
  }
}

/** Path and query of `Link: <…>; rel="next"` (RFC 8288), on the same registry. */
function nextPage(link: string | undefined, path: string): string | undefined {
  const target = /<([^>]*)>\s*;[^,]*\brel="?next"?/i.exec(link ?? '')?.[1];
  if (target === undefined) return undefined;
  const here = new URL(path, 'http://registry.invalid');
  if (!URL.canParse(target, here.href)) return undefined;
  const { pathname, search } = new URL(target, here.href);
  return pathname.startsWith('/v2/') ? `${pathname}${search}` : undefined;
}
