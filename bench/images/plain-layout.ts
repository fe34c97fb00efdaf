/** A copy of an OCI layout for programs that cannot read zstd, as umoci: its layers are tars. */
import { copyFile, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { digestOf } from '../../src/oci/digest.js';
import { run } from '../../test/system/command.js';
import { hexOf } from '../../test/system/layout-writer.js';

interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
}

/** The directory itself where no layer is of zstd; otherwise `target`, which must not be there. */
export async function withoutZstd(directory: string, target: string): Promise<string> {
  const blob = (root: string, { digest }: Pick<Descriptor, 'digest'>) =>
    join(root, 'blobs/sha256', hexOf(digest));
  const index = JSON.parse(await readFile(join(directory, 'index.json'), 'utf8')) as {
    manifests: Descriptor[];
  };
  const [named] = index.manifests as [Descriptor];
  const manifest = JSON.parse(await readFile(blob(directory, named), 'utf8')) as {
    config: Descriptor;
    layers: Descriptor[];
  };
  if (!manifest.layers.some(({ mediaType }) => mediaType.endsWith('+zstd'))) return directory;
  await mkdir(join(target, 'blobs/sha256'), { recursive: true });
  const config = await readFile(blob(directory, manifest.config), 'utf8');
  const { rootfs } = JSON.parse(config) as { rootfs: { diff_ids: string[] } };
  for (const [place, layer] of manifest.layers.entries()) {
    const digest = rootfs.diff_ids[place] as string;
    await run('zstd', ['-q', '-d', '-o', blob(target, { digest }), blob(directory, layer)]);
    const { size } = await stat(blob(target, { digest }));
    manifest.layers[place] = { mediaType: layer.mediaType.replace(/\+.*$/, ''), digest, size };
  }
  const bytes = Buffer.from(JSON.stringify(manifest));
  named.digest = digestOf(bytes);
  named.size = bytes.length;
  await writeFile(blob(target, named), bytes);
  await writeFile(blob(target, manifest.config), config);
  await writeFile(join(target, 'index.json'), JSON.stringify(index));
  await copyFile(join(directory, 'oci-layout'), join(target, 'oci-layout'));
  return target;
}
