/**
 * The answers of the mount API, `GET /mount/v1/<repository>/_manifests/<digest>`: how an image that a registry has
 * expanded can be read, or why it cannot yet.
 */
import { JsonObject } from '../oci/json-object.js';
import { type Descriptor, decodeDescriptor, MAX_LAYERS } from '../oci/manifest.js';
import { RegistryError } from '../oci/registry-error.js';
import { type SmbCredentials, smbCredentials } from '../smb/credentials.js';

/** A thousand layers with two digests each, and as many errors. */
export const MAX_DESCRIPTION_BYTES = 1 << 20;
/** A token is renewed this long before it expires. */
const MARGIN_MS = 30_000;

export type TransportKind = 'smb' | 'https' | 'blob';

export interface SmbTransport {
  kind: 'smb';
  /** Root of a store. */
  url: string;
  credentials: SmbCredentials;
}

export interface HttpsTransport {
  kind: 'https';
  /** Root of a store. */
  url: string;
  token: StoreToken | undefined;
}

export type Transport = SmbTransport | HttpsTransport | { kind: 'blob' };

/** A bearer token that does not print. */
export class StoreToken {
  readonly #value: string;
  /** Milliseconds since 1970; Infinity where the registry does not say. */
  readonly expiresAt: number;

  constructor(value: string, expiresAt: number) {
    this.#value = value;
    this.expiresAt = expiresAt;
  }

  get header(): string {
    return `Bearer ${this.#value}`;
  }

  get isFresh(): boolean {
    return Date.now() < this.expiresAt - MARGIN_MS;
  }
}

export interface MountDescription {
  manifest: Descriptor;
  /** The teleport artifact. */
  artifact: Descriptor | undefined;
  /** The blob of the startup profile, where one was published. */
  profile?: Descriptor;
  /** Otherwise that of the image of the repository that one was published of last. */
  earlierProfile?: Descriptor;
  region: string | undefined;
  /** Best first; kinds that this version does not know are left out. */
  transports: Transport[];
  /** Why better transports are left out, when they are. */
  reason: string | undefined;
  layers: MountedLayer[];
  /** Manifests that came with the answer, by digest, not verified; empty unless they were asked for. */
  documents?: ReadonlyMap<string, Uint8Array>;
}

/** The reason in what a host remembers of an image that it has expanded itself. */
const EXPANDED_HERE = 'this host has expanded the image itself';

/** As the registry would describe an image that it has not expanded, and this host has. */
export function ownDescription(
  image: Pick<MountDescription, 'manifest' | 'layers'> & { artifact: Descriptor },
): MountDescription {
  return { ...image, region: undefined, transports: [{ kind: 'blob' }], reason: EXPANDED_HERE };
}

/** The registry may have expanded the image by now. */
export function isOwnDescription({ reason, transports }: MountDescription): boolean {
  return reason === EXPANDED_HERE && transports.every(({ kind }) => kind === 'blob');
}

export interface MountedLayer {
  diffID: string;
  /** Bytes of the layer VHD. */
  size: number;
  /** The compressed layer. */
  blob: Descriptor;
}

/** Throws OciError PROTOCOL for what is malformed. `base` resolves relative URLs; `what` names the answer. */
export function parseMountDescription(bytes: Uint8Array, base: URL, what: string): MountDescription {
  const json = JsonObject.parse(bytes, MAX_DESCRIPTION_BYTES, 'PROTOCOL', what);
  const manifest = json.object('manifest');
  if (manifest === undefined) throw json.error('manifest', 'is missing');
  const artifact = json.object('artifact');
  const profile = json.object('profile');
  const earlierProfile = json.object('earlierProfile');
  const layers = json.objects('layers') ?? [];
  if (layers.length > MAX_LAYERS) throw json.error('layers', `more than ${MAX_LAYERS}`);
  return {
    manifest: decodeDescriptor(manifest),
    artifact: artifact && decodeDescriptor(artifact),
    ...(profile && { profile: decodeDescriptor(profile) }),
    ...(earlierProfile && { earlierProfile: decodeDescriptor(earlierProfile) }),
    region: json.string('region'),
    transports: (json.objects('transports') ?? []).flatMap((item) => decodeTransport(item, base) ?? []),
    reason: json.string('reason'),
    ...(json.has('documents') && { documents: decodeDocuments(json.objects('documents') ?? []) }),
    layers: layers.map((layer) => {
      const blob = layer.object('blob');
      if (blob === undefined) throw layer.error('blob', 'is missing');
      return {
        diffID: layer.requiredString('diffID'),
        size: layer.size('size'),
        blob: decodeDescriptor(blob),
      };
    }),
  };
}

function decodeDocuments(documents: readonly JsonObject[]): ReadonlyMap<string, Uint8Array> {
  return new Map(
    documents.map((one) => [
      one.requiredString('digest'),
      Buffer.from(one.requiredString('content'), 'base64'),
    ]),
  );
}

function decodeTransport(json: JsonObject, base: URL): Transport | undefined {
  const kind = json.requiredString('kind');
  if (kind === 'blob') return { kind };
  if (kind === 'smb') {
    const username = json.string('username') ?? '';
    const credentials = smbCredentials({ username, password: json.string('password') ?? '' });
    return { kind, url: json.requiredString('url'), credentials };
  }
  if (kind !== 'https') return undefined;
  const text = json.requiredString('url');
  if (!URL.canParse(text, base.href)) throw json.error('url', 'is not a URL');
  const token = json.string('token');
  const expires = json.string('expiresAt');
  const expiresAt = expires === undefined ? Number.POSITIVE_INFINITY : Date.parse(expires);
  if (Number.isNaN(expiresAt)) throw json.error('expiresAt', 'is not a time');
  // What would end the header and begin another is no token (RFC 6750 §2.1).
  if (token !== undefined && !/^[\x21-\x7e]+$/.test(token)) throw json.error('token', 'is malformed');
  return { kind, url: new URL(text, base).href, token: token ? new StoreToken(token, expiresAt) : undefined };
}

/** The JSON that parseMountDescription reads, without passwords, tokens and documents. */
export function encodeMountDescription(description: MountDescription): Uint8Array {
  const { transports, layers, documents: _, ...rest } = description;
  const plain = transports.map(({ kind, ...more }) => ('url' in more ? { kind, url: more.url } : { kind }));
  return Buffer.from(JSON.stringify({ ...rest, transports: plain, layers }));
}

/** How far the expansion of a layer is, in the registry's words. */
export interface LayerProgress {
  diffID: string | undefined;
  digest: string | undefined;
  status: string;
  /** Why it failed. */
  reason: string | undefined;
}

/** The detail of a 409, which may be missing or of another shape: then the list is empty. */
export function parseLayerProgress(bytes: Uint8Array): LayerProgress[] {
  try {
    const json = JsonObject.parse(bytes, MAX_DESCRIPTION_BYTES, 'PROTOCOL', 'mount API');
    const detail = json.objects('errors')?.[0]?.object('detail');
    return (detail?.objects('layers') ?? []).slice(0, MAX_LAYERS).map((layer) => ({
      diffID: layer.string('diffID'),
      digest: layer.string('digest'),
      status: layer.string('status') ?? 'unknown',
      reason: layer.string('reason') ?? layer.string('error'),
    }));
  } catch {
    return [];
  }
}

/** Throws RegistryError PROTOCOL unless the description is about the manifest that was asked for. */
export function checkManifest(description: MountDescription, digest: string, what: string): void {
  if (description.manifest.digest === digest) return;
  throw new RegistryError('PROTOCOL', `${what}: the answer is about ${description.manifest.digest}`);
}
