/**
 * A synthetic image for what real images are too small for: /tree, 20,000 files of 100 bytes in 200 directories, and
 * /data.bin, 512 MiB that do not compress. The layer blob is an uncompressed tar.
 */
import { createCipheriv, createHash } from 'node:crypto';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packLayer, writeLayout } from '../test/system/layout-writer.js';
import { builtOnce } from '../test/system/test-cache.js';

const directories = 200;
const filesEach = 100;
const MiB = 1 << 20;

export const bulk = { tag: 'bulk', bigFile: 'data.bin', bigFileBytes: 512 * MiB };

/** The OCI layout directory. */
export async function bulkImage(): Promise<string> {
  const key = createHash('sha256').update(await readFile(import.meta.filename));
  return builtOnce(`bulk-${key.digest('hex').slice(0, 16)}`, async (made, work) => {
    const root = join(work, 'root');
    for (const directory of bulkDirectories()) {
      await mkdir(join(root, directory), { recursive: true });
      for (const file of bulkFiles(directory)) await writeFile(join(root, file), file.padEnd(100, '.'));
    }
    const stream = createCipheriv('aes-128-ctr', Buffer.alloc(16, 1), Buffer.alloc(16));
    const zeros = Buffer.alloc(MiB);
    const data = await open(join(root, bulk.bigFile), 'w');
    for (let at = 0; at < bulk.bigFileBytes; at += MiB) await data.write(stream.update(zeros));
    await data.close();
    const blobs = join(made, 'blobs', 'sha256');
    await mkdir(blobs, { recursive: true });
    await writeLayout(made, bulk.tag, {}, [await packLayer(root, blobs, 'none', 'bulk')]);
  });
}

/** Relative paths of all small files, directory by directory. */
export function bulkPaths(): string[] {
  return bulkDirectories().flatMap(bulkFiles);
}

function bulkDirectories(): string[] {
  return Array.from({ length: directories }, (_, index) => `tree/d${String(index).padStart(3, '0')}`);
}

function bulkFiles(directory: string): string[] {
  return Array.from({ length: filesEach }, (_, index) => `${directory}/f${String(index).padStart(3, '0')}`);
}
