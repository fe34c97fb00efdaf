/**
 * Client of OCI registries (distribution-spec 1.1, "Pull" and "Content Discovery"): what it returns has been verified
 * against the digest that it was asked for by.
 */
import { type Logger, log } from '../telemetry/logger.js';
import type { CredentialFinder } from './credentials.js';
import { dockerCredentials } from './docker-config.js';
import type { HttpTimeouts } from './http-client.js';
import type { Reference } from './reference.js';
import { type EndpointOptions, RegistryEndpoint } from './registry-endpoint.js';
import { type TrustOptions } from './registry-trust.js';
import { Repository } from './repository.js';

export interface RegistryClientOptions extends HttpTimeouts, TrustOptions {
  /** Default: Docker's configuration, and that of Podman. */
  credentials?: CredentialFinder;
  /** URLs of mirrors that are asked first, by registry (`docker.io`, `host:port`, or `*`). */
  mirrors?: Readonly<Record<string, readonly string[]>>;
  env?: NodeJS.ProcessEnv;
  logger?: Logger;
}

/** Docker Hub's API has another host than its images' names (moby, registry/config.go). */
const API_HOSTS: Readonly<Record<string, string>> = { 'docker.io': 'registry-1.docker.io' };

export class RegistryClient {
  readonly #options: RegistryClientOptions;
  readonly #endpoints = new Map<string, RegistryEndpoint>();

  constructor(options: RegistryClientOptions = {}) {
    this.#options = options;
  }

  /** The repository of a reference; nothing is contacted yet. Throws RegistryError INVALID_URL for a bad mirror. */
  repository({ domain, path }: Pick<Reference, 'domain' | 'path'>): Repository {
    const { mirrors = {}, logger = log } = this.#options;
    const mirrored = (mirrors[domain] ?? mirrors['*'] ?? []).map((url) => this.#mirror(url, domain));
    const apiHost = API_HOSTS[domain];
    const upstream = this.#endpoint(domain, apiHost === undefined ? {} : { url: apiHost });
    return new Repository({ domain, path, upstream, mirrors: mirrored, logger });
  }

  /** How other hosts than the registry are spoken to, on its behalf. */
  get transport(): HttpTimeouts & TrustOptions & { env: NodeJS.ProcessEnv } {
    const { credentials: _, mirrors: __, logger: ___, ...transport } = this.#options;
    return { env: process.env, ...transport };
  }

  /** Ends what is under way. */
  async close(): Promise<void> {
    await Promise.all([...this.#endpoints.values()].map((endpoint) => endpoint.close()));
    this.#endpoints.clear();
  }

  #mirror(url: string, mirrorOf: string): RegistryEndpoint {
    const domain = url.replace(/^https?:\/\//i, '').replace(/[/?#].*$/, '');
    return this.#endpoint(domain, { url, mirrorOf });
  }

  #endpoint(domain: string, place: Pick<EndpointOptions, 'url' | 'mirrorOf'>): RegistryEndpoint {
    const key = JSON.stringify([domain, place]);
    const known = this.#endpoints.get(key);
    if (known !== undefined) return known;
    const { env = process.env, credentials = dockerCredentials({ env }) } = this.#options;
    const endpoint = new RegistryEndpoint({
      ...this.#options,
      domain,
      ...place,
      credentials,
      env,
    });
    this.#endpoints.set(key, endpoint);
    return endpoint;
  }
}
