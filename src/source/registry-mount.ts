/** What a registry's mount API says of one image, and says again when a token has run out. */
import { isDigest } from '../oci/digest.js';
import { headerOf } from '../oci/http-client.js';
import { RegistryError } from '../oci/registry-error.js';
import type { Repository } from '../oci/repository.js';
import {
  checkManifest,
  type HttpsTransport,
  type LayerProgress,
  MAX_DESCRIPTION_BYTES,
  type MountDescription,
  parseLayerProgress,
  parseMountDescription,
  type Transport,
  type TransportKind,
} from './mount-description.js';
import { asSource } from './registry-failure.js';
import { SourceError } from './source.js';

export interface MountOptions {
  /** Where this host is, as the registry names regions. */
  region?: string;
  /** What this host can use; all by default. */
  transports?: readonly TransportKind[];
}

export type MountAnswer =
  | { state: 'ready'; description: MountDescription }
  | { state: 'expanding'; layers: LayerProgress[] }
  /** The registry has no mount API, or the repository is not enabled. */
  | { state: 'unknown' };

/** Statuses that a registry without the mount API answers to its path. */
const NO_API = [404, 405, 501];
/** A token that is refused is not renewed more often, since many reads are refused at the same time. */
const RENEWAL_PAUSE_MS = 5000;

/** Longer than a sentence and shorter than a page. */
const MAX_ANSWER_BYTES = 64 << 10;

/**
 * Publishes the startup profile of an image in place of what the registry has, for whoever may push to the repository.
 * Throws RegistryError.
 */
export async function publishProfile(
  repository: Repository,
  manifestDigest: string,
  encoded: Uint8Array,
  signal?: AbortSignal,
): Promise<void> {
  await repository.ask(
    {
      method: 'PUT',
      path: `/mount/v1/${repository.path}/_profiles/${manifestDigest}`,
      headers: { 'content-type': 'application/octet-stream' },
      body: encoded,
      accept: [200, 201],
      signal,
      what: `startup profile of ${repository.name}@${manifestDigest}`,
    },
    MAX_ANSWER_BYTES,
  );
}

/**
 * Asks the registry how an image can be read, by tag or digest; `documents`: send the manifests with the answer.
 * Throws RegistryError, and OciError PROTOCOL for an answer that is malformed.
 */
export async function askMount(
  repository: Repository,
  reference: string,
  { region, transports = ['smb', 'https', 'blob'] }: MountOptions,
  { signal, documents = false }: { signal?: AbortSignal | undefined; documents?: boolean } = {},
): Promise<MountAnswer> {
  const what = `mount of ${repository.name}${isDigest(reference) ? '@' : ':'}${reference}`;
  const query = new URLSearchParams({
    ...(region && { region }),
    transports: transports.join(','),
    ...(documents && { documents: 'true' }),
  });
  const path = `/mount/v1/${repository.path}/_manifests/${reference}?${query}`;
  const headers = { accept: 'application/json' };
  const accept = [200, 409, ...NO_API];
  let answer: Awaited<ReturnType<Repository['ask']>>;
  try {
    answer = await repository.ask({ path, headers, accept, signal, what }, MAX_DESCRIPTION_BYTES);
  } catch (error) {
    // Some registries refuse every path that they do not know, and not in the words of the distribution API.
    const refused = error instanceof RegistryError && [400, 401, 403].includes(error.status ?? 0);
    if (refused && error.declared === undefined) return { state: 'unknown' };
    throw error;
  }
  if (answer.status === 409) return { state: 'expanding', layers: parseLayerProgress(answer.bytes) };
  // And some answer with the page of their user interface.
  const isJson = /^application\/(?:json|[\w.-]+\+json)\b/i.test(
    headerOf(answer.headers, 'content-type') ?? '',
  );
  if (answer.status !== 200 || !isJson) return { state: 'unknown' };
  const description = parseMountDescription(answer.bytes, answer.url, what);
  if (isDigest(reference)) checkManifest(description, reference, what);
  return { state: 'ready', description };
}

export class RegistryMount {
  readonly #repository: Repository;
  readonly #digest: string;
  readonly #options: MountOptions;
  #description: MountDescription | undefined;
  #renewal: Promise<void> | undefined;
  #renewedAt = Number.NEGATIVE_INFINITY;

  /** `description`: what the registry has just said. */
  constructor(
    repository: Repository,
    manifestDigest: string,
    options: MountOptions = {},
    description?: MountDescription,
  ) {
    this.#repository = repository;
    this.#digest = manifestDigest;
    this.#options = options;
    this.#description = description;
  }

  /** The Authorization header for a https transport, as HttpsSource asks for it. */
  async authorization(refused?: string): Promise<string | undefined> {
    if (this.#description === undefined) await this.#renew();
    const token = this.#offered<HttpsTransport>('https')?.token;
    const isRefused = refused !== undefined && token?.header === refused;
    if (token === undefined || (token.isFresh && !isRefused)) return token?.header;
    try {
      await this.#renew();
    } catch (error) {
      // It may be good for another moment; if not, the server says so.
      if (isRefused || Date.now() >= token.expiresAt) throw error;
    }
    return this.#offered<HttpsTransport>('https')?.token?.header;
  }

  /**
   * The transport of this kind, which the registry is asked for where it has not been yet or where the server has
   * refused `refused`. Throws SourceError ACCESS_DENIED when the registry offers it no longer.
   */
  async transport<T extends Transport>(kind: T['kind'], refused?: T): Promise<T> {
    const known = this.#offered<T>(kind);
    if (known === undefined || known === refused) await this.#renew();
    const now = this.#offered<T>(kind);
    if (now !== undefined) return now;
    const reason = this.#description?.reason ?? 'it does not say why';
    throw new SourceError(
      'ACCESS_DENIED',
      `${this.#name}: the registry offers no ${kind} any more: ${reason}`,
    );
  }

  #offered<T extends Transport>(kind: T['kind']): T | undefined {
    return this.#description?.transports.find((offered) => offered.kind === kind) as T | undefined;
  }

  get #name(): string {
    return `${this.#repository.name}@${this.#digest}`;
  }

  /** One question at a time, whose answer all share. */
  #renew(): Promise<void> {
    if (performance.now() - this.#renewedAt < RENEWAL_PAUSE_MS) return Promise.resolve();
    this.#renewal ??= asSource(askMount(this.#repository, this.#digest, this.#options))
      .then((answer) => {
        this.#renewedAt = performance.now();
        if (answer.state === 'ready') {
          this.#description = answer.description;
          return;
        }
        throw new SourceError(
          'ACCESS_DENIED',
          `${this.#name} can no longer be mounted: the registry says ${answer.state}`,
        );
      })
      .finally(() => {
        this.#renewal = undefined;
      });
    return this.#renewal;
  }
}
