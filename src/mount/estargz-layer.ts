/**
 * An eStargz layer, ready to be read lazily: of its blob, the footer and the table of contents are fetched and nothing
 * else. The table is verified against the image manifest, and every chunk that is read later against the table.
 */
import type { BlockCache } from '../cache/block-cache.js';
import { BLOCK_DIGESTS_TYPE, CHUNK_MAP_TYPE, LAYER_RECIPE_TYPE } from '../image/artifact.js';
import { layOutEstargz } from '../layer/estargz-layout.js';
import {
  FOOTER_SIZE,
  MAX_COMPRESSED_TOC_BYTES,
  readToc,
  TOC_ANNOTATION,
  tocOffset,
} from '../layer/estargz-toc.js';
import { LayerError } from '../layer/layer-error.js';
import { digestOf, isDigest, parseDigest } from '../oci/digest.js';
import type { Descriptor } from '../oci/manifest.js';
import type { RemoteBlob } from '../oci/remote-blob.js';
import type { Repository } from '../oci/repository.js';
import type { LayerTrees } from './host-artifact.js';
import type { HostLayer, HostLayers } from './host-layers.js';

/** What the end of the blob is fetched in at first: footer and table of a small layer. */
const FIRST_TAIL = 64 << 10;

/** Whether the manifest says that the layer has a table of contents. */
export function claimsToc({ annotations }: Descriptor): boolean {
  return annotations?.[TOC_ANNOTATION] !== undefined;
}

/**
 * `trees` gets the tree of a layer that was not known yet. Throws LayerError, TarError and ErofsError for a table of contents that cannot be used, and what the repository
 * throws.
 */
export async function openEstargzLayer(
  host: HostLayers,
  { blobs }: BlockCache,
  repository: Repository,
  { diffID, blob }: { diffID: string; blob: Descriptor },
  trees: LayerTrees,
  signal: AbortSignal | undefined,
): Promise<HostLayer> {
  const digest = blob.annotations?.[TOC_ANNOTATION] ?? '';
  if (!isDigest(digest) || !digest.startsWith('sha256:')) {
    throw new LayerError('CORRUPT', 'the digest of its table of contents is no sha256 digest');
  }
  // The diffID proves nothing here, so images share a layer only when they share the table.
  const { hex: key } = parseDigest(digestOf(Buffer.from(`estargz\n${digest}\n${blob.digest}\n${diffID}\n`)));
  return host.once(key, diffID, signal, async () => {
    const { offset, compressed } = await fetchToc(repository.blob(blob, 'layer'), signal);
    const entries = await readToc(compressed, digest);
    const layer = await layOutEstargz(entries, { diffID, size: blob.size, tocOffset: offset });
    trees.set(diffID, { diffID, root: layer.root, blocks: layer.blocks });
    return {
      diffID,
      blob,
      digests: await blobs.keep(BLOCK_DIGESTS_TYPE, layer.digests.encode()),
      recipe: await blobs.keep(LAYER_RECIPE_TYPE, layer.recipe),
      checkpoints: await blobs.keep(CHUNK_MAP_TYPE, layer.chunkMap),
      front: layer.front,
    };
  });
}

/** In one request, or in two where the table is large. */
async function fetchToc(
  blob: RemoteBlob,
  signal: AbortSignal | undefined,
): Promise<{ offset: number; compressed: Uint8Array }> {
  const { size } = blob.descriptor;
  const tailSize = Math.min(size, FIRST_TAIL);
  const tail = await blob.read(size - tailSize, tailSize, signal);
  const offset = tailSize < FOOTER_SIZE ? undefined : tocOffset(tail.subarray(-FOOTER_SIZE), size);
  if (offset === undefined) throw new LayerError('CORRUPT', 'it does not end as eStargz does');
  const length = size - FOOTER_SIZE - offset;
  if (length > MAX_COMPRESSED_TOC_BYTES) {
    throw new LayerError('TOO_LARGE', `its table of contents has ${length} bytes`);
  }
  const there = tail.subarray(Math.max(0, offset - (size - tailSize)), -FOOTER_SIZE);
  const missing = await blob.read(offset, length - there.length, signal);
  return { offset, compressed: missing.length === 0 ? there : Buffer.concat([missing, there]) };
}
