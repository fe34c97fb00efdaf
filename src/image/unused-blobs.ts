/** Removing the blobs of a store's images that none of its images needs any more. */
import { readdir, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { OrcaError } from '../errors.js';
import type { WritableLayout } from '../oci/layout.js';
import { type ImageIndex, MAX_MANIFEST_BYTES, parseManifest } from '../oci/manifest.js';

/** Nobody may write into the layout meanwhile. A manifest that cannot be read keeps nothing but itself. */
export async function removeUnusedBlobs(layout: WritableLayout, catalog: ImageIndex): Promise<void> {
  const used = new Set<string>();
  for (const descriptor of catalog.manifests) {
    if (used.has(descriptor.digest)) continue;
    used.add(descriptor.digest);
    try {
      const bytes = await layout.readBlob(descriptor, 'manifest', MAX_MANIFEST_BYTES);
      const { config, layers } = parseManifest(bytes);
      for (const { digest } of [config, ...layers]) used.add(digest);
    } catch (error) {
      if (!(error instanceof OrcaError)) throw error;
    }
  }
  const blobs = join(layout.dir, 'blobs');
  for (const algorithm of await readdir(blobs)) {
    for (const hex of await readdir(join(blobs, algorithm))) {
      if (!used.has(`${algorithm}:${hex}`)) await unlink(join(blobs, algorithm, hex));
    }
  }
}
