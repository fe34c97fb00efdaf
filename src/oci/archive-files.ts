/** The files of an image archive, read in place. */
import { type FileHandle, open } from 'node:fs/promises';
import { type ArchiveMember, indexArchive } from '../tar/archive-index.js';
import { type InputFiles, missing, readRange, readWhole } from './input-files.js';
import { OciError } from './oci-error.js';

export class ArchiveFiles implements InputFiles {
  private constructor(
    readonly location: string,
    private readonly handle: FileHandle,
    private readonly members: ReadonlyMap<string, ArchiveMember>,
  ) {}

  /** Indexes a tar. Throws OciError INVALID_ARCHIVE (not a tar, cut short, compressed) or IO. */
  static async open(path: string): Promise<ArchiveFiles> {
    const handle = await open(path, 'r').catch((cause: Error) => {
      throw new OciError('IO', `${path}: cannot open it: ${cause.message}`, { cause });
    });
    try {
      return new ArchiveFiles(path, handle, await indexArchive(handle.fd));
    } catch (cause) {
      await handle.close();
      const why = cause instanceof Error ? cause.message : String(cause);
      throw new OciError('INVALID_ARCHIVE', `${path}: ${why}`, { cause });
    }
  }

  async size(path: string): Promise<number | undefined> {
    return this.members.get(path)?.size;
  }

  read(path: string, maxBytes: number): Promise<Uint8Array> {
    return readWhole(this, path, maxBytes);
  }

  async *stream(path: string, length?: number): AsyncGenerator<Uint8Array> {
    const member = this.members.get(path);
    if (member === undefined) throw missing(this, path);
    yield* readRange(this.handle, member.offset, Math.min(member.size, length ?? member.size));
  }

  close(): Promise<void> {
    return this.handle.close();
  }
}
