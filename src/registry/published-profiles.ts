/**
 * The startup profiles of a registry's images: one of each, as an artifact beside the teleport artifact; and of those of a
 * repository the one for an image that has none.
 */
import { StartupProfile } from '../cache/startup-profile.js';
import { EMPTY_CONFIG } from '../image/artifact.js';
import {
  encodeProfileArtifact,
  PROFILE_ARTIFACT_TYPE,
  PROFILE_TYPE,
  profileOf,
} from '../image/profile-artifact.js';
import { digestOf } from '../oci/digest.js';
import { type Descriptor, MEDIA_TYPE, type Platform } from '../oci/manifest.js';
import { platformDistance } from '../oci/platform.js';
import type { Expansion } from './expansion/expansion.js';
import { KeyedLock } from './keyed-lock.js';
import { parsePushedManifest } from './pushed-manifest.js';
import type { Repository } from './repository.js';
import type { RegistryStorage } from './storage.js';

export class PublishedProfiles {
  readonly #storage: RegistryStorage;
  readonly #expansion: Pick<Expansion, 'status'>;
  readonly #publishing = new KeyedLock();

  constructor(storage: RegistryStorage, expansion: Pick<Expansion, 'status'>) {
    this.#storage = storage;
    this.#expansion = expansion;
  }

  /** The blob of an image's profile. */
  async find(repository: Repository, manifestDigest: string): Promise<Descriptor | undefined> {
    for await (const { digest } of this.#artifacts(repository, manifestDigest)) {
      const bytes = await this.#storage.blobs.read(digest);
      const profile = bytes && profileOf(bytes);
      if (profile !== undefined && (await repository.blobSize(profile.digest)) === profile.size)
        return profile;
    }
    return undefined;
  }

  /** The blob of the profile that was published last of the repository's other images that suit this platform. */
  async findEarlier(
    repository: Repository,
    manifestDigest: string,
    platform: Platform | undefined,
  ): Promise<Descriptor | undefined> {
    for (const digest of await repository.profiled()) {
      // What has been deleted is not expanded any more, whatever is left of it.
      const image =
        digest === manifestDigest ? undefined : await this.#expansion.status(repository.name, digest);
      if (image?.state !== 'expanded' || !suits(image.platform, platform)) continue;
      const profile = await this.find(repository, digest);
      if (profile !== undefined) return profile;
    }
    return undefined;
  }

  /**
   * Keeps a profile in place of the one that is there; one of fewer runs is merged into it. `image` is a manifest that
   * the repository has. Gives the blob's descriptor.
   */
  async publish(repository: Repository, image: Descriptor, pushed: StartupProfile): Promise<Descriptor> {
    return this.#publishing.holding(`${repository.name}@${image.digest}`, async () => {
      const known = await this.#read(repository, image.digest);
      const profile = known !== undefined && known.runs > pushed.runs ? known.merge(pushed) : pushed;
      const bytes = Buffer.from(profile.encode());
      const descriptor = { mediaType: PROFILE_TYPE, digest: digestOf(bytes), size: bytes.length };
      const artifact = parsePushedManifest(encodeProfileArtifact(image, descriptor), MEDIA_TYPE.manifest);
      await repository.putBlob(descriptor.digest, bytes);
      await repository.putBlob(digestOf(EMPTY_CONFIG), EMPTY_CONFIG);
      await repository.putManifest(artifact, [], async () => undefined);
      for await (const { digest } of this.#artifacts(repository, image.digest))
        if (digest !== artifact.digest) await repository.deleteManifest(digest);
      await repository.addProfiled(image.digest);
      return descriptor;
    });
  }

  async #read(repository: Repository, manifestDigest: string): Promise<StartupProfile | undefined> {
    const found = await this.find(repository, manifestDigest);
    const bytes = found && (await this.#storage.blobs.read(found.digest));
    try {
      return bytes && StartupProfile.decode(bytes);
    } catch {
      return undefined;
    }
  }

  async *#artifacts(repository: Repository, subject: string): AsyncGenerator<Descriptor, void, void> {
    for await (const descriptor of repository.referrers(subject))
      if (descriptor.artifactType === PROFILE_ARTIFACT_TYPE) yield descriptor;
  }
}

/** An image whose platform is not known may be one for any. */
function suits(offered: Platform | undefined, wanted: Platform | undefined): boolean {
  return offered === undefined || wanted === undefined || platformDistance(offered, wanted) !== undefined;
}
