/**
 * Repository names contain slashes, which no router's parameter does. So the name in a request's path is made one
 * component, percent-encoded, before the router sees it, and routes say `/v2/:name/manifests/:reference`.
 *
 * Any text in the place of the name becomes `name`, whether it is one or not (the route then says what is wrong with
 * it), and one that is percent-encoded already stays so once decoded: `a%2Fb` and `a/b` are not the same name.
 */

/** What stands after the repository name in each API. The longest possible name wins, as in CNCF Distribution. */
const FORMS: readonly { prefix: string; suffix: RegExp }[] = [
  {
    prefix: '/v2/',
    suffix:
      /^(.*)(\/(?:blobs\/uploads(?:\/[^/]*)?|blobs\/[^/]*|manifests\/[^/]*|tags\/list|referrers\/[^/]*))$/s,
  },
];

/** The URL (path and query, as it came) for the router. */
export function routedUrl(url: string): string {
  const form = FORMS.find(({ prefix }) => url.startsWith(prefix));
  if (form === undefined) return url;
  const end = /[?#]/.exec(url)?.index ?? url.length;
  const [, name, rest] = form.suffix.exec(url.slice(form.prefix.length, end)) ?? [];
  if (name === undefined || rest === undefined) return url;
  return `${form.prefix}${encodeURIComponent(name)}${rest}${url.slice(end)}`;
}

/** True of a path that names a repository's resource, whatever the method. */
export function isRepositoryUrl(url: string): boolean {
  return (
    routedUrl(url) !== url ||
    FORMS.some(
      ({ prefix, suffix }) =>
        url.startsWith(prefix) && suffix.test(url.slice(prefix.length).replace(/[?#].*$/s, '')),
    )
  );
}
