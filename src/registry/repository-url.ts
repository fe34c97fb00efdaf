/**
 * Repository names contain slashes, which no router's parameter does. So the name in a request's path is made one
 * component, percent-encoded, before the router sees it, and routes say `/v2/:name/manifests/:reference`.
 *
 * Any text in the place of the name becomes `name`, whether it is one or not (the route then says what is wrong with
 * it), and one that is percent-encoded already stays so once decoded: `a%2Fb` and `a/b` are not the same name.
 */

interface Form {
  prefix: string;
  /** The repository name, and what stands after it. The longest possible name wins, as in CNCF Distribution. */
  path: RegExp;
  /** How this API writes names that others would refuse. */
  plainName?: (name: string) => string;
}

/** The scripts of Project Teleport are called with names like `/team/app`. */
const withoutSlash = (name: string) => name.replace(/^\/+/, '');

const FORMS: readonly Form[] = [
  {
    prefix: '/v2/',
    path: /^(.*)(\/(?:blobs\/uploads(?:\/[^/]*)?|blobs\/[^/]*|manifests\/[^/]*|tags\/list|referrers\/[^/]*))$/s,
  },
  { prefix: '/orca/v1/', path: /^(.*)(\/(?:_expand|_expansion\/[^/]*))$/s },
  { prefix: '/mount/v1/', path: /^(.*)(\/_(?:manifests|profiles)\/[^/]*)$/s, plainName: withoutSlash },
  // Clients of ACR percent-encode the slashes of a name.
  {
    prefix: '/acr/v1/',
    path: /^((?!_catalog$)(?:(?!\/_).)+)()$/s,
    plainName: (name) => withoutSlash(name.replaceAll(/%2f/gi, '/')),
  },
  {
    prefix: '/teleport/v1/',
    path: /^(.*)(\/(?:orca\.json|images\/(?:oci-layout|index\.json|blobs\/[^/]*\/[^/]*)|layers\/[^/]*\/[^/]*))$/s,
  },
];

/** The URL (path and query, as it came) for the router. */
export function routedUrl(url: string): string {
  const { form, name, rest, query } = partsOf(url) ?? {};
  if (form === undefined || name === undefined) return url;
  return `${form.prefix}${encodeURIComponent(form.plainName?.(name) ?? name)}${rest}${query}`;
}

/** True of a path that names a repository's resource, whatever the method. */
export function isRepositoryUrl(url: string): boolean {
  return partsOf(url) !== undefined;
}

function partsOf(url: string): { form: Form; name: string; rest: string; query: string } | undefined {
  const form = FORMS.find(({ prefix }) => url.startsWith(prefix));
  if (form === undefined) return undefined;
  const end = /[?#]/.exec(url)?.index ?? url.length;
  const [, name, rest] = form.path.exec(url.slice(form.prefix.length, end)) ?? [];
  return name === undefined || rest === undefined ? undefined : { form, name, rest, query: url.slice(end) };
}

/**
 * Where a HEAD request for a manifest goes on whose repository name begins with slashes: the scripts of Project
 * Teleport ask so, and follow. CNCF Distribution redirects all such requests.
 */
export function redirectedUrl(url: string): string | undefined {
  const isManifest = /^\/v2\/\/+[^/?#][^?#]*\/manifests\/[^/?#]+$/.test(url);
  return isManifest ? url.replace(/^\/v2\/\/+/, '/v2/') : undefined;
}
