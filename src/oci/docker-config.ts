/**
 * Credentials from Docker's configuration (`$DOCKER_CONFIG/config.json`, `~/.docker/config.json`) and from the file
 * of Podman, Buildah and Skopeo (containers-auth.json(5)), which has the same fields.
 *
 * Files and helpers are asked anew each time: a mount that lives for days follows a `docker login`.
 */
import { open } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { askHelper, type HelperOptions } from './credential-helper.js';
import { type CredentialFinder, type CredentialParts, RegistryCredentials } from './credentials.js';
import { JsonObject } from './json-object.js';
import { RegistryError } from './registry-error.js';

/** Pull secrets of a large cluster have some hundred entries of a few KiB. */
const MAX_CONFIG_BYTES = 4 << 20;
const DOCKER_HUB = 'docker.io';
/** The name that Docker Hub has in Docker's configuration, for reasons of history. */
const DOCKER_HUB_KEY = 'https://index.docker.io/v1/';
const DOCKER_HUB_HOSTS = new Set(['docker.io', 'index.docker.io', 'registry-1.docker.io']);

export interface DockerConfigOptions {
  env?: NodeJS.ProcessEnv;
  helper?: Pick<HelperOptions, 'timeout'>;
}

/** The finder over the files that `env` leads to: Docker's first, then that of containers. */
export function dockerCredentials({ env = process.env, helper }: DockerConfigOptions = {}): CredentialFinder {
  return async (domain, path) => {
    for (const file of configFiles(env)) {
      const config = await readConfig(file);
      if (config === undefined) continue;
      const found = await credentialsIn(config, file, domain, path, { env, ...helper });
      if (found !== undefined) return found;
    }
    return undefined;
  };
}

function configFiles(env: NodeJS.ProcessEnv): string[] {
  const docker = env['DOCKER_CONFIG'] || join(env['HOME'] || homedir(), '.docker');
  const containers = env['REGISTRY_AUTH_FILE']
    ? [env['REGISTRY_AUTH_FILE']]
    : env['XDG_RUNTIME_DIR']
      ? [join(env['XDG_RUNTIME_DIR'], 'containers/auth.json')]
      : [];
  return [join(docker, 'config.json'), ...containers];
}

async function readConfig(file: string): Promise<JsonObject | undefined> {
  const invalid = (why: string) =>
    new RegistryError('INVALID_CONFIG', `${file}: ${why}; repair it or remove it`);
  let bytes: Uint8Array;
  try {
    const handle = await open(file, 'r');
    try {
      if ((await handle.stat()).size > MAX_CONFIG_BYTES)
        throw invalid(`larger than ${MAX_CONFIG_BYTES} bytes`);
      bytes = await handle.readFile();
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (error instanceof RegistryError) throw error;
    const code = (error as NodeJS.ErrnoException).code ?? '';
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw invalid(`cannot be read (${code})`);
  }
  if (Buffer.from(bytes).toString().trim() === '') return undefined;
  try {
    return JsonObject.parse(bytes, MAX_CONFIG_BYTES, 'INVALID_CONFIG', file);
  } catch {
    // The cause would quote the file, secrets and all.
    throw invalid('not a JSON object');
  }
}

async function credentialsIn(
  config: JsonObject,
  file: string,
  domain: string,
  path: string,
  helperOptions: HelperOptions,
): Promise<RegistryCredentials | undefined> {
  const server = domain === DOCKER_HUB ? DOCKER_HUB_KEY : domain;
  const helpers = config.stringMap('credHelpers') ?? {};
  const named = Object.entries(helpers).find(([key]) => sameHost(key, domain))?.[1];
  const helper = named || config.string('credsStore');
  if (helper) {
    const found = await askHelper(helper, server, helperOptions);
    if (found !== undefined) return found;
  }
  const auths = config.object('auths');
  const key = auths && bestKey(config.keys('auths') ?? [], domain, path);
  const entry = key === undefined ? undefined : auths?.object(key);
  return entry === undefined ? undefined : decodeEntry(entry, file, key ?? '');
}

/** `https://host/v1/` and `host` are the same host; `host/repository` (of containers) is not. */
function hostOf(key: string): string {
  return key.replace(/^https?:\/\//i, '').replace(/\/(?:v[12]\/?)?$/i, '');
}

function sameHost(key: string, domain: string): boolean {
  const host = hostOf(key);
  return domain === DOCKER_HUB ? DOCKER_HUB_HOSTS.has(host) : host.toLowerCase() === domain.toLowerCase();
}

/** The key of `auths` that fits best: the longest `host/path` that the repository lies under, then the host. */
function bestKey(keys: readonly string[], domain: string, path: string): string | undefined {
  const parts = path.split('/');
  for (let count = parts.length; count > 0; count--) {
    const wanted = `${domain}/${parts.slice(0, count).join('/')}`;
    if (keys.includes(wanted)) return wanted;
  }
  return (
    [domain === DOCKER_HUB ? DOCKER_HUB_KEY : domain].find((exact) => keys.includes(exact)) ??
    keys.find((key) => sameHost(key, domain))
  );
}

function decodeEntry(entry: JsonObject, file: string, key: string): RegistryCredentials | undefined {
  const parts: CredentialParts = {};
  const identityToken = entry.string('identitytoken');
  if (identityToken) parts.identityToken = identityToken;
  const registryToken = entry.string('registrytoken');
  if (registryToken) parts.registryToken = registryToken;
  const auth = entry.string('auth');
  if (auth) {
    const text = Buffer.from(auth, 'base64').toString();
    const colon = text.indexOf(':');
    if (colon <= 0) {
      throw new RegistryError(
        'INVALID_CONFIG',
        `${file}: the entry of ${key} is not base64 of NAME:PASSWORD; log in with docker login ${key}`,
      );
    }
    parts.username = text.slice(0, colon);
    // Old versions of Docker padded the password with zero bytes.
    parts.password = text.slice(colon + 1).replace(/\0+$/, '');
  } else if (entry.string('username') && entry.string('password') !== undefined) {
    parts.username = entry.string('username') ?? '';
    parts.password = entry.string('password') ?? '';
  }
  return Object.keys(parts).length === 0 ? undefined : new RegistryCredentials(parts);
}
