/**
 * Small blobs (manifests, configs, image indexes, block digests) kept by digest under CACHE/blobs/sha256.
 *
 * What is read is verified, so a file that a crash or somebody else has spoilt counts as missing; that is why
 * nothing is fsynced here.
 */
import { access, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { digestOf, type Expected, parseDigest, verifyBytes } from '../oci/digest.js';
import { replaceFile } from '../oci/durable-file.js';
import type { Descriptor } from '../oci/manifest.js';
import { SourceError } from './source.js';

export class BlobCache {
  readonly #directory: string;

  /** `cacheDir` has `blobs/sha256` in it already. */
  constructor(cacheDir: string) {
    this.#directory = join(cacheDir, 'blobs', 'sha256');
  }

  /** Where the blob is when it is there. sha256 only: no other digests lead to what is kept. */
  path(digest: string): string {
    const { algorithm, hex } = parseDigest(digest);
    if (algorithm !== 'sha256') throw new SourceError('PROTOCOL', `${digest} is not a sha256 digest`);
    return join(this.#directory, hex);
  }

  /** The verified blob, or undefined when it is missing or spoilt. */
  async read(expected: Expected, what: string): Promise<Uint8Array | undefined> {
    const path = this.path(expected.digest);
    try {
      if ((await stat(path)).size !== expected.size) return undefined;
      const bytes = await readFile(path);
      verifyBytes(bytes, expected, what);
      return bytes;
    } catch {
      return undefined;
    }
  }

  /** Keeps a blob that has been verified. Throws SourceError CACHE_UNWRITABLE. */
  async write(digest: string, bytes: Uint8Array): Promise<void> {
    const path = this.path(digest);
    try {
      await replaceFile(path, bytes);
    } catch (cause) {
      const reason = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message;
      throw new SourceError(
        'CACHE_UNWRITABLE',
        `${path} cannot be written (${reason}): make room, or use --cache`,
        {
          cause,
        },
      );
    }
  }

  /** Keeps bytes that were made here. Throws SourceError CACHE_UNWRITABLE. */
  async keep(mediaType: string, bytes: Uint8Array): Promise<Descriptor> {
    const digest = digestOf(bytes);
    await this.ensure(digest, bytes);
    return { mediaType, digest, size: bytes.length };
  }

  async ensure(digest: string, bytes: Uint8Array): Promise<void> {
    const there = await access(this.path(digest)).then(
      () => true,
      () => false,
    );
    if (!there) await this.write(digest, bytes);
  }
}
