/**
 * Archives of `docker save`: a tar with `manifest.json`, which lists for each image its config, its names and the
 * paths of its layers. Classic ones have `<id>/layer.tar` (a later layer may be a link to an equal earlier one);
 * new ones are OCI layouts at the same time, but the layout's manifest of some versions has no layers, so that
 * `manifest.json` decides here. Such an archive has no manifest digest: one is made from what it has.
 */
import { createHash } from 'node:crypto';
import { digestOf, isDigest, printable, verifyBytes, verifyStream } from './digest.js';
import { parseImageConfig } from './image-config.js';
import { checkLayerCount, checkPlatform } from './image-documents.js';
import type { ImageInput, InputLayer } from './image-input.js';
import { type InputFiles, missing } from './input-files.js';
import { JsonObject } from './json-object.js';
import { openLayoutInput, sameName } from './layout-input.js';
import {
  encodeManifest,
  MAX_LAYERS,
  MAX_MANIFEST_BYTES,
  type Manifest,
  MEDIA_TYPE,
  type Platform,
} from './manifest.js';
import { OciError } from './oci-error.js';

interface SavedImage {
  config: string;
  names: string[];
  layers: string[];
}

/** Opens an image of an archive. Takes over `files` when it resolves. Throws OciError. */
export async function openDockerArchive(
  files: InputFiles,
  selector: string | undefined,
  wanted: Platform | undefined,
): Promise<ImageInput> {
  if ((await files.size('manifest.json')) === undefined) {
    if ((await files.size('oci-layout')) !== undefined) return openLayoutInput(files, selector, wanted);
    throw new OciError(
      'INVALID_ARCHIVE',
      `${files.location}: no manifest.json, so it is not an archive of docker save`,
    );
  }
  const saved = await chooseImage(await readSavedImages(files), files, selector);
  const configBytes = await files.read(saved.config, MAX_MANIFEST_BYTES);
  const named = digestInPath(saved.config);
  if (named !== undefined) {
    verifyBytes(configBytes, { digest: named, size: configBytes.length }, `${files.location}: config`);
  }
  const config = parseImageConfig(configBytes, `${files.location}: ${saved.config}`);
  checkPlatform(config.platform, wanted, files.location);
  checkLayerCount(saved.layers.length, config.diffIDs.length, files.location);
  const layers: InputLayer[] = [];
  for (const [i, path] of saved.layers.entries()) {
    layers.push(await describeLayer(files, path, config.diffIDs[i] ?? ''));
  }
  const name =
    saved.names.find((known) => selector !== undefined && sameName(known, selector)) ?? saved.names[0];
  const { manifest, manifestBytes } = synthesizeManifest(configBytes, layers);
  return {
    location: files.location,
    ...(name === undefined ? {} : { name }),
    manifestDigest: digestOf(manifestBytes),
    manifest,
    manifestBytes,
    config,
    configBytes,
    layers,
    close: () => files.close(),
  };
}

async function readSavedImages(files: InputFiles): Promise<SavedImage[]> {
  const what = `${files.location}: manifest.json`;
  const bytes = await files.read('manifest.json', MAX_MANIFEST_BYTES);
  const wrapped = Buffer.concat([Buffer.from('{"images":'), bytes, Buffer.from('}')]);
  const json = JsonObject.parse(wrapped, MAX_MANIFEST_BYTES + 16, 'INVALID_ARCHIVE', what);
  return (json.objects('images') ?? []).map((image) => {
    const layers = image.strings('Layers') ?? [];
    if (layers.length > MAX_LAYERS) throw image.error('Layers', `more than ${MAX_LAYERS}`);
    return { config: image.requiredString('Config'), names: image.strings('RepoTags') ?? [], layers };
  });
}

async function chooseImage(
  images: readonly SavedImage[],
  files: InputFiles,
  selector: string | undefined,
): Promise<SavedImage> {
  const { location } = files;
  const label = ({ names, config }: SavedImage) => names[0] ?? digestInPath(config) ?? config;
  const known = images.map(label).sort().join(', ');
  const [first] = images;
  if (first === undefined) throw new OciError('NOT_FOUND', `${location}: the archive has no images`);
  if (selector === undefined) {
    if (images.length === 1) return first;
    throw new OciError('AMBIGUOUS', `${location}: several images; add one of these after a colon: ${known}`);
  }
  const chosen = images.find(
    ({ names, config }) =>
      names.some((name) => sameName(name, selector)) || digestInPath(config) === selector,
  );
  if (chosen !== undefined) return chosen;
  throw new OciError('NOT_FOUND', `${location}: no image ${printable(selector)}; it has ${known}`);
}

/** The digest that a path of the archive promises: `<hex>.json` of old archives, `blobs/sha256/<hex>` of new ones. */
function digestInPath(path: string): string | undefined {
  const hex = /^(?:blobs\/sha256\/)?([0-9a-f]{64})(?:\.json)?$/.exec(path)?.[1];
  return hex === undefined ? undefined : `sha256:${hex}`;
}

/**
 * A plain tar is its own blob, so its digest is the diffID. The digest of a compressed layer is in its path or has
 * to be computed, which reads it once more.
 */
async function describeLayer(files: InputFiles, path: string, diffID: string): Promise<InputLayer> {
  const size = await files.size(path);
  if (size === undefined) throw missing(files, path);
  const mediaType = layerMediaType(await firstBytes(files, path));
  let digest = mediaType === MEDIA_TYPE.layerTar ? diffID : digestInPath(path);
  if (digest === undefined || !isDigest(digest)) {
    const hash = createHash('sha256');
    for await (const chunk of files.stream(path)) hash.update(chunk);
    digest = `sha256:${hash.digest('hex')}`;
  }
  const expected = { digest, size };
  return {
    digest,
    diffID,
    size,
    mediaType,
    open: () => verifyStream(files.stream(path), expected, `${files.location}: layer ${path}`),
  };
}

async function firstBytes(files: InputFiles, path: string): Promise<Uint8Array> {
  for await (const chunk of files.stream(path, 4)) return chunk;
  return new Uint8Array();
}

/** By magic number: RFC 1952 §2.3.1 (gzip), RFC 8878 §3.1.1 (zstd); a tar begins with a name. */
function layerMediaType(head: Uint8Array): string {
  if (head[0] === 0x1f && head[1] === 0x8b) return MEDIA_TYPE.layerGzip;
  if (head[0] === 0x28 && head[1] === 0xb5 && head[2] === 0x2f && head[3] === 0xfd)
    return MEDIA_TYPE.layerZstd;
  return MEDIA_TYPE.layerTar;
}

/** The OCI manifest of an image that has none; the same archive content gives the same digest. */
export function synthesizeManifest(
  configBytes: Uint8Array,
  layers: readonly Pick<InputLayer, 'digest' | 'size' | 'mediaType'>[],
): { manifest: Manifest; manifestBytes: Uint8Array } {
  const manifest: Manifest = {
    mediaType: MEDIA_TYPE.manifest,
    config: { mediaType: MEDIA_TYPE.config, digest: digestOf(configBytes), size: configBytes.length },
    layers: layers.map(({ mediaType, digest, size }) => ({ mediaType, digest, size })),
  };
  return { manifest, manifestBytes: encodeManifest(manifest) };
}
