/** The sources that the transports of a mount description stand for, each with what it needs to renew itself. */
import { OrcaError } from '../errors.js';
import { type HttpClientOptions, isInternalAddress } from '../oci/http-client.js';
import type { RegistryClient } from '../oci/registry-client.js';
import { shownUrl } from '../oci/registry-error.js';
import { isInsecure, trustFor } from '../oci/registry-trust.js';
import type { Repository } from '../oci/repository.js';
import { parseSmbUrl } from '../smb/url.js';
import { type BlobLayer, BlobSource } from './blob-source.js';
import { HttpsSource, parseStoreUrl } from './https-source.js';
import type { HttpsTransport, MountDescription, SmbTransport, TransportKind } from './mount-description.js';
import type { RegistryMount } from './registry-mount.js';
import { type Source, SourceError } from './source.js';
import { TransportSource } from './transport-source.js';

/** A transport that is not used. */
export interface PassedOver {
  kind: TransportKind;
  reason: string;
  /** Nobody can have expected it: this host or its registry is set up so. */
  asConfigured?: boolean;
}

/** A source for each transport that can be used. Nothing is contacted yet. */
export function openTransports(
  client: RegistryClient,
  repository: Repository,
  mount: RegistryMount,
  { transports }: MountDescription,
  blobs: { layers: readonly BlobLayer[]; cacheDir: string },
): { sources: Source[]; passedOver: PassedOver[] } {
  const sources: Source[] = [];
  const passedOver: PassedOver[] = [];
  const { domain } = repository;
  for (const transport of transports) {
    const { kind } = transport;
    if (kind === 'blob') {
      if (blobs.layers.some(({ recipe }) => recipe)) {
        sources.push(new BlobSource({ repository, ...blobs }));
      }
      continue;
    }
    try {
      sources.push(
        kind === 'smb'
          ? new TransportSource<SmbTransport>({
              kind,
              location: smbParts(transport, domain).location,
              describe: (refused) => mount.transport(kind, refused),
              open: (now) => openSmb(now, domain),
            })
          : new TransportSource<HttpsTransport>({
              kind,
              location: httpsLocation(transport, domain, client.transport),
              describe: (refused) => mount.transport(kind, refused),
              open: (now) => openHttps(now, client.transport, domain, mount),
            }),
      );
    } catch (error) {
      if (!(error instanceof OrcaError)) throw error;
      passedOver.push({ kind, reason: error.message });
    }
  }
  return { sources, passedOver };
}

/** By itself the client would try for half a minute; here another source takes over meanwhile, and this one is probed. */
const RECONNECT_ATTEMPTS = 2;

function smbParts({ url }: SmbTransport, domain: string): ReturnType<typeof parseSmbUrl> {
  const parts = parseSmbUrl(url);
  checkHost(parts.host, domain);
  return parts;
}

/** The client is loaded when it is needed: it takes as long as the rest of a warm start. */
async function openSmb(transport: SmbTransport, domain: string): Promise<Source> {
  const { host, port, share, path, location } = smbParts(transport, domain);
  const { SmbSource } = await import('./smb-source.js');
  return new SmbSource({
    host,
    port,
    share,
    path,
    location,
    credentials: transport.credentials,
    reconnectAttempts: RECONNECT_ATTEMPTS,
  });
}

function httpsLocation(
  { url }: HttpsTransport,
  domain: string,
  settings: RegistryClient['transport'],
): string {
  const { host, hostname } = new URL(url);
  checkHost(hostname, domain);
  return shownUrl(parseStoreUrl(url, isInsecure(host, settings))).replace(/\/$/, '');
}

async function openHttps(
  transport: HttpsTransport,
  settings: RegistryClient['transport'],
  domain: string,
  mount: RegistryMount,
): Promise<Source> {
  httpsLocation(transport, domain, settings);
  const { host } = new URL(transport.url);
  const timeouts: HttpClientOptions = settings;
  return new HttpsSource({
    ...timeouts,
    url: transport.url,
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
