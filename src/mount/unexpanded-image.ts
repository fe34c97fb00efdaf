/**
 * An image of a registry that has not expanded it, or knows nothing of teleportation: the host expands it, all layers
 * at once, with the registry's own code, and mounts the result. What was expanded once serves every image with the
 * same layers.
 */
import type { BlockCache } from '../cache/block-cache.js';
import { OrcaError } from '../errors.js';
import { CHUNK_MAP_TYPE } from '../image/artifact.js';
import { parseImageConfig } from '../oci/image-config.js';
import { type Descriptor, MAX_MANIFEST_BYTES, parseManifest } from '../oci/manifest.js';
import type { Repository } from '../oci/repository.js';
import { BlobSource } from '../source/blob-source.js';
import { assembleImage } from '../source/image-assembly.js';
import { type MountDescription, ownDescription } from '../source/mount-description.js';
import type { Source } from '../source/source.js';
import { type Logger, log } from '../telemetry/logger.js';
import { claimsToc, openEstargzLayer } from './estargz-layer.js';
import { hostArtifact, type LayerTrees } from './host-artifact.js';
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
  const trees: LayerTrees = new Map();
  const expanded = await expandAll(request, blobs, trees);
  const artifact = await hostArtifact(cache, manifest.descriptor, diffIDs, expanded, trees);
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
  const isLazy = new Set(lazy.map(({ diffID }) => diffID));
  const expandedHere = image.devices.reduce(
    (sum, { diffID, size }) => sum + (isLazy.has(diffID) ? 0 : size),
    0,
  );
  const fronts = lazy.flatMap(({ diffID, front = 0 }) => (front > 0 ? { diffID, bytes: front } : []));
  return { image: { ...image, fronts }, sources, passedOver: [], served, expandedHere, close };
}

/** All at once: a host has more patience with its own processors than with a registry. */
async function expandAll(
  request: UnexpandedImageRequest,
  blobs: ReadonlyMap<string, Descriptor>,
  trees: LayerTrees,
): Promise<Map<string, HostLayer>> {
  const { cache, signal } = request;
  const host = await HostLayers.open(cache);
  const stop = new AbortController();
  const either = AbortSignal.any([stop.signal, ...(signal === undefined ? [] : [signal])]);
  const tasks = [...blobs].map(async ([diffID, blob]) => {
    try {
      return [diffID, await openLayer(host, request, { diffID, blob }, trees, either)] as const;
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
  trees: LayerTrees,
  signal: AbortSignal,
): Promise<HostLayer> {
  if (claimsToc(layer.blob)) {
    try {
      return await openEstargzLayer(host, cache, repository, layer, trees, signal);
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
