/** Appends a stream to the file of an upload: chunks are hashed as they come and written in batches. */
import type { Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';

/** Chunks off a socket are 64 KiB at most; eight of them in one system call cost half of what eight calls do. */
const BATCH_BYTES = 512 * 1024;

export class UploadWriter {
  private batch: Uint8Array[] = [];
  private batched = 0;
  private writing: Promise<void> = Promise.resolve();

  /** `position`: where the next byte goes; after `flush`, the end of what has been written. */
  constructor(
    private readonly handle: FileHandle,
    public position: number,
    private readonly hash: Hash | undefined,
  ) {}

  async write(chunk: Uint8Array): Promise<void> {
    this.hash?.update(chunk);
    this.batch.push(chunk);
    this.batched += chunk.length;
    if (this.batched >= BATCH_BYTES) await this.startBatch();
  }

  /** Waits until everything that was given has been written. */
  async flush(): Promise<void> {
    await this.startBatch();
    await this.writing;
  }

  /** One batch is written while the next one is gathered. */
  private async startBatch(): Promise<void> {
    const { batch, position } = this;
    await this.writing;
    if (batch.length === 0) return;
    this.position += this.batched;
    this.batch = [];
    this.batched = 0;
    this.writing = this.writeAll(batch, position);
    this.writing.catch(() => undefined); // whoever waits for it next gets the error
  }

  private async writeAll(chunks: Uint8Array[], position: number): Promise<void> {
    const total = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    const { bytesWritten } = await this.handle.writev(chunks, position);
    if (bytesWritten === total) return;
    const rest = Buffer.concat(chunks).subarray(bytesWritten);
    for (let done = 0; done < rest.length; ) {
      const written = await this.handle.write(rest, done, rest.length - done, position + bytesWritten + done);
      done += written.bytesWritten;
    }
  }
}
