/**
 * Where the expansion reads images of a gateway: what is kept here, and otherwise the upstream, with the gateway's own
 * credentials. All of it is verified against its digest.
 */

import { parseDigest } from '../../oci/digest.js';
import type { Descriptor } from '../../oci/manifest.js';
import { RegistryError } from '../../oci/registry-error.js';
import { parsePushedManifest } from '../pushed-manifest.js';
import type { RegistryStorage } from '../storage.js';
import type { Upstream } from './upstream.js';

/** Of one page of tags: a thousand tags of the longest kind, and what stands between them. */
const MAX_TAGS_BYTES = 1 << 20;
const TAGS_PER_PAGE = 1000;
const MAX_PAGES = 100;

export class UpstreamOrigin {
  constructor(
    private readonly upstream: Upstream,
    private readonly storage: RegistryStorage,
  ) {}

  /** The blob as a verified stream. Throws RegistryError and OciError. */
  openBlob(repository: string, descriptor: Descriptor, signal?: AbortSignal): AsyncIterable<Uint8Array> {
    return this.upstream.repository(repository).blob(descriptor, 'layer').stream(signal);
  }

  /** A manifest or index; a copy of it is kept for the mount API. */
  async readManifest(
    repository: string,
    digest: string,
    signal?: AbortSignal,
  ): Promise<{ mediaType: string; bytes: Uint8Array }> {
    const kept = this.storage.repository(repository);
    const record = await kept.manifest(digest);
    const known = record && (await this.storage.blobs.read(digest));
    if (record !== undefined && known !== undefined) return { mediaType: record.mediaType, bytes: known };
    const { bytes, descriptor } = await this.upstream.repository(repository).manifest(digest, signal);
    const manifest = parsePushedManifest(bytes, descriptor.mediaType, parseDigest(digest).algorithm);
    await kept.putManifest(manifest, [], async () => undefined);
    return { mediaType: manifest.mediaType, bytes };
  }

  /** All tags, as far as the upstream lists them. */
  async tags(repository: string, signal?: AbortSignal): Promise<string[]> {
    const upstream = this.upstream.repository(repository);
    const found: string[] = [];
    const what = `tags of ${upstream.name}`;
    for (let page = 0; page < MAX_PAGES; page++) {
      const last = found.at(-1);
      const after = last === undefined ? '' : `&last=${encodeURIComponent(last)}`;
      const path = `/v2/${repository}/tags/list?n=${TAGS_PER_PAGE}${after}`;
      const answer = await upstream.ask({ path, accept: [200, 404], what, signal }, MAX_TAGS_BYTES);
      const tags = answer.status === 404 ? [] : tagsOf(answer.bytes, what);
      // A registry that does not page gives the same again.
      const fresh = tags.filter((tag) => !found.includes(tag));
      found.push(...fresh);
      if (fresh.length === 0 || answer.headers['link'] === undefined) return found;
    }
    throw new RegistryError('TOO_LARGE', `${what}: more than ${MAX_PAGES} pages`);
  }

  /** The digest that a tag stands for; undefined when the upstream does not have it. */
  async resolve(repository: string, tag: string, signal?: AbortSignal): Promise<string | undefined> {
    try {
      return (await this.upstream.repository(repository).resolve(tag, signal)).digest;
    } catch (error) {
      if (error instanceof RegistryError && error.status === 404) return undefined;
      throw error;
    }
  }
}

function tagsOf(bytes: Uint8Array, what: string): string[] {
  let tags: unknown;
  try {
    ({ tags } = JSON.parse(Buffer.from(bytes).toString()) as { tags?: unknown });
  } catch {
    tags = undefined;
  }
  // Distribution says null of a repository whose tags have all been deleted.
  if (tags === null) return [];
  if (!Array.isArray(tags) || !tags.every((tag) => typeof tag === 'string')) {
    throw new RegistryError('PROTOCOL', `${what}: the answer is malformed`);
  }
  return tags;
}
