/**
 * What a client may do, as the upstream has it: it is asked with the client's own credentials. Consent is remembered
 * for a moment, a refusal is not.
 */
import { createHash } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { isDigest } from '../../oci/digest.js';
import { headerOf } from '../../oci/http-client.js';
import { MANIFEST_ACCEPT } from '../../oci/manifest.js';
import { ApiError } from '../api-error.js';
import type { Upstream, UpstreamResponse } from './upstream.js';

/** How long somebody who has lost a right may still have it here. */
const REMEMBERED_MS = 30_000;
const MAX_REMEMBERED = 10_000;
/** Beyond this many bytes a body that nobody wants costs more than a new connection. */
const DISCARD_LIMIT = 64 << 10;

/** Headers of a request on the client's behalf, its Authorization among them. */
export type ClientHeaders = Readonly<Record<string, string | string[]>>;

export class UpstreamRights {
  private readonly granted = new LRUCache<string, true>({ max: MAX_REMEMBERED, ttl: REMEMBERED_MS });
  private readonly asking = new Map<string, Promise<void>>();

  constructor(private readonly upstream: Upstream) {}

  /**
   * Resolves when the client may pull: the manifest `digest`, when one is given, or else one of `manifests` where the
   * upstream has no tags to list. Throws ApiError as the upstream refuses: 401 with its challenge, 403, 404, 429.
   */
  async requirePull(
    headers: ClientHeaders,
    repository: string,
    digest?: string,
    manifests: () => Promise<readonly string[]> = async () => [],
  ): Promise<void> {
    return this.once(['pull', repository, digest ?? ''], headers, async () => {
      if (digest !== undefined) return this.askManifest(headers, repository, digest);
      const answer = await this.send('GET', `/v2/${repository}/tags/list?n=1`, headers);
      if (answer.status !== 404) return check(answer);
      for (const candidate of await manifests()) {
        const found = await this.askManifest(headers, repository, candidate).then(
          () => true,
          (error: ApiError) => {
            if (error.status !== 404) throw error;
            return false;
          },
        );
        if (found) return;
      }
      throw new ApiError('NAME_UNKNOWN', { detail: { name: repository } });
    });
  }

  /** Resolves when the client may push: an upload is begun and given up at once. Throws as requirePull. */
  async requirePush(headers: ClientHeaders, repository: string): Promise<void> {
    return this.once(['push', repository], headers, async () => {
      const path = `/v2/${repository}/blobs/uploads/`;
      const answer = await this.send('POST', path, headers);
      check(answer);
      const location = headerOf(answer.headers, 'location');
      const url = location && URL.canParse(location, this.upstream.url.href);
      if (!location || !url) return;
      const upload = new URL(location, new URL(path, this.upstream.url));
      if (!this.upstream.isHostOf(upload)) return;
      await this.send('DELETE', `${upload.pathname}${upload.search}`, headers).catch(() => undefined);
    });
  }

  /** Resolves when the upstream knows the client, or does not care who it is. Throws ApiError UNAUTHORIZED. */
  async requireAny(headers: ClientHeaders): Promise<void> {
    return this.once(['any'], headers, async () => check(await this.send('GET', '/v2/', headers)));
  }

  /** Resolves when the client may list the repositories. */
  async requireCatalog(headers: ClientHeaders): Promise<void> {
    return this.once(['catalog'], headers, async () =>
      check(await this.send('GET', '/v2/_catalog?n=1', headers)),
    );
  }

  private async askManifest(headers: ClientHeaders, repository: string, digest: string): Promise<void> {
    if (!isDigest(digest)) throw new ApiError('DIGEST_INVALID');
    check(
      await this.send('HEAD', `/v2/${repository}/manifests/${digest}`, {
        ...headers,
        accept: MANIFEST_ACCEPT,
      }),
    );
  }

  private async send(method: string, path: string, headers: ClientHeaders): Promise<UpstreamResponse> {
    const answer = await this.upstream.send({ method, path, headers });
    await answer.body.dump({ limit: DISCARD_LIMIT }).catch(() => undefined);
    return answer;
  }

  /** Asks once for all that want to know the same at the same time. */
  private async once(what: string[], headers: ClientHeaders, ask: () => Promise<void>): Promise<void> {
    const key = createHash('sha256')
      .update(JSON.stringify([what, headers['authorization'] ?? null]))
      .digest('base64url');
    if (this.granted.has(key)) return;
    let pending = this.asking.get(key);
    if (pending === undefined) {
      pending = ask()
        .then(() => void this.granted.set(key, true))
        .finally(() => this.asking.delete(key));
      this.asking.set(key, pending);
    }
    return pending;
  }
}

/** Throws what a refusal of the upstream means for the client. */
function check({ status, headers }: UpstreamResponse): void {
  if (status >= 200 && status < 300) return;
  const passed = (name: string): Record<string, string> => {
    const value = headers[name];
    return value === undefined ? {} : { [name]: [value].flat().join(', ') };
  };
  if (status === 401) throw new ApiError('UNAUTHORIZED', { headers: passed('www-authenticate') });
  if (status === 403) throw new ApiError('DENIED', { message: 'the upstream registry refuses this' });
  if (status === 404) throw new ApiError('MANIFEST_UNKNOWN', { message: 'unknown to the upstream registry' });
  if (status === 429) throw new ApiError('TOOMANYREQUESTS', { headers: passed('retry-after') });
  throw new ApiError('UNAVAILABLE', {
    status: 502,
    message: `the upstream registry says ${status}`,
  });
}
