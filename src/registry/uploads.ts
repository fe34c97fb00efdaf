/**
 * Blob uploads that are not finished: `uploads/<id>/data` holds what has arrived, `state.json` says for which
 * repository. They outlive the process: what was written before it was killed need not be sent again.
 */
import { createHash, type Hash, randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LRUCache } from 'lru-cache';
import { parseDigest } from '../oci/digest.js';
import { OciError } from '../oci/oci-error.js';
import { digestOfFile } from './blob-storage.js';
import { type DataDirectory, isMissing, readIfPresent } from './data-directory.js';
import { KeyedLock } from './keyed-lock.js';
import { UploadWriter } from './upload-writer.js';

/** Uploads whose hash is kept while no request runs, 1 KiB each; one that drops out is read again when it ends. */
const MAX_REMEMBERED = 10_000;
/** No layer comes near: the largest that a public registry takes is 200 GiB. */
export const MAX_BLOB_BYTES = 1024 ** 4;
const ID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export class Upload {
  /** Of what has arrived, unless it is unknown (after a restart, or when a write has failed). */
  private hash: Hash | undefined;

  /** @internal */
  constructor(
    readonly id: string,
    readonly repository: string,
    readonly directory: string,
    /** Bytes that have arrived and been written. */
    public offset: number,
  ) {
    if (offset === 0) this.hash = createHash('sha256');
  }

  get file(): string {
    return join(this.directory, 'data');
  }

  /**
   * Appends what comes. With `length`, exactly so many bytes must come, otherwise none stays and OciError
   * SIZE_MISMATCH is thrown. An error of the source is passed on, and what came before it stays.
   */
  async append(source: AsyncIterable<Uint8Array>, length?: number): Promise<void> {
    const start = this.offset;
    const limit = Math.min(start + (length ?? MAX_BLOB_BYTES), MAX_BLOB_BYTES);
    const handle = await open(this.file, 'r+');
    try {
      const writer = new UploadWriter(handle, start, this.hash);
      let interrupted: { error: unknown } | undefined;
      let received = start;
      const chunks = source[Symbol.asyncIterator]();
      try {
        for (;;) {
          const next = await chunks.next().catch((error: unknown) => {
            interrupted = { error };
            return { done: true as const, value: undefined };
          });
          if (next.done) break;
          received += next.value.length;
          if (received > limit) break;
          await writer.write(next.value);
        }
        await writer.flush();
      } catch (error) {
        await this.forget(handle, start);
        throw error;
      }
      if (received > limit || (interrupted === undefined && length !== undefined && received !== limit)) {
        await this.forget(handle, start);
        throw new OciError(
          'SIZE_MISMATCH',
          `upload ${this.id}: ${received > limit ? 'more' : 'fewer'} bytes than ${length ?? MAX_BLOB_BYTES}`,
        );
      }
      this.offset = writer.position;
      if (interrupted !== undefined) throw interrupted.error;
    } finally {
      await handle.close();
    }
  }

  private async forget(handle: { truncate(length: number): Promise<void> }, offset: number): Promise<void> {
    this.hash = undefined;
    this.offset = offset;
    await handle.truncate(offset).catch(() => undefined);
  }

  /** Verifies the content and makes the disk have it. Throws OciError DIGEST_MISMATCH. */
  async seal(digest: string): Promise<void> {
    const { algorithm } = parseDigest(digest);
    const found =
      algorithm === 'sha256' && this.hash !== undefined
        ? `sha256:${this.hash.copy().digest('hex')}`
        : await digestOfFile(this.file, algorithm);
    if (found !== digest) {
      throw new OciError('DIGEST_MISMATCH', `what was uploaded has digest ${found}, not ${digest}`);
    }
    const handle = await open(this.file, 'r+');
    try {
      await handle.datasync();
    } finally {
      await handle.close();
    }
  }
}

export class Uploads {
  private readonly locks = new KeyedLock();
  private readonly remembered = new LRUCache<string, Upload>({ max: MAX_REMEMBERED });

  constructor(private readonly data: DataDirectory) {}

  async create(repository: string): Promise<Upload> {
    const id = randomUUID();
    const directory = this.data.join('uploads', id);
    await mkdir(directory);
    await writeFile(join(directory, 'data'), '', { flag: 'wx' });
    await writeFile(join(directory, 'state.json'), JSON.stringify({ repository }), { flag: 'wx' });
    const upload = new Upload(id, repository, directory, 0);
    this.remembered.set(id, upload);
    return upload;
  }

  /** Runs `action` with the upload, alone; with undefined when that repository has no such upload. */
  async using<T>(
    repository: string,
    id: string,
    action: (upload: Upload | undefined) => Promise<T>,
  ): Promise<T> {
    if (!ID.test(id)) return action(undefined);
    return this.locks.holding(id, async () => {
      const upload = this.remembered.get(id) ?? (await this.load(id));
      if (upload === undefined || upload.repository !== repository) return action(undefined);
      this.remembered.set(id, upload);
      return action(upload);
    });
  }

  private async load(id: string): Promise<Upload | undefined> {
    const directory = this.data.join('uploads', id);
    const state = await readIfPresent(join(directory, 'state.json'));
    if (state === undefined) return undefined;
    try {
      const { repository } = JSON.parse(state.toString()) as { repository?: unknown };
      if (typeof repository !== 'string') return undefined;
      return new Upload(id, repository, directory, (await stat(join(directory, 'data'))).size);
    } catch (error) {
      if (isMissing(error) || error instanceof SyntaxError) return undefined;
      throw error;
    }
  }

  async remove(upload: Upload): Promise<void> {
    this.remembered.delete(upload.id);
    await rm(upload.directory, { recursive: true, force: true });
  }

  /** Removes the uploads to which nothing has been added since `before`, a time in milliseconds. */
  async removeIdle(before: number): Promise<number> {
    let removed = 0;
    for (const id of await readdir(this.data.join('uploads'))) {
      await this.locks.holding(id, async () => {
        const directory = this.data.join('uploads', id);
        const file = await stat(join(directory, 'data')).catch(() => stat(directory).catch(() => undefined));
        if (file === undefined || file.mtimeMs >= before) return;
        this.remembered.delete(id);
        await rm(directory, { recursive: true, force: true });
        removed++;
      });
    }
    return removed;
  }
}
