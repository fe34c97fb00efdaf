/** Repository names as names of directories: `a/b` is `a+b`, since no repository name has a plus. */
export function escapedName(repository: string): string {
  return repository.replaceAll('/', '+');
}

export function repositoryOf(escaped: string): string {
  return escaped.replaceAll('+', '/');
}
