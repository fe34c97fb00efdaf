/**
 * Where the expansion of a gateway reads images: manifests that are kept here, and all else from the upstream, with
 * the gateway's own credentials. What it makes of them is kept here.
 */
import { TELEPORT_TYPE } from '../../image/artifact.js';
import { parseDigest } from '../../oci/digest.js';
import { headerOf } from '../../oci/http-client.js';
import type { Descriptor } from '../../oci/manifest.js';
import { RegistryError } from '../../oci/registry-error.js';
import type { ArtifactToStore, BlobOrigin } from '../expansion/expansion.js';
import { StorageOrigin } from '../expansion/storage-origin.js';
import { parsePushedManifest } from '../pushed-manifest.js';
import type { RegistryStorage } from '../storage.js';
import type { Upstream } from './upstream.js';

/** Of one page of tags: a thousand tags of the longest kind, and what stands between them. */
const MAX_TAGS_BYTES = 1 << 20;
const TAGS_PER_PAGE = 1000;
const MAX_PAGES = 100;

export class UpstreamOrigin implements BlobOrigin {
  private readonly kept: StorageOrigin;

  constructor(
    private readonly upstream: Upstream,
    private readonly storage: RegistryStorage,
  ) {
    this.kept = new StorageOrigin(storage);
  }

  /** Verified. A copy is kept, for the mount API. */
  async readManifest(
    repository: string,
    digest: string,
    signal?: AbortSignal,
  ): Promise<{ mediaType: string; bytes: Uint8Array } | undefined> {
    const known = await this.kept.readManifest(repository, digest);
    if (known !== undefined) return known;
    const fetched = await unlessMissing(this.upstream.repository(repository).manifest(digest, signal));
    if (fetched === undefined) return undefined;
    const { bytes, descriptor } = fetched;
    const manifest = parsePushedManifest(bytes, descriptor.mediaType, parseDigest(digest).algorithm);
    // What is kept here as a teleport artifact is what we have made.
    if (manifest.artifactType !== TELEPORT_TYPE)
      await this.storage.repository(repository).putManifest(manifest, [], async () => undefined);
    return { mediaType: manifest.mediaType, bytes };
  }

  /** The upstream is asked for the blob of this very repository. */
  async blobSize(
    repository: string,
    { digest, size }: Descriptor,
    signal?: AbortSignal,
  ): Promise<number | undefined> {
    const upstream = this.upstream.repository(repository);
    const path = `/v2/${repository}/blobs/${digest}`;
    const what = `blob ${digest} of ${upstream.name}`;
    const answer = await upstream.ask({ method: 'HEAD', path, accept: [200, 404], what, signal }, 0);
    if (answer.status === 404) return undefined;
    const length = headerOf(answer.headers, 'content-length') ?? '';
    return /^\d{1,15}$/.test(length) ? Number(length) : size;
  }

  /** Verified; a connection that is cut is taken up again. Throws RegistryError and OciError. */
  openBlob(repository: string, descriptor: Descriptor, signal?: AbortSignal): AsyncIterable<Uint8Array> {
    return this.upstream.repository(repository).blob(descriptor, 'layer').stream(signal);
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
      const before = new Set(found);
      // A registry that does not page gives the same again.
      const fresh = tags.filter((tag) => !before.has(tag));
      found.push(...fresh);
      if (fresh.length === 0 || answer.headers['link'] === undefined) return found;
    }
    throw new RegistryError('TOO_LARGE', `${what}: more than ${MAX_PAGES} pages`);
  }

  async resolve(repository: string, tag: string, signal?: AbortSignal): Promise<string | undefined> {
    return (await unlessMissing(this.upstream.repository(repository).resolve(tag, signal)))?.digest;
  }

  storeArtifact(repository: string, artifact: ArtifactToStore): Promise<boolean> {
    return this.kept.storeArtifact(repository, artifact);
  }

  hasManifest(repository: string, digest: string): Promise<boolean> {
    return this.kept.hasManifest(repository, digest);
  }

  removeArtifact(repository: string, digest: string): Promise<void> {
    return this.kept.removeArtifact(repository, digest);
  }
}

async function unlessMissing<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof RegistryError && error.status === 404) return undefined;
    throw error;
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
