/** From what a command was asked for to what a process with another working directory and environment needs to know. */
import { readlinkSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { ImageRequest } from '../mount/open-image.js';
import type { ImageOrder } from './api.js';

/** The process that somebody started a command as. */
export interface Caller {
  /** Absolute. */
  directory: string;
  environment: Readonly<Record<string, string | undefined>>;
}

export function thisCaller(): Caller {
  return { directory: process.cwd(), environment: process.env };
}

/** What credentials, registries and shares depend on; nothing else of an environment leaves the caller. */
const PASSED_ON =
  /^(ORCA_SMB_(USER|PASSWORD|DOMAIN)|HOME|DOCKER_CONFIG|REGISTRY_AUTH_FILE|XDG_RUNTIME_DIR|(https?|no|all)_proxy)$/i;

export function orderOf(request: ImageRequest, { directory, environment }: Caller): ImageOrder {
  const { store, credentials, registry } = request;
  const passedOn = Object.entries(environment).filter(
    (entry): entry is [string, string] => PASSED_ON.test(entry[0]) && entry[1] !== undefined,
  );
  return {
    ...request,
    ...(store !== undefined && { store: absoluteStore(store, directory) }),
    ...(credentials !== undefined && { credentials: resolve(directory, credentials) }),
    ...(registry?.caFile !== undefined && {
      registry: { ...registry, caFile: resolve(directory, registry.caFile) },
    }),
    environment: Object.fromEntries(passedOn),
  };
}

function absoluteStore(store: string, directory: string): string {
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(store)) return store;
  return resolve(directory, store.replace(/^file:/, ''));
}

/** Mount namespace and root of this process: with others, the same path is another file. */
export function fileTree(): string {
  const { dev, ino } = statSync('/', { bigint: true });
  return `${readlinkSync('/proc/self/ns/mnt')} ${dev}:${ino}`;
}
