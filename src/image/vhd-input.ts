/** Layers that other tools expanded, as input: `vhd:FILE[,FILE…]`. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { SUPERBLOCK_MAGIC, SUPERBLOCK_OFFSET } from '../erofs/format.js';
import type { ReadAt } from '../erofs/reader.js';
import { BLOCK_SIZE } from '../erofs/tree.js';
import type { ExpandedLayer } from '../layer/expand.js';
import { type ImportOptions, importTree } from '../layer/import-tree.js';
import { digestOf } from '../oci/digest.js';
import { encodeManifest, MEDIA_TYPE } from '../oci/manifest.js';
import { fileReader, openVhd } from '../vhd/vhd.js';
import type { PublishableImage } from './publish.js';

/** The media type of a layer that came as a file system; its digest is that of the payload of the layer VHD. */
export const PAYLOAD_TYPE = 'application/vnd.orca.layer.v1.erofs';

/** The footer at the end of every VHD, and how it begins. */
const FOOTER_SIZE = 512;
const VHD_COOKIE = 'conectix';

/**
 * Lays the file system in `path` out anew as a layer VHD at `output`. Throws VhdError, ErofsError (compressed,
 * several devices, not EROFS), LayerError.
 */
export async function importVhd(path: string, options: ImportOptions): Promise<ExpandedLayer> {
  const fd = openSync(path, 'r');
  try {
    return await importTree(openPayload(fileReader(fd), fstatSync(fd).size), options);
  } finally {
    closeSync(fd);
  }
}

/** The disk in a VHD, or the file itself when it is an EROFS image that is in none. */
function openPayload(readAt: ReadAt, size: number): { readAt: ReadAt; size: number } {
  const isVhd =
    size >= FOOTER_SIZE && Buffer.from(readAt(size - FOOTER_SIZE, 8)).toString('latin1') === VHD_COOKIE;
  const isErofs =
    size >= BLOCK_SIZE && Buffer.from(readAt(SUPERBLOCK_OFFSET, 4)).readUInt32LE() === SUPERBLOCK_MAGIC;
  return isErofs && !isVhd ? { readAt, size } : openVhd(readAt, size);
}

/** The OCI names of architectures (GOARCH) for those of Node. */
const ARCHITECTURES: Record<string, string> = { x64: 'amd64', ia32: '386' };

/** An image of imported layers, lowest first: a config that has nothing but the layers, and its manifest. */
export function synthesizeImage(layers: readonly ExpandedLayer[]): PublishableImage {
  const configBytes = Buffer.from(
    JSON.stringify({
      architecture: ARCHITECTURES[process.arch] ?? process.arch,
      os: 'linux',
      config: {},
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffID }) => diffID) },
    }),
  );
  const manifest = {
    mediaType: MEDIA_TYPE.manifest,
    config: { mediaType: MEDIA_TYPE.config, digest: digestOf(configBytes), size: configBytes.length },
    layers: layers.map(({ diffID, size }) => ({
      mediaType: PAYLOAD_TYPE,
      digest: diffID,
      size: size - FOOTER_SIZE,
    })),
  };
  const manifestBytes = encodeManifest(manifest);
  return { manifestDigest: digestOf(manifestBytes), manifest, manifestBytes, configBytes, layers };
}
