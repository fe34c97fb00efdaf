/** Which containers can share one mount: those whose image and whose requests say the same of what is served, and how. */
import { repositoryName } from '../oci/reference.js';
import type { CompleteRecord } from './served-mount.js';

/** Where credentials of registries are found: nothing of it matters to a store. */
const OF_REGISTRIES = ['HOME', 'DOCKER_CONFIG', 'REGISTRY_AUTH_FILE', 'XDG_RUNTIME_DIR'];

/** Mounts with equal keys serve the same. It may hold a password, and is for this process alone. */
export function sharingKey({
  request,
  image,
  sources = [],
}: Pick<CompleteRecord, 'request' | 'image' | 'sources'>): string {
  const {
    image: name,
    mountpoint: _,
    container: __,
    pull: ___,
    wait: ____,
    replayAfter: _____,
    ...settings
  } = request;
  const environment = { ...settings.environment };
  if (settings.store !== undefined) for (const variable of OF_REGISTRIES) delete environment[variable];
  const { manifestDigest, index, devices } = image;
  return canonical({
    settings: { ...settings, environment },
    // The tag has been resolved; a repository is where to read from, and with whose credentials.
    repository: settings.store === undefined ? repositoryName(name) : '',
    documents: [manifestDigest, index.digest, ...devices.map(({ digest }) => digest)],
    // Known in another order when the registry has not been asked.
    sources: sources.map(({ kind, location }) => `${kind} ${location}`).sort(),
  });
}

/** JSON in which the order of names means nothing, and what is undefined is not there. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}
