/** The embedded registry's own repositories as what is expanded. */
import { randomUUID } from 'node:crypto';
import { link, unlink } from 'node:fs/promises';
import type { Descriptor } from '../../oci/manifest.js';
import { OciError } from '../../oci/oci-error.js';
import { parsePushedManifest } from '../pushed-manifest.js';
import type { RegistryStorage } from '../storage.js';
import type { ArtifactToStore, BlobOrigin } from './expansion.js';

const READ_BYTES = 1 << 20;

/** Thrown while the repository is locked. */
class SubjectGone extends Error {}

export class StorageOrigin implements BlobOrigin {
  constructor(private readonly storage: RegistryStorage) {}

  async readManifest(repository: string, digest: string) {
    const record = await this.storage.repository(repository).manifest(digest);
    const bytes = record && (await this.storage.blobs.read(digest));
    return bytes && { mediaType: record.mediaType, bytes };
  }

  blobSize(repository: string, { digest }: Descriptor): Promise<number | undefined> {
    return this.storage.repository(repository).blobSize(digest);
  }

  async *openBlob(
    repository: string,
    { digest }: Descriptor,
    signal?: AbortSignal,
  ): AsyncGenerator<Uint8Array, void, void> {
    const file = await this.storage.blobs.open(digest);
    if (file === undefined) throw new OciError('NOT_FOUND', `${repository}: blob ${digest} is gone`);
    for await (const chunk of file.createReadStream({ highWaterMark: READ_BYTES })) {
      signal?.throwIfAborted();
      yield chunk as Buffer;
    }
  }

  blobFile(digest: string): string {
    return this.storage.blobs.path(digest);
  }

  tags(repository: string): Promise<string[]> {
    return this.storage.repository(repository).tags();
  }

  resolve(repository: string, tag: string): Promise<string | undefined> {
    return this.storage.repository(repository).resolve(tag);
  }

  async storeArtifact(name: string, { descriptor, bytes, blobs }: ArtifactToStore): Promise<boolean> {
    const repository = this.storage.repository(name);
    const manifest = parsePushedManifest(bytes, descriptor.mediaType);
    for (const blob of blobs) await this.linkBlob(name, blob.descriptor, blob.path);
    try {
      await repository.putManifest(manifest, [], async () => {
        const { subject } = manifest;
        if (subject !== undefined && (await repository.manifest(subject)) === undefined)
          throw new SubjectGone();
      });
      return true;
    } catch (error) {
      if (error instanceof SubjectGone) return false;
      throw error;
    }
  }

  /** The file is linked and not copied: image indexes can be large. */
  private async linkBlob(name: string, { digest, size }: Descriptor, path: string): Promise<void> {
    const repository = this.storage.repository(name);
    if ((await repository.blobSize(digest)) === size) {
      await repository.touchBlob(digest);
      return;
    }
    const temporary = this.storage.data.join('tmp', randomUUID());
    await link(path, temporary);
    try {
      await repository.takeBlob(digest, temporary);
    } finally {
      // rename(2) leaves both names when they are of the same file already.
      await unlink(temporary).catch(() => undefined);
    }
  }

  async hasManifest(repository: string, digest: string): Promise<boolean> {
    return (await this.storage.repository(repository).manifest(digest)) !== undefined;
  }

  async removeArtifact(repository: string, digest: string): Promise<void> {
    await this.storage.repository(repository).deleteManifest(digest);
  }
}
