/**
 * An image of a registry that has not expanded it, or knows nothing of teleportation: the host expands it, all layers
 * at once, with the registry's own code, and mounts the result. What was expanded once serves every image with the
 * same layers.
 */
import type { BlockCache } from '../cache/block-cache.js';
import { BLOCK_SIZE } from '../erofs/tree.js';
import { OrcaError } from '../errors.js';
import { CHUNK_MAP_TYPE, encodeTeleportArtifact, IMAGE_INDEX_TYPE } from '../image/artifact.js';
import { mergeImageIndex } from '../image/image-index.js';
import { LayerRecipe } from '../layer/recipe.js';
import { parseImageConfig } from '../oci/image-config.js';
import { type Descriptor, MAX_MANIFEST_BYTES, MEDIA_TYPE, parseManifest } from '../oci/manifest.js';
import type { Repository } from '../oci/repository.js';
import { BlobSource } from '../source/blob-source.js';
import { assembleImage } from '../source/image-assembly.js';
import { type MountDescription, ownDescription } from '../source/mount-description.js';
import type { Source } from '../source/source.js';
import { type Logger, log } from '../telemetry/logger.js';
import { claimsToc, openEstargzLayer } from './estargz-layer.js';
import { type HostLayer, HostLayers, type HostProgress } from './host-layers.js';
import { MountError } from './mount-error.js';
import type { OpenedImage } from './open-image.js';
import { servedBy } from './source-choice.js';

export interface UnexpandedImageRequest {
  repository: Repository;
  /** Of the image of one platform. */
  manifestDigest: string;
  /** What the image was asked for by, for messages. */
  name?: string;
  /** Why the registry does not serve it better, for messages. */
  because?: string;
  cache: BlockCache;
  /** Told how the image can be mounted again while the registry is away. */
  remember?: (description: MountDescription) => Promise<void>;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: HostProgress) => void) | undefined;
  logger?: Logger;
  /** Serves what it can before the blobs do, once the registry has expanded the image; closed with the image. */
  share?: Source;
}

/**
 * Resolves when everything is in the block cache, but for layers that are read by their tables of contents. The first failure stops all layers. Throws RegistryError, OciError,
 * LayerError, TarError, ImageError, MountError TOO_LARGE.
 */
export async function openUnexpandedImage(request: UnexpandedImageRequest): Promise<OpenedImage> {
  const { repository, manifestDigest, cache, signal } = request;
  const name = request.name ?? `${repository.name}@${manifestDigest}`;
  const manifest = await repository.manifest(manifestDigest, signal);
  const { layers, config } = parseManifest(manifest.bytes, `manifest of ${name}`);
  const configBytes = await repository.readBlob(config, 'image config', MAX_MANIFEST_BYTES, signal);
  const { diffIDs } = parseImageConfig(configBytes, `config of ${name}`);
  if (layers.length !== diffIDs.length) {
    throw new MountError(
      'INVALID_IMAGE',
      `${name} has ${layers.length} layers and ${diffIDs.length} diffIDs`,
    );
  }
  const blobs = new Map(diffIDs.map((diffID, index) => [diffID, layers[index] as Descriptor]));
  const expanded = await expandAll(request, blobs);
  const artifact = await buildArtifact(cache, manifest.descriptor, diffIDs, expanded);
  const image = await assembleImage({
    name,
    manifest: manifest.descriptor,
    artifact,
    cacheDir: cache.directory,
    fetch: async ({ digest }, what) => {
      if (digest === manifestDigest) return manifest.bytes;
      if (digest === config.digest) return configBytes;
      throw new MountError('INVALID_IMAGE', `${what} is no longer in the cache: mount the image again`);
    },
  });
  // For blocks that are evicted while the image is mounted. Of another blob than this image's there are no checkpoints,
  // and what a chunk map says of one holds for no other.
  const readable = [...expanded.values()].flatMap((layer) => {
    const blob = blobs.get(layer.diffID) ?? layer.blob;
    if (blob.digest === layer.blob.digest) return layer;
    return layer.checkpoints.mediaType === CHUNK_MAP_TYPE ? [] : { ...layer, blob, checkpoints: undefined };
  });
  const source = new BlobSource({ repository, layers: readable, cacheDir: cache.directory });
  const lazy = [...expanded.values()].filter(({ checkpoints }) => checkpoints.mediaType === CHUNK_MAP_TYPE);
  const how =
    lazy.length > 0 ? `; ${lazy.length} of ${expanded.size} layers by their tables of contents` : '';
  await request.remember?.(
    ownDescription({
      manifest: manifest.descriptor,
      artifact,
      layers: image.devices.map(({ diffID, size }) => ({
        diffID,
        size,
        blob: blobs.get(diffID) as Descriptor,
      })),
    }),
  );
  const because = `because ${request.because ?? 'the registry has not expanded it'}${how}`;
  const served = servedBy([source], because, []);
  // The registry's layer VHDs have the blocks that expanding a layer here gives, and no others.
  const share = lazy.length > 0 ? undefined : request.share;
  const sources = share === undefined ? [source] : [share, source];
  const close = async () => {
    await Promise.all(sources.map((each) => each.close()));
  };
  return { image, sources, passedOver: [], served, close };
}

/** All at once: a host has more patience with its own processors than with a registry. */
async function expandAll(
  request: UnexpandedImageRequest,
  blobs: ReadonlyMap<string, Descriptor>,
): Promise<Map<string, HostLayer>> {
  const { cache, signal } = request;
  const host = await HostLayers.open(cache);
  const stop = new AbortController();
  const either = AbortSignal.any([stop.signal, ...(signal === undefined ? [] : [signal])]);
  const tasks = [...blobs].map(async ([diffID, blob]) => {
    try {
      return [diffID, await openLayer(host, request, { diffID, blob }, either)] as const;
    } catch (error) {
      stop.abort(error);
      throw error;
    }
  });
  await Promise.allSettled(tasks);
  // The first failure, not what it made of the others.
  if (stop.signal.aborted && signal?.aborted !== true) throw stop.signal.reason;
  return new Map(await Promise.all(tasks));
}

/** By its table of contents where it has one that can be used, or else expanded. */
async function openLayer(
  host: HostLayers,
  { repository, cache, onProgress, logger = log }: UnexpandedImageRequest,
  layer: { diffID: string; blob: Descriptor },
  signal: AbortSignal,
): Promise<HostLayer> {
  if (claimsToc(layer.blob)) {
    try {
      return await openEstargzLayer(host, cache, repository, layer, signal);
    } catch (error) {
      signal.throwIfAborted();
      // What the bytes are to blame for, or a registry that sends no ranges.
      if (!(error instanceof OrcaError) || error.retryable) throw error;
      logger.warn(
        `layer ${layer.blob.digest} is downloaded as a whole and not by its table of contents: ${error.message}`,
      );
    }
  }
  return host.expand(repository, layer, signal, onProgress);
}

/** Merges the layers, whose metadata the recipes hold, and keeps all that a mount needs in the cache. */
async function buildArtifact(
  cache: BlockCache,
  subject: Descriptor,
  diffIDs: readonly string[],
  expanded: ReadonlyMap<string, HostLayer>,
): Promise<Descriptor> {
  const payloads = new Map<string, LayerMetadata>();
  for (const { diffID, recipe } of expanded.values()) {
    const bytes = await cache.blobs.read(recipe, 'layer recipe');
    if (bytes === undefined)
      throw new MountError('INVALID_IMAGE', `layer ${diffID}: its recipe is gone; mount again`);
    payloads.set(diffID, new LayerMetadata(LayerRecipe.decode(bytes)));
  }
  const { pieces, devices } = mergeImageIndex(
    diffIDs.map((diffID) => {
      const { recipe, readAt } = payloads.get(diffID) as LayerMetadata;
      return { diffID, location: 'the block cache', open: (use) => use(readAt, recipe.size) };
    }),
  );
  const imageIndex = await cache.blobs.keep(IMAGE_INDEX_TYPE, Buffer.concat(pieces));
  const used = devices.map(({ diffID }) => expanded.get(diffID) as HostLayer);
  const bytes = encodeTeleportArtifact({
    subject,
    imageIndex,
    digests: used.map(({ diffID, digests }) => ({ diffID, descriptor: digests })),
    recipes: used.map(({ diffID, recipe }) => ({ diffID, descriptor: recipe })),
    checkpoints: [...new Map(used.map(({ blob, checkpoints }) => [blob.digest, checkpoints]))].map(
      ([blob, descriptor]) => ({ blob, descriptor }),
    ),
  });
  return cache.blobs.keep(MEDIA_TYPE.manifest, bytes);
}

/** Superblock, metadata and footer of a layer VHD; the data between is zero. */
class LayerMetadata {
  readonly #tail: Uint8Array;

  constructor(readonly recipe: LayerRecipe) {
    this.#tail = new Uint8Array(recipe.size - recipe.tail);
    recipe.fillLiterals(recipe.tail, this.#tail);
  }

  readonly readAt = (offset: number, length: number): Uint8Array => {
    const { recipe } = this;
    if (offset >= recipe.tail)
      return this.#tail.subarray(offset - recipe.tail, offset - recipe.tail + length);
    const bytes = new Uint8Array(length);
    const first = Math.max(0, Math.min(length, BLOCK_SIZE - offset));
    if (first > 0) recipe.fillLiterals(offset, bytes.subarray(0, first));
    const from = Math.min(length, recipe.tail - offset);
    bytes.set(this.#tail.subarray(0, length - from), from);
    return bytes;
  };
}
