/**
 * From what a user asks for to an image that can be mounted: its index and block digests in the cache, and the sources
 * that serve the rest, best first. The one way in for every command, for the daemon and for the snapshotter.
 */
import type { BlockCache } from '../cache/block-cache.js';
import type { Platform } from '../oci/manifest.js';
import { familiarReference, parseReference, withDefaultTag } from '../oci/reference.js';
import type { RegistryClient, RegistryClientOptions } from '../oci/registry-client.js';
import type { ImagesInUse } from '../source/image-assembly.js';
import type { LayerProgress, TransportKind } from '../source/mount-description.js';
import { openSource } from '../source/open-source.js';
import type {
  PullPolicy,
  ReadyImage,
  RegistryImage,
  RegistryImageOptions,
} from '../source/registry-image.js';
import { RegistryMemory } from '../source/registry-memory.js';
import type { PassedOver } from '../source/registry-transports.js';
import { loadImage, type RemoteImage } from '../source/remote-image.js';
import type { Source } from '../source/source.js';
import { type Logger, log } from '../telemetry/logger.js';
import { awaitExpansion, describeProgress } from './expansion-wait.js';
import { firstReady } from './first-ready.js';
import { LaterShare } from './later-share.js';
import { MountError } from './mount-error.js';
import { choiceOf, servedBy, TRANSPORTS } from './source-choice.js';

/** Plain JSON, so that it can be sent to another process. Passwords stand in it only where `store` has one. */
export interface ImageRequest {
  /** Name or digest in the store; without a store `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]` by Docker's rules. */
  image: string;
  /** `file:DIR`, a path, an smb or https URL, which may hold a password and is shown nowhere. */
  store?: string | undefined;
  /** Of the share that `store` is: a file in the format of mount.cifs. */
  credentials?: string | undefined;
  /** Where this host is, as the registry names regions. */
  region?: string | undefined;
  /** Transports that may be used; all by default. */
  transports?: readonly TransportKind[] | undefined;
  /** Default linux/amd64. */
  platform?: Platform | undefined;
  /** Default missing. */
  pull?: PullPolicy | undefined;
  /** Milliseconds to wait for the registry to expand the image; default 0, without `blob` 300000. */
  wait?: number | undefined;
  /** Mount the lowest layers of the image alone, this many; default all. */
  layers?: number | undefined;
  registry?:
    | Pick<RegistryClientOptions, 'insecure' | 'caFile' | 'caFiles' | 'certsDirectory' | 'mirrors'>
    | undefined;
}

export interface OpenOptions {
  logger?: Logger;
  /** Told again and again how far the registry is with an image that is not expanded yet; otherwise the log is. */
  onExpanding?: (layers: readonly LayerProgress[]) => void;
  /** Refuse what this host would have to expand; default false. */
  onlyExpanded?: boolean;
  /** Where the source of a store comes from; by default it is opened for this image alone. */
  openStore?: (request: ImageRequest & { store: string }) => Promise<StoreLease>;
  /** Where the client of a registry comes from; by default it is made for this image alone. */
  openClient?: (options: RegistryClientOptions) => Promise<ClientLease> | ClientLease;
  /** Where credentials and proxies of registries are found; default that of this process. */
  env?: NodeJS.ProcessEnv;
  /** Images that are mounted in this process with the same cache. */
  inUse?: ImagesInUse;
}

export interface StoreLease {
  source: Source;
  /** Whoever has it as well may still use it. */
  close(): Promise<void>;
}

export interface ClientLease {
  client: RegistryClient;
  /** Whoever has it as well may still use it. */
  close(): Promise<void>;
}

export interface OpenedImage {
  image: RemoteImage;
  /** Best first. They renew their credentials themselves. */
  sources: Source[];
  /** The better transports that do not serve it, with the reason. */
  passedOver: PassedOver[];
  /** `served by LOCATION (KIND, because …; not by KIND, because …)` */
  served: string;
  /** Bytes of the layer VHDs that this host has expanded itself. */
  expandedHere?: number;
  /** Closes the sources and whatever they need. */
  close(): Promise<void>;
}

const DEFAULT_WAIT_MS = 300_000;

/**
 * Opens an image; `cache` is the block cache that it is to be mounted with. Throws MountError NOT_EXPANDED and EXPANDING, and what
 * loadImage and openRegistryImage throw.
 */
export async function openImage(
  request: ImageRequest,
  cache: BlockCache,
  signal?: AbortSignal,
  options: OpenOptions = {},
): Promise<OpenedImage> {
  const opened = await (request.store === undefined
    ? openFromRegistry(request, cache, signal, options)
    : openFromStore({ ...request, store: request.store }, cache.directory, signal, options));
  const { layers = opened.image.config.diffIDs.length } = request;
  if (layers === opened.image.config.diffIDs.length) return opened;
  try {
    const { imagePrefix } = await import('../source/image-prefix.js');
    const image = await imagePrefix(opened.image, layers, opened.sources, cache.directory, signal);
    return { ...opened, image };
  } catch (error) {
    await opened.close();
    throw error;
  }
}

async function openFromStore(
  request: ImageRequest & { store: string },
  cacheDir: string,
  signal: AbortSignal | undefined,
  { logger, openStore = (own) => openOwnStore(own, logger), inUse }: OpenOptions,
): Promise<OpenedImage> {
  const lease = await openStore(request);
  try {
    const image = await loadImage(lease.source, request.image, cacheDir, signal, inUse);
    return { ...storeSources(lease), image };
  } catch (error) {
    await lease.close();
    throw error;
  }
}

async function openOwnStore(
  { store, credentials }: ImageRequest & { store: string },
  logger: Logger | undefined,
): Promise<StoreLease> {
  const source = await openSource(store, {
    ...(credentials === undefined ? {} : { credentialsFile: credentials }),
    ...(logger === undefined ? {} : { logger }),
  });
  return { source, close: () => source.close() };
}

/** A store is the one source of its images. */
export function storeSources({ source, close }: StoreLease): Omit<OpenedImage, 'image'> {
  return { sources: [source], passedOver: [], served: servedBy([source], 'as --store says', []), close };
}

async function openFromRegistry(
  request: ImageRequest,
  cache: BlockCache,
  signal: AbortSignal | undefined,
  { logger, onExpanding, onlyExpanded = false, env, openClient = openOwnClient, inUse }: OpenOptions,
): Promise<OpenedImage> {
  const reference = parseReference(request.image);
  const mayBlob = request.transports?.includes('blob') ?? true;
  const lease = await openClient({ ...request.registry, ...(logger && { logger }), ...(env && { env }) });
  const { client } = lease;
  try {
    const { openRegistryImage } = await import('../source/registry-image.js');
    const query: RegistryImageOptions = {
      client,
      reference,
      cacheDir: cache.directory,
      ...(request.region === undefined ? {} : { region: request.region }),
      ...(request.transports === undefined ? {} : { transports: request.transports }),
      ...(request.platform === undefined ? {} : { platform: request.platform }),
      ...(request.pull === undefined ? {} : { pull: request.pull }),
      ...(logger === undefined ? {} : { logger }),
      ...(signal === undefined ? {} : { signal }),
      ...(inUse === undefined ? {} : { inUse }),
    };
    const ask = () => openRegistryImage(query);
    const found = await awaitExpansion(ask, {
      timeout: request.wait ?? (mayBlob ? 0 : DEFAULT_WAIT_MS),
      signal,
      onExpanding: onExpanding ?? reporter(request.image, logger ?? log),
    });
    const closing = (opened: OpenedImage): OpenedImage => ({
      ...opened,
      close: async () => {
        await opened.close();
        await lease.close();
      },
    });
    if (found.state === 'ready') return closing(readyImage(found, request));
    if (!mayBlob || onlyExpanded) throw new MountError(...refusal(request.image, found));
    const host = (stop: AbortSignal | undefined) =>
      openUnexpanded(found, request, cache, { signal: stop, logger: logger ?? log }, ask);
    if (found.state !== 'expanding') return closing(await host(signal));
    const first = await firstReady({
      host,
      registry: (stop) => awaitExpansion(ask, { timeout: DEFAULT_WAIT_MS, signal: stop }),
      signal,
    });
    return closing('state' in first ? readyImage(first, request) : first);
  } catch (error) {
    await lease.close();
    throw error;
  }
}

async function openOwnClient(options: RegistryClientOptions): Promise<ClientLease> {
  const { RegistryClient } = await import('../oci/registry-client.js');
  const client = new RegistryClient(options);
  return { client, close: () => client.close() };
}

/** The host does what the registry has not done. */
async function openUnexpanded(
  found: NotReady,
  request: ImageRequest,
  cache: BlockCache,
  { signal, logger }: { signal: AbortSignal | undefined; logger: Logger },
  ask: () => Promise<RegistryImage>,
): Promise<OpenedImage> {
  const { repository, manifestDigest } = found;
  const { openUnexpandedImage } = await import('./unexpanded-image.js');
  const because = whyNotExpanded(found);
  logger.warn(`${request.image} is read from its blobs by this host, since ${because}`);
  const reference = withDefaultTag(parseReference(request.image));
  const name = familiarReference(reference);
  const memory = new RegistryMemory(cache.directory);
  const share = found.state === 'expanding' ? shareOf(found.repository.domain, request, ask) : undefined;
  return openUnexpandedImage({
    remember: async (description) => {
      await memory.write(reference, request.platform, description);
      const pinned = { domain: reference.domain, path: reference.path, digest: manifestDigest };
      await memory.write(pinned, request.platform, description);
    },
    repository,
    manifestDigest,
    name,
    because,
    cache,
    signal,
    logger,
    ...(share === undefined ? {} : { share }),
  });
}

/** What the registry will offer; undefined where it is not to be used. */
function shareOf(
  domain: string,
  { transports = TRANSPORTS }: ImageRequest,
  ask: () => Promise<RegistryImage>,
): LaterShare | undefined {
  const kind = TRANSPORTS.find((transport) => transport !== 'blob' && transports.includes(transport));
  return kind === undefined ? undefined : new LaterShare({ domain, kind, ask });
}

function whyNotExpanded(found: NotReady): string {
  const { domain } = found.repository;
  switch (found.state) {
    case 'not-enabled':
      return `${domain} does not teleport the repository`;
    case 'no-artifact':
      return `${domain} has not expanded it (${found.reason ?? 'it does not say why'})`;
    case 'expanding':
      return `${domain} is still expanding it (${describeProgress(found.layers)})`;
  }
}

function readyImage(found: ReadyImage, request: ImageRequest): OpenedImage {
  const { image, sources, description } = found;
  const { because, passedOver } = choiceOf(found, request);
  const close = async () => {
    await Promise.all(sources.map((source) => source.close()));
  };
  if (sources.length === 0) {
    const why = passedOver.map(({ kind, reason }) => `${kind}: ${reason}`).join('; ');
    const reason = why || (description.reason ?? 'the registry offers no transport');
    throw new MountError('NOT_EXPANDED', `${image.name} cannot be read from its registry: ${reason}`);
  }
  return { image, sources, passedOver, served: servedBy(sources, because, passedOver), close };
}

/** One line whenever there is something new to say. */
function reporter(name: string, logger: Logger): (layers: readonly LayerProgress[]) => void {
  let said = '';
  return (layers) => {
    const text = describeProgress(layers);
    if (text !== said) logger.warn(`${name} is being expanded by its registry, waiting: ${text}`);
    said = text;
  };
}

type NotReady = Exclude<Awaited<ReturnType<typeof awaitExpansion>>, ReadyImage>;

function refusal(name: string, found: NotReady): [code: string, message: string] {
  const { domain } = found.repository;
  switch (found.state) {
    case 'expanding':
      return [
        'EXPANDING',
        `${name} is still being expanded by ${domain} (${describeProgress(found.layers)}): try again later, or give a longer --wait`,
      ];
    case 'not-enabled':
      return [
        'NOT_EXPANDED',
        `${domain} has not expanded ${name}: it does not teleport this repository; enable it there, or expand the image into a store (orca expand) and give --store`,
      ];
    case 'no-artifact':
      return ['NOT_EXPANDED', `${domain} has not expanded ${name}: ${found.reason ?? 'it does not say why'}`];
  }
}
