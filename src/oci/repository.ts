/** One repository of a registry, read through the registry's mirrors and the registry itself. */
import type { Logger } from '../telemetry/logger.js';
import { digestOf, isDigest, parseDigest, printable, verifyBytes } from './digest.js';
import { type HttpResponse, headerOf } from './http-client.js';
import { type Descriptor, MANIFEST_ACCEPT, MAX_MANIFEST_BYTES } from './manifest.js';
import { OciError } from './oci-error.js';
import { isTag } from './reference.js';
import { readReferrers } from './referrers.js';
import type { EndpointRequest, RegistryEndpoint } from './registry-endpoint.js';
import { RegistryError } from './registry-error.js';
import { RemoteBlob } from './remote-blob.js';
import { withRetries } from './retry.js';

export interface RepositoryOptions {
  domain: string;
  path: string;
  upstream: RegistryEndpoint;
  /** In the order in which they are asked. */
  mirrors: readonly RegistryEndpoint[];
  logger: Logger;
}

/** A manifest or index as it came. */
export interface FetchedManifest {
  descriptor: Descriptor;
  /** The bytes of descriptor.digest. */
  bytes: Uint8Array;
}

const ATTEMPTS = 4;

export class Repository {
  readonly domain: string;
  readonly path: string;
  readonly #options: RepositoryOptions;

  constructor(options: RepositoryOptions) {
    this.domain = options.domain;
    this.path = options.path;
    this.#options = options;
  }

  /** `domain/path`, for messages. */
  get name(): string {
    return `${this.domain}/${this.path}`;
  }

  /**
   * What a tag or digest stands for now. The descriptor comes from headers: only its digest may be relied on, once
   * the content has been verified against it. Throws RegistryError MANIFEST_UNKNOWN, …
   */
  async resolve(reference: string, signal?: AbortSignal): Promise<Descriptor> {
    return this.#onAny(signal, async (endpoint) => {
      const { headers } = await endpoint.request(this.#manifestRequest('HEAD', reference, signal));
      const digest = isDigest(reference) ? reference : (headerOf(headers, 'docker-content-digest') ?? '');
      const size = headerOf(headers, 'content-length') ?? '';
      const mediaType = mediaTypeOf(headerOf(headers, 'content-type'));
      if (!isDigest(digest) || !/^\d{1,7}$/.test(size) || mediaType === undefined) {
        return (await this.#manifestOf(endpoint, reference, undefined, signal)).descriptor;
      }
      return { mediaType, digest, size: Number(size) };
    });
  }

  /** The manifest or index of a tag, a digest or a descriptor, verified where it is not a tag. */
  async manifest(target: string | Descriptor, signal?: AbortSignal): Promise<FetchedManifest> {
    const [reference, expected] = typeof target === 'string' ? [target] : [target.digest, target];
    return this.#onAny(signal, (endpoint) => this.#manifestOf(endpoint, reference, expected, signal));
  }

  /** A small blob of at most `maxBytes`, verified. `what` names it in messages. */
  async readBlob(
    descriptor: Descriptor,
    what: string,
    maxBytes = MAX_MANIFEST_BYTES,
    signal?: AbortSignal,
  ): Promise<Uint8Array> {
    const name = `${what} of ${this.name}`;
    const { digest, size } = descriptor;
    if (size > maxBytes) throw new OciError('TOO_LARGE', `${name} has ${size} bytes, more than ${maxBytes}`);
    return this.#onAny(signal, async (endpoint) => {
      const response = await endpoint.request(this.#blobRequest(digest, name, undefined, signal));
      const bytes = await response.body.read(size);
      verifyBytes(bytes, descriptor, name);
      return bytes;
    });
  }

  /** A blob of any size. The place that a registry redirects to is remembered, and asked without it while it serves. */
  blob(descriptor: Descriptor, what = 'blob'): RemoteBlob {
    const name = `${what} of ${this.name}`;
    let storage: { endpoint: RegistryEndpoint; url: URL } | undefined;
    const fetch = async (range: string | undefined, signal: AbortSignal | undefined) => {
      if (storage !== undefined && range !== undefined) {
        const response = await storage.endpoint.fetch(storage.url, { range }, signal).catch((error) => {
          signal?.throwIfAborted();
          return error as RegistryError;
        });
        if (!(response instanceof RegistryError)) {
          if (response.status === 206) return response;
          await response.body.discard();
        }
        storage = undefined;
      }
      return this.#onAny(
        signal,
        async (endpoint) => {
          const response = await endpoint.request(this.#blobRequest(descriptor.digest, name, range, signal));
          const { origin } = await endpoint.baseUrl();
          storage = response.url.origin === origin ? undefined : { endpoint, url: response.url };
          return response;
        },
        1,
      );
    };
    return new RemoteBlob(descriptor, fetch, name);
  }

  /**
   * What refers to a manifest by its `subject` (distribution-spec, "Listing Referrers"), of one artifact type if that
   * is given; by the tag schema where the registry lacks the API. Asked of the registry itself: mirrors seldom know.
   */
  async referrers(digest: string, artifactType?: string, signal?: AbortSignal): Promise<Descriptor[]> {
    parseDigest(digest, 'subject');
    return readReferrers(this, digest, artifactType, signal);
  }

  /** A request to the registry itself, not to its mirrors; with its body, of at most `maxBytes`. */
  async ask(
    request: Omit<EndpointRequest, 'repository'>,
    maxBytes: number,
  ): Promise<Pick<HttpResponse, 'status' | 'headers' | 'url'> & { bytes: Uint8Array }> {
    return withRetries(ATTEMPTS, request.signal, async () => {
      const response = await this.#options.upstream.request({ ...request, repository: this.path });
      const bytes = await response.body.read(maxBytes);
      return { status: response.status, headers: response.headers, url: response.url, bytes };
    });
  }

  async #manifestOf(
    endpoint: RegistryEndpoint,
    reference: string,
    expected: Descriptor | undefined,
    signal: AbortSignal | undefined,
  ): Promise<FetchedManifest> {
    const { headers, body } = await endpoint.request(this.#manifestRequest('GET', reference, signal));
    const bytes = await body.read(MAX_MANIFEST_BYTES);
    const declared = headerOf(headers, 'docker-content-digest') ?? '';
    const digest = isDigest(reference) ? reference : isDigest(declared) ? declared : digestOf(bytes);
    const what = `manifest of ${this.name}`;
    verifyBytes(bytes, expected ?? { digest, size: bytes.length }, what);
    // The document's own word first: it is what the digest covers.
    const mediaType = ownMediaType(bytes) ?? mediaTypeOf(headerOf(headers, 'content-type'));
    if (mediaType === undefined) throw new RegistryError('PROTOCOL', `${what}: ${digest} has no media type`);
    return { descriptor: { mediaType, digest, size: bytes.length }, bytes };
  }

  #manifestRequest(
    method: 'GET' | 'HEAD',
    reference: string,
    signal: AbortSignal | undefined,
  ): EndpointRequest {
    if (!isDigest(reference) && !isTag(reference)) {
      throw new OciError('INVALID_REFERENCE', `${printable(reference)} is neither a tag nor a digest`);
    }
    const what = isDigest(reference) ? `${this.name}@${reference}` : `${this.name}:${reference}`;
    return {
      method,
      path: `/v2/${this.path}/manifests/${reference}`,
      repository: this.path,
      headers: { accept: MANIFEST_ACCEPT },
      missing: 'MANIFEST_UNKNOWN',
      signal,
      what,
    };
  }

  #blobRequest(
    digest: string,
    what: string,
    range: string | undefined,
    signal: AbortSignal | undefined,
  ): EndpointRequest {
    return {
      path: `/v2/${this.path}/blobs/${digest}`,
      repository: this.path,
      headers: range === undefined ? {} : { range },
      accept: [200, 206],
      missing: 'BLOB_UNKNOWN',
      signal,
      what,
    };
  }

  /** Asks the mirrors, once each, then the registry, `attempts` times. What is thrown is of the registry. */
  async #onAny<T>(
    signal: AbortSignal | undefined,
    ask: (endpoint: RegistryEndpoint) => Promise<T>,
    attempts = ATTEMPTS,
  ): Promise<T> {
    const { mirrors, upstream, logger } = this.#options;
    for (const mirror of mirrors) {
      try {
        return await ask(mirror);
      } catch (error) {
        signal?.throwIfAborted();
        if (!(error instanceof OciError)) throw error;
        logger.debug(`mirror ${mirror.domain} is passed over: ${error.message}`);
      }
    }
    return withRetries(attempts, signal, () => ask(upstream));
  }
}

/** Type and subtype, in lower case. */
function mediaTypeOf(header: string | undefined): string | undefined {
  const type = header?.split(';', 1)[0]?.trim().toLowerCase();
  return type === '' ? undefined : type;
}

function ownMediaType(bytes: Uint8Array): string | undefined {
  try {
    const { mediaType } = JSON.parse(Buffer.from(bytes).toString()) as { mediaType?: unknown };
    return typeof mediaType === 'string' ? mediaType : undefined;
  } catch {
    return undefined;
  }
}
