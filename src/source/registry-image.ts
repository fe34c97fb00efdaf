/**
 * An image of a registry, ready to be mounted where the registry has expanded it: name → manifest → mount API →
 * image index, block digests, and the sources to read from, best first.
 *
 * Everything is verified against the digest that it was named by, from the manifest's on. That the teleport artifact
 * is that of the manifest rests on the registry's word, as its store does.
 */
import { OrcaError } from '../errors.js';
import { type HttpClientOptions, isInternalAddress } from '../oci/http-client.js';
import { readManifest } from '../oci/image-documents.js';
import { type Descriptor, isIndexType, MAX_MANIFEST_BYTES, type Platform } from '../oci/manifest.js';
import { familiarReference, type Reference, withDefaultTag } from '../oci/reference.js';
import type { RegistryClient } from '../oci/registry-client.js';
import { documentReader } from '../oci/registry-input.js';
import { isInsecure, trustFor } from '../oci/registry-trust.js';
import type { Repository } from '../oci/repository.js';
import { assembleImage, type RemoteImage } from './image-assembly.js';
import type {
  HttpsTransport,
  LayerProgress,
  MountDescription,
  SmbTransport,
  TransportKind,
} from './mount-description.js';
import { type MountOptions, RegistryMount } from './registry-mount.js';
import { type Source, SourceError } from './source.js';

export interface RegistryImageOptions extends MountOptions {
  client: RegistryClient;
  reference: Reference;
  /** Default linux/amd64. */
  platform?: Platform;
  cacheDir: string;
  signal?: AbortSignal;
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
  passedOver: { kind: TransportKind; reason: string }[];
  description: MountDescription;
}

export type RegistryImage =
  | ReadyImage
  /** Ask again later, or read the blobs. */
  | (Resolved & { state: 'expanding'; layers: LayerProgress[] })
  /** The registry does not teleport, or not this repository. */
  | (Resolved & { state: 'not-enabled' })
  /** Teleportation is on and no artifact there: expansion has failed, or never began. */
  | (Resolved & { state: 'no-artifact'; reason: string | undefined });

/** Throws RegistryError, OciError, and what assembleImage throws. */
export async function openRegistryImage(options: RegistryImageOptions): Promise<RegistryImage> {
  const { client, cacheDir, platform, signal } = options;
  const reference = withDefaultTag(options.reference);
  const repository = client.repository(reference);
  const { digest: manifestDigest } = await resolveManifest(repository, reference, platform, signal);
  const resolved = { repository, manifestDigest };
  const mount = new RegistryMount(repository, manifestDigest, options);
  const answer = await mount.describe(signal);
  if (answer.state === 'expanding') return { ...resolved, ...answer };
  if (answer.state === 'unknown') return { ...resolved, state: 'not-enabled' };
  const { description } = answer;
  const { artifact, manifest } = description;
  if (artifact === undefined) return { ...resolved, state: 'no-artifact', reason: description.reason };
  const image = await assembleImage({
    name: familiarReference(reference),
    manifest,
    artifact,
    cacheDir,
    fetch: (descriptor, what) => fetchBlob(repository, descriptor, [manifest, artifact], what, signal),
  });
  const { sources, passedOver } = await openTransports(client, repository, mount, description);
  return { ...resolved, state: 'ready', image, sources, passedOver, description };
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

/** A source for each transport that can be used. Nothing is contacted yet. */
async function openTransports(
  client: RegistryClient,
  repository: Repository,
  mount: RegistryMount,
  { transports }: MountDescription,
): Promise<Pick<ReadyImage, 'sources' | 'passedOver'>> {
  const sources: Source[] = [];
  const passedOver: ReadyImage['passedOver'] = [];
  for (const transport of transports) {
    if (transport.kind === 'blob') continue;
    try {
      sources.push(
        transport.kind === 'smb'
          ? await openSmb(transport, repository.domain)
          : await openHttps(transport, client.transport, repository.domain, mount),
      );
    } catch (error) {
      if (!(error instanceof OrcaError)) throw error;
      passedOver.push({ kind: transport.kind, reason: error.message });
    }
  }
  return { sources, passedOver };
}

async function openSmb({ url, credentials }: SmbTransport, domain: string): Promise<Source> {
  const [{ parseSmbUrl }, { SmbSource }] = await Promise.all([
    import('../smb/url.js'),
    import('./smb-source.js'),
  ]);
  const { host, port, share, path, location } = parseSmbUrl(url);
  checkHost(host, domain);
  return new SmbSource({ host, port, share, path, location, credentials });
}

async function openHttps(
  { url }: HttpsTransport,
  settings: RegistryClient['transport'],
  domain: string,
  mount: RegistryMount,
): Promise<Source> {
  const { host, hostname } = new URL(url);
  checkHost(hostname, domain);
  const { HttpsSource } = await import('./https-source.js');
  const timeouts: HttpClientOptions = settings;
  return new HttpsSource({
    ...timeouts,
    url,
    tls: await trustFor(host, settings),
    insecure: isInsecure(host, settings),
    authorization: (refused) => mount.authorization(refused),
  });
}

/** A registry elsewhere has no business to send us to our own services. */
function checkHost(hostname: string, domain: string): void {
  if (!isInternalAddress(hostname) || isInternalAddress(new URL(`http://${domain}`).hostname)) return;
  throw new SourceError(
    'INVALID_URL',
    `${hostname} is an address of this host, which ${domain} must not name`,
  );
}
