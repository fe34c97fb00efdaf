/**
 * Blobs and manifests by digest, shared by all repositories: `blobs/<algorithm>/<first two digits>/<hex>`. A file of
 * that name is complete, verified and on the disk. Which repository has a blob is recorded in repository.ts.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, readFile, stat } from 'node:fs/promises';
import { type DigestAlgorithm, parseDigest } from '../oci/digest.js';
import { type DataDirectory, isMissing, namesIn } from './data-directory.js';
import { KeyedLock } from './keyed-lock.js';

const ALGORITHMS: readonly DigestAlgorithm[] = ['sha256', 'sha512'];

export class BlobStorage {
  /** Held, by digest, while a blob is stored and linked, and while an unused one is removed. */
  readonly locks = new KeyedLock();

  constructor(private readonly data: DataDirectory) {}

  path(digest: string): string {
    const { algorithm, hex } = parseDigest(digest);
    return this.data.join('blobs', algorithm, hex.slice(0, 2), hex);
  }

  /** Bytes, or undefined when the blob is not there. */
  async size(digest: string): Promise<number | undefined> {
    try {
      return (await stat(this.path(digest))).size;
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /** A small blob, such as a manifest; undefined when it is not there. */
  async read(digest: string): Promise<Buffer | undefined> {
    try {
      return await readFile(this.path(digest));
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /** The file, open for reading, so that a deletion does not disturb the reader; undefined when it is not there. */
  async open(digest: string): Promise<FileHandle | undefined> {
    try {
      return await open(this.path(digest), 'r');
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  async remove(digest: string): Promise<boolean> {
    return this.data.remove(this.path(digest));
  }

  async *list(): AsyncGenerator<string, void, void> {
    for (const algorithm of ALGORITHMS) {
      for (const prefix of await namesIn(this.data.join('blobs', algorithm))) {
        for (const hex of await namesIn(this.data.join('blobs', algorithm, prefix)))
          yield `${algorithm}:${hex}`;
      }
    }
  }
}

/** The digest of a file's content. */
export async function digestOfFile(path: string, algorithm: DigestAlgorithm): Promise<string> {
  const hash = createHash(algorithm);
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return `${algorithm}:${hash.digest('hex')}`;
}
