/** The gateway as a whole: the upstream, what is kept of its images, and the rights of clients there. */
import { TELEPORT_TYPE } from '../../image/artifact.js';
import { PROFILE_ARTIFACT_TYPE } from '../../image/profile-artifact.js';
import type { DigestAlgorithm } from '../../oci/digest.js';
import { type Descriptor, isIndexType, isManifestType } from '../../oci/manifest.js';
import type { AccessOptions } from '../access.js';
import type { ManifestHook } from '../context.js';
import type { Expansion } from '../expansion/expansion.js';
import { parsePushedManifest } from '../pushed-manifest.js';
import type { Repository } from '../repository.js';
import type { RegistryStorage } from '../storage.js';
import type { UploadSlots } from '../upload-slots.js';
import { GatewayAccess } from './gateway-access.js';
import { Locations } from './locations.js';
import { PassThrough } from './pass-through.js';
import type { Upstream } from './upstream.js';
import { UpstreamRights } from './upstream-rights.js';

export interface GatewayOptions {
  upstream: Upstream;
  storage: RegistryStorage;
  access: AccessOptions;
  slots: UploadSlots;
  /** Milliseconds after which a client that neither sends nor takes anything is given up. */
  stallTimeout: number;
  onManifest: ManifestHook | undefined;
  expansion: Expansion | undefined;
}

export class Gateway {
  readonly upstream: Upstream;
  readonly locations: Locations;
  readonly passThrough: PassThrough;
  readonly access: GatewayAccess;
  private readonly onManifest: ManifestHook | undefined;
  private readonly expansion: Expansion | undefined;

  constructor({ upstream, storage, access, slots, stallTimeout, onManifest, expansion }: GatewayOptions) {
    this.upstream = upstream;
    this.locations = new Locations(upstream, access.tokens.key);
    this.passThrough = new PassThrough(upstream, this.locations, slots, stallTimeout);
    const rights = new UpstreamRights(upstream);
    this.access = new GatewayAccess(access, rights, storage, (request) => {
      const { authorization, via, 'x-forwarded-for': client } = this.passThrough.headers(request);
      return { via, 'x-forwarded-for': client, ...(authorization && { authorization }) } as Record<
        string,
        string
      >;
    });
    this.onManifest = onManifest;
    this.expansion = expansion;
  }

  /**
   * Called when the upstream has taken a manifest. In a repository that is enabled, a copy is kept (mount API and
   * expansion read it), and the image queued. What is neither image nor index is nothing to us.
   */
  async pushed(
    repository: Repository,
    bytes: Uint8Array,
    contentType: string | undefined,
    algorithm: DigestAlgorithm,
    tags: readonly string[],
  ): Promise<void> {
    if (!(await repository.attributes()).teleportEnabled) return;
    const type = contentType?.split(';')[0]?.trim().toLowerCase() ?? '';
    if (type !== '' && !isManifestType(type) && !isIndexType(type)) return;
    const manifest = parsePushedManifest(bytes, type, algorithm);
    // Those of others stay the upstream's: what is kept here under these types is ours.
    if (isOurs(manifest)) return;
    await repository.putManifest(manifest, [], async () => undefined);
    await this.onManifest?.(repository.name, manifest.digest, tags);
  }

  /** Called when an event says that the upstream has a manifest, which is read when its turn comes. */
  async announced(repository: Repository, digest: string, tags: readonly string[]): Promise<void> {
    if ((await repository.attributes()).teleportEnabled)
      await this.onManifest?.(repository.name, digest, tags);
  }

  /** Called when the upstream has deleted a manifest: what is kept of it and about it goes, too. */
  async forget(repository: Repository, digest: string): Promise<void> {
    for await (const { digest: artifact } of this.artifacts(repository, digest))
      await repository.deleteManifest(artifact);
    await repository.deleteManifest(digest);
    await this.expansion?.forget(repository.name, digest);
  }

  /** Called when the upstream has deleted a tag. */
  async forgetTag(repository: Repository, tag: string): Promise<void> {
    await this.expansion?.forgetTag(repository.name, tag);
  }

  /** The image manifest of a teleport artifact or a startup profile that is kept here; undefined of all else. */
  async subjectOfOurs(repository: Repository, digest: string): Promise<string | undefined> {
    const record = await repository.manifest(digest);
    return record !== undefined && isOurs(record) ? record.subject : undefined;
  }

  /** Descriptors of the teleport artifacts and startup profiles of an image. */
  async *artifacts(repository: Repository, subject: string): AsyncGenerator<Descriptor, void, void> {
    for await (const descriptor of repository.referrers(subject)) if (isOurs(descriptor)) yield descriptor;
  }
}

function isOurs({ artifactType }: { artifactType?: string }): boolean {
  return artifactType === TELEPORT_TYPE || artifactType === PROFILE_ARTIFACT_TYPE;
}
