/** Everything that a registry keeps, without HTTP: blobs, uploads and repositories in one data directory. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { printable } from '../oci/digest.js';
import { OciError } from '../oci/oci-error.js';
import { isRepositoryPath } from '../oci/reference.js';
import type { RepositoryAttributes } from './attributes.js';
import { BlobStorage } from './blob-storage.js';
import { DataDirectory, isMissing } from './data-directory.js';
import { KeyedLock } from './keyed-lock.js';
import { Repository } from './repository.js';
import { Uploads } from './uploads.js';

export class RegistryStorage {
  readonly blobs: BlobStorage;
  readonly uploads: Uploads;
  private readonly locks = new KeyedLock();

  private constructor(
    readonly data: DataDirectory,
    private readonly defaults: Partial<RepositoryAttributes>,
  ) {
    this.blobs = new BlobStorage(data);
    this.uploads = new Uploads(data);
  }

  /** `defaults` are attributes of repositories that have not set them. Throws RegistryError INVALID_DATA, IN_USE, IO. */
  static async open(path: string, defaults: Partial<RepositoryAttributes> = {}): Promise<RegistryStorage> {
    return new RegistryStorage(await DataDirectory.open(path), defaults);
  }

  /** The repository of that name, whether it exists or not. Throws OciError INVALID_REFERENCE. */
  repository(name: string): Repository {
    if (!isRepositoryPath(name)) {
      throw new OciError(
        'INVALID_REFERENCE',
        `${printable(name)} is not a repository name: it is made of a-z, 0-9 and single . _ - / between them`,
      );
    }
    const directory = this.data.join('repositories', name);
    return new Repository(name, directory, this.data, this.blobs, this.locks, this.defaults);
  }

  /** Names of all repositories that exist, sorted by bytes. */
  async repositoryNames(): Promise<string[]> {
    const found: string[] = [];
    const pending = [''];
    for (let name = pending.pop(); name !== undefined; name = pending.pop()) {
      const entries = await directories(this.data.join('repositories', name));
      if (name !== '' && entries.some((entry) => entry === '_blobs' || entry === '_manifests'))
        found.push(name);
      for (const entry of entries) if (!entry.startsWith('_')) pending.push(join(name, entry));
    }
    return found.sort();
  }

  close(): void {
    this.data.close();
  }
}

async function directories(path: string): Promise<string[]> {
  try {
    const entries = await readdir(path, { withFileTypes: true });
    return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}
