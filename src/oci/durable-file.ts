/**
 * Files that appear whole or not at all: written under a temporary name and renamed. `writeDurably` is for what must
 * stay after a power cut, `replaceFile` for what is checked when it is read and can be had again.
 */
import { randomBytes } from 'node:crypto';
import { open, rename, rm, unlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/** Makes the entries of a directory durable (POSIX leaves a rename undone after a crash otherwise). */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/**
 * Writes `path` atomically; a file of that name is replaced. The temporary file lies in `temporaryDir`, which must
 * be on the same file system, and is gone when the write fails.
 */
export async function writeDurably(
  path: string,
  content: Uint8Array | Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
  temporaryDir: string = dirname(path),
): Promise<void> {
  const temporary = join(temporaryDir, `${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
  const handle = await open(temporary, 'wx', 0o644);
  try {
    try {
      for await (const chunk of content instanceof Uint8Array ? [content] : content)
        await handle.appendFile(chunk);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await unlink(temporary).catch(() => undefined);
    throw error;
  }
  await syncDirectory(dirname(path));
}

/** Writes `path` atomically, and not durably; a file of that name is replaced. Leaves nothing when it fails. */
export async function replaceFile(path: string, content: string | Uint8Array, mode = 0o600): Promise<void> {
  const temporary = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`;
  try {
    await writeFile(temporary, content, { flag: 'wx', mode });
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  }
}
