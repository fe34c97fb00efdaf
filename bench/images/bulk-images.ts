/** Synthetic images for what real ones are too small for, each of one layer that is an uncompressed tar. */
import { createCipheriv, createHash } from 'node:crypto';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packLayer, writeLayout } from '../../test/system/layout-writer.js';
import { builtOnce } from '../../test/system/test-cache.js';
import type { BuiltImage } from './table-images.js';

const MiB = 1 << 20;

export const DATASET = { file: 'data.bin', bytes: 1430 * MiB };
export const TREE = { directory: 'tree', directories: 500, filesEach: 100 };

/** /data.bin, 1.5 GB that do not compress. */
export function datasetImage(): Promise<BuiltImage> {
  return bulkImage('dataset', async (root) => {
    const stream = createCipheriv('aes-128-ctr', Buffer.alloc(16, 2), Buffer.alloc(16));
    const zeros = Buffer.alloc(MiB);
    const file = await open(join(root, DATASET.file), 'w');
    for (let at = 0; at < DATASET.bytes; at += MiB) await file.write(stream.update(zeros));
    await file.close();
  });
}

/** /tree, 50,000 files of 100 bytes in 500 directories. */
export function treeImage(): Promise<BuiltImage> {
  return bulkImage('tree', async (root) => {
    for (let i = 0; i < TREE.directories; i++) {
      const directory = join(TREE.directory, `d${String(i).padStart(3, '0')}`);
      await mkdir(join(root, directory), { recursive: true });
      for (let j = 0; j < TREE.filesEach; j++) {
        const file = `${directory}/f${String(j).padStart(3, '0')}`;
        await writeFile(join(root, file), file.padEnd(100, '.'));
      }
    }
  });
}

async function bulkImage(tag: string, fill: (root: string) => Promise<void>): Promise<BuiltImage> {
  const key = createHash('sha256').update(await readFile(import.meta.filename));
  const directory = await builtOnce(`${tag}-${key.digest('hex').slice(0, 16)}`, async (made, work) => {
    const [root, blobs] = [join(work, 'root'), join(made, 'blobs/sha256')];
    for (const path of [root, blobs]) await mkdir(path, { recursive: true });
    await fill(root);
    await writeLayout(made, tag, {}, [await packLayer(root, blobs, 'none', tag)]);
  });
  return { directory, tag, check: { command: [] } };
}
