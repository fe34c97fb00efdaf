/** OCI layouts of one image, made of uncompressed layer tars. */
import { gzipSync } from 'node:zlib';
import { digestOf } from '../../src/oci/digest.js';
import { WritableLayout } from '../../src/oci/layout.js';
import { encodeManifest, MEDIA_TYPE } from '../../src/oci/manifest.js';

/** Makes a layout in `dir`, whose image has the layers gzipped, lowest first; returns `dir`. */
export async function layoutOf(
  dir: string,
  layerTars: readonly Uint8Array[],
  name = 'app:1',
): Promise<string> {
  const layout = await WritableLayout.create(dir);
  const rootfs = { type: 'layers', diff_ids: layerTars.map((tar) => digestOf(tar)) };
  const config = await layout.writeBlob(
    MEDIA_TYPE.config,
    Buffer.from(JSON.stringify({ os: 'linux', architecture: 'amd64', rootfs })),
  );
  const layers = [];
  for (const tar of layerTars)
    layers.push(await layout.writeBlob(MEDIA_TYPE.layerGzip, gzipSync(tar, { level: 1 })));
  const image = await layout.writeBlob(
    MEDIA_TYPE.manifest,
    encodeManifest({ mediaType: MEDIA_TYPE.manifest, config, layers }),
  );
  const annotations = { 'org.opencontainers.image.ref.name': name };
  await layout.writeIndex({ mediaType: MEDIA_TYPE.index, manifests: [{ ...image, annotations }] });
  return dir;
}
