/** What `orca inspect` tells of an image in a store, as plain data. */
import { closeSync, fstatSync, openSync } from 'node:fs';
import { ErofsImage } from '../erofs/reader.js';
import { blobPath } from '../image/catalog.js';
import { describePath, type IndexSummary, type PathExtent, summarizeIndex } from '../image/inspect.js';
import { verifyBytes } from '../oci/digest.js';
import type { ImageConfig } from '../oci/image-config.js';
import { MAX_MANIFEST_BYTES, parseManifest } from '../oci/manifest.js';
import { openSource } from '../source/open-source.js';
import { loadImage, type RemoteImage } from '../source/remote-image.js';
import type { Source } from '../source/source.js';
import { fileReader } from '../vhd/vhd.js';

export interface InspectionRequest {
  store: string;
  image: string;
  /** Directory of the block cache. */
  cache: string;
  credentials?: string | undefined;
}

export interface LayerInspection {
  diffID: string;
  /** Digest of the blob. */
  digest: string;
  /** Bytes of the blob, compressed. */
  blobBytes: number;
  /** Bytes of the layer VHD. */
  vhdBytes: number;
  /** Bytes of it that files of the merged image use, and how many files that are. */
  visibleBytes: number;
  files: number;
}

export interface ImageInspection {
  name: string;
  manifestDigest: string;
  config: ImageConfig;
  /** Bytes of the image index. */
  indexBytes: number;
  /** Inodes of the merged image, by kind. */
  inodes: IndexSummary['inodes'];
  /** In the order of the manifest, lowest first; a layer that occurs twice is listed twice. */
  layers: LayerInspection[];
}

export interface PathInspection {
  path: string;
  kind: string;
  /** Octal, four digits. */
  mode: string;
  uid: number;
  gid: number;
  /** ISO 8601 with nanoseconds. */
  mtime: string;
  nlink: number;
  size: number;
  target?: string;
  /** Values in base64. */
  xattrs: Record<string, string>;
  extents: PathExtent[];
}

/** Throws what loading the image throws. */
export async function inspectImage(request: InspectionRequest): Promise<ImageInspection> {
  return await withImage(request, async (image, index, source) => {
    const bytes = await source.readFile(blobPath(image.manifestDigest), MAX_MANIFEST_BYTES);
    verifyBytes(bytes, { digest: image.manifestDigest, size: bytes.length }, 'image manifest');
    const manifest = parseManifest(bytes);
    const { inodes, devices } = summarizeIndex(index.image);
    const layers = image.config.diffIDs.map((diffID, i) => {
      const usage = devices.find((device) => device.diffID === diffID);
      return {
        diffID,
        digest: manifest.layers[i]?.digest ?? '',
        blobBytes: manifest.layers[i]?.size ?? 0,
        vhdBytes: image.devices.find((device) => device.diffID === diffID)?.size ?? 0,
        visibleBytes: usage?.visible ?? 0,
        files: usage?.files ?? 0,
      };
    });
    const { name, manifestDigest, config } = image;
    return { name, manifestDigest, config, indexBytes: index.size, inodes, layers };
  });
}

/** Throws ImageError NOT_FOUND for a path that the image does not have. */
export async function inspectPath(request: InspectionRequest, path: string): Promise<PathInspection> {
  return await withImage(request, async (_image, index) => {
    const description = describePath(index.image, path);
    return {
      ...description,
      mode: description.mode.toString(8).padStart(4, '0'),
      mtime: formatTime(description.mtime),
      xattrs: Object.fromEntries(
        description.xattrs.map(({ name, value }) => [name, Buffer.from(value).toString('base64')]),
      ),
    };
  });
}

async function withImage<T>(
  request: InspectionRequest,
  use: (image: RemoteImage, index: { image: ErofsImage; size: number }, source: Source) => Promise<T>,
): Promise<T> {
  const { credentials } = request;
  const source = await openSource(
    request.store,
    credentials === undefined ? {} : { credentialsFile: credentials },
  );
  try {
    const image = await loadImage(source, request.image, request.cache);
    const fd = openSync(image.indexPath, 'r');
    try {
      const { size } = fstatSync(fd);
      return await use(image, { image: ErofsImage.open(fileReader(fd), size), size }, source);
    } finally {
      closeSync(fd);
    }
  } finally {
    await source.close();
  }
}

/** `2024-01-31T23:59:59.123456789Z` */
function formatTime(nanoseconds: bigint): string {
  const billion = 1_000_000_000n;
  const rest = ((nanoseconds % billion) + billion) % billion;
  const date = new Date(Number((nanoseconds - rest) / 1_000_000n));
  if (Number.isNaN(date.getTime())) return `${nanoseconds} ns since 1970`;
  return date.toISOString().replace(/\.\d+Z$/, `.${rest.toString().padStart(9, '0')}Z`);
}
