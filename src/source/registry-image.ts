/**
 * An image of a registry, ready to be mounted where the registry has expanded it: name → manifest → mount API →
 * image index, block digests, and the sources to read from, best first.
 *
 * Everything is verified against the digest that it was named by, from the manifest's on. That the teleport artifact
 * is that of the manifest rests on the registry's word, as its store does.
 */
import { OrcaError } from '../errors.js';
import { readManifest } from '../oci/image-documents.js';
import { type Descriptor, isIndexType, MAX_MANIFEST_BYTES, type Platform } from '../oci/manifest.js';
import { familiarReference, type Reference, withDefaultTag } from '../oci/reference.js';
import type { RegistryClient } from '../oci/registry-client.js';
import { documentReader } from '../oci/registry-input.js';
import type { Repository } from '../oci/repository.js';
import { type Logger, log } from '../telemetry/logger.js';
import type { BlobLayer } from './blob-source.js';
import { assembleImage, type ImagesInUse, type RemoteImage } from './image-assembly.js';
import {
  isOwnDescription,
  type LayerProgress,
  type MountDescription,
  type Transport,
} from './mount-description.js';
import { RegistryMemory, type RememberedImage } from './registry-memory.js';
import {
  askMount,
  type MountAnswer,
  type MountOptions,
  publishProfile,
  RegistryMount,
} from './registry-mount.js';
import { openTransports, type PassedOver } from './registry-transports.js';
import { type Source, SourceError } from './source.js';

/** As docker's: `missing` asks the registry only for what this host cannot know, `never` not at all. */
export const PULL_POLICIES = ['always', 'missing', 'never'] as const;
export type PullPolicy = (typeof PULL_POLICIES)[number];

export interface RegistryImageOptions extends MountOptions {
  client: RegistryClient;
  reference: Reference;
  /** Default linux/amd64. */
  platform?: Platform;
  /** Default missing. */
  pull?: PullPolicy;
  cacheDir: string;
  logger?: Logger;
  signal?: AbortSignal;
  inUse?: ImagesInUse;
}

/** What every answer has, so that the blobs can be read whatever the mount API says. */
interface Resolved {
  repository: Repository;
  /** Of the image of the platform. */
  manifestDigest: string;
}

export interface ReadyImage extends Resolved {
  state: 'ready';
  image: RemoteImage;
  /** Best first; the caller closes them. Empty when the registry offers nothing but blobs. */
  sources: Source[];
  /** Transports that were offered and are not used, with the reason. */
  passedOver: PassedOver[];
  description: MountDescription;
  /** When the registry said so, if not just now; in milliseconds since 1970. */
  rememberedFrom?: number;
}

export type RegistryImage =
  | ReadyImage
  /** Ask again later, or read the blobs. */
  | (Resolved & { state: 'expanding'; layers: LayerProgress[] })
  /** The registry does not teleport, or not this repository. */
  | (Resolved & { state: 'not-enabled' })
  /** Teleportation is on and no artifact there: expansion has failed, or never began. */
  | (Resolved & { state: 'no-artifact'; reason: string | undefined });

/** An image that can be mounted as it was need not wait longer than this for a registry that does not answer. */
const PATIENCE_MS = 10_000;

/**
 * By digest, an image that this host has resolved before is opened without a word to the registry; by tag, the
 * registry is asked, and what the tag stood for last is used, with a warning, when it cannot be reached.
 * Throws RegistryError, OciError, SourceError NOT_FOUND for what `never` does not find, and what assembleImage throws.
 */
export async function openRegistryImage(options: RegistryImageOptions): Promise<RegistryImage> {
  const { cacheDir, platform, pull = 'missing', signal } = options;
  const reference = withDefaultTag(options.reference);
  const name = familiarReference(reference);
  const remembered =
    pull === 'always' ? undefined : await new RegistryMemory(cacheDir).read(reference, platform);
  const isSettled = reference.digest !== undefined && remembered && !isOwnDescription(remembered.description);
  if (remembered !== undefined && (pull === 'never' || isSettled)) {
    const image = await openRemembered(options, reference, remembered);
    if (image !== undefined) return image;
  }
  if (pull === 'never') {
    throw new SourceError('NOT_FOUND', `${name} is not on this host: run orca pull ${name} first`);
  }
  if (remembered === undefined) return await openAnew(options, reference, undefined, signal);
  const patience = AbortSignal.timeout(PATIENCE_MS);
  try {
    const bounded = signal === undefined ? patience : AbortSignal.any([signal, patience]);
    return await openAnew(options, reference, remembered, bounded);
  } catch (error) {
    signal?.throwIfAborted();
    if (!patience.aborted && !(error instanceof OrcaError && error.retryable)) throw error;
    const image = await openRemembered(options, reference, remembered);
    if (image === undefined) throw error;
    const why = patience.aborted ? `no answer within ${PATIENCE_MS / 1000} s` : (error as Error).message;
    const since = new Date(remembered.resolvedAt).toISOString();
    (options.logger ?? log).warn(
      `${name} is used as it was resolved on ${since}, to ${image.manifestDigest}: the registry cannot be reached (${why})`,
    );
    return image;
  }
}

/** `remembered`: what this host knew the reference by. */
async function openAnew(
  options: RegistryImageOptions,
  reference: Reference,
  remembered: RememberedImage | undefined,
  signal: AbortSignal | undefined,
): Promise<RegistryImage> {
  const { client, cacheDir, platform, inUse } = options;
  const repository = client.repository(reference);
  // What the name stands for and how that can be read are asked at once: nearly always both are about one manifest.
  const early = askMount(repository, reference.digest ?? reference.tag ?? '', options, {
    signal,
    // Of an image that this host has had it has the documents, too.
    documents: remembered === undefined,
  }).catch(() => undefined);
  const { digest: manifestDigest } = await resolveManifest(repository, reference, platform, signal);
  const resolved = { repository, manifestDigest };
  const answer =
    usable(await early, manifestDigest) ??
    (await askMount(repository, manifestDigest, options, { signal, documents: true }));
  if (answer.state === 'expanding') return { ...resolved, ...answer };
  if (answer.state === 'unknown') return { ...resolved, state: 'not-enabled' };
  const { documents, ...description } = answer.description;
  const { artifact, manifest } = description;
  if (artifact === undefined) return { ...resolved, state: 'no-artifact', reason: description.reason };
  const mount = new RegistryMount(repository, manifestDigest, options, description);
  const open = (transports: readonly Transport[], layers: readonly BlobLayer[]) =>
    openTransports(
      client,
      repository,
      mount,
      { ...description, transports: [...transports] },
      { layers, cacheDir },
    );
  const stores = open(
    description.transports.filter(({ kind }) => kind !== 'blob'),
    [],
  );
  try {
    const memory = new RegistryMemory(cacheDir);
    const { domain, path } = reference;
    const pinned = { domain, path, digest: manifestDigest };
    // Of an image that is new to this host something will be read at once.
    const isNew =
      remembered?.description.manifest.digest !== manifestDigest &&
      (await memory.read(pinned, platform)) === undefined;
    if (isNew) stores.sources[0]?.connect?.().catch(() => undefined);
    const assembled = await assembleImage({
      name: familiarReference(reference),
      manifest,
      artifact,
      cacheDir,
      inUse,
      fetch: async (descriptor, what) =>
        documents?.get(descriptor.digest) ??
        (await fetchBlob(repository, descriptor, [manifest, artifact], what, signal)),
    });
    const image = { ...assembled, ...profilesOf(repository, description) };
    const names = [reference, ...(reference.digest === manifestDigest ? [] : [pinned])];
    await Promise.all(names.map((name) => memory.write(name, platform, description)));
    // Blobs are the last resort, wherever they stand.
    const blobs = open(
      description.transports.filter(({ kind }) => kind === 'blob'),
      image.blobs ?? [],
    );
    const sources = [...stores.sources, ...blobs.sources];
    const passedOver = [...stores.passedOver, ...blobs.passedOver];
    return { ...resolved, state: 'ready', image, sources, passedOver, description };
  } catch (error) {
    await Promise.all(stores.sources.map((source) => source.close()));
    throw error;
  }
}

/** What was said of a name that stands for this manifest. */
function usable(answer: MountAnswer | undefined, manifestDigest: string): MountAnswer | undefined {
  if (answer?.state === 'ready')
    return answer.description.manifest.digest === manifestDigest ? answer : undefined;
  // The layers that are being expanded may be those of another platform.
  return answer?.state === 'unknown' ? answer : undefined;
}

/** undefined when something of it is no longer in the cache. */
async function openRemembered(
  options: RegistryImageOptions,
  reference: Reference,
  { description, resolvedAt }: RememberedImage,
): Promise<ReadyImage | undefined> {
  const { client, cacheDir, inUse } = options;
  const { manifest, artifact } = description;
  if (artifact === undefined) return undefined;
  const name = familiarReference(reference);
  const repository = client.repository(reference);
  let image: RemoteImage;
  try {
    const fetch = async (_: Descriptor, what: string) => {
      throw new SourceError('NOT_FOUND', `${what} is not in the cache`);
    };
    const assembled = await assembleImage({ name, manifest, artifact, cacheDir, inUse, fetch });
    image = { ...assembled, ...profilesOf(repository, description) };
  } catch (error) {
    if (error instanceof SourceError && error.code === 'NOT_FOUND') return undefined;
    throw error;
  }
  const mount = new RegistryMount(repository, manifest.digest, options);
  const wanted = description.transports.filter(({ kind }) => options.transports?.includes(kind) ?? true);
  const { sources, passedOver } = openTransports(
    client,
    repository,
    mount,
    {
      ...description,
      transports: wanted,
    },
    { layers: image.blobs ?? [], cacheDir },
  );
  const resolved = { repository, manifestDigest: manifest.digest, rememberedFrom: resolvedAt };
  return { ...resolved, state: 'ready', image, sources, passedOver, description };
}

function profilesOf(
  repository: Repository,
  { manifest, profile, earlierProfile }: MountDescription,
): Pick<RemoteImage, 'publishedProfile' | 'earlierProfile' | 'publishProfile'> {
  const reader =
    (descriptor: Descriptor | undefined): NonNullable<RemoteImage['publishedProfile']> =>
    async (maxBytes, signal) =>
      descriptor && repository.readBlob(descriptor, 'startup profile', maxBytes, signal);
  return {
    publishedProfile: reader(profile),
    earlierProfile: reader(earlierProfile),
    publishProfile: (encoded, signal) => publishProfile(repository, manifest.digest, encoded, signal),
  };
}

/** The manifest of the platform; of a tag that is no index the headers alone are asked for. */
async function resolveManifest(
  repository: Repository,
  { tag, digest }: Reference,
  platform: Platform | undefined,
  signal: AbortSignal | undefined,
): Promise<Descriptor> {
  const found = await repository.resolve(digest ?? tag ?? '', signal);
  if (!isIndexType(found.mediaType)) return found;
  const read = documentReader(repository, undefined, signal);
  return (await readManifest(found, read, platform, repository.name)).descriptor;
}

async function fetchBlob(
  repository: Repository,
  descriptor: Descriptor,
  manifests: readonly Descriptor[],
  what: string,
  signal: AbortSignal | undefined,
): Promise<Uint8Array> {
  if (manifests.some(({ digest }) => digest === descriptor.digest)) {
    return (await repository.manifest(descriptor, signal)).bytes;
  }
  if (descriptor.size <= MAX_MANIFEST_BYTES) return repository.readBlob(descriptor, what, undefined, signal);
  // An image index may be large enough for its connection to be cut.
  const bytes = Buffer.allocUnsafeSlow(descriptor.size);
  let filled = 0;
  for await (const chunk of repository.blob(descriptor, what).stream(signal)) {
    bytes.set(chunk, filled);
    filled += chunk.length;
  }
  return bytes;
}
