/**
 * The mount API, at the path that Project Teleport had: how an image that has been expanded can be read (200), that it
 * is being expanded (409), or that it is not (404). What it answers is in docs/REGISTRY.md, "Mount API".
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { isDigest, parseDigest } from '../../oci/digest.js';
import type { Descriptor } from '../../oci/manifest.js';
import {
  isConfigType,
  isIndexType,
  isLayerType,
  MAX_LAYERS,
  parseIndex,
  parseManifest,
} from '../../oci/manifest.js';
import { isTag } from '../../oci/reference.js';
import { ApiError } from '../api-error.js';
import { admitted, type RegistryContext, type RepositoryParams, type RouteGroup } from '../context.js';
import type { BlobOrigin, Expansion, ImageExpansion, LayerStatus } from '../expansion/expansion.js';
import { InlineDocuments } from '../inline-documents.js';
import { type MountRequest, type OfferOptions, offeredTransports } from '../mount-transports.js';
import type { PublishedProfiles } from '../published-profiles.js';
import type { Repository } from '../repository.js';
import { parameter } from '../request-body.js';

export interface MountOptions extends OfferOptions {
  expansion: Expansion;
  origin: Pick<BlobOrigin, 'readManifest' | 'resolve'>;
  profiles: PublishedProfiles;
}

/** Names of regions are the operator's; this is all that any of them needs. */
const REGION = /^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$/;
/** How often the scripts of Project Teleport ask, in seconds. */
const RETRY_SECONDS = '2';
interface Document {
  mediaType: string;
  bytes: Uint8Array;
}

export function mountRoutes(options: MountOptions): RouteGroup {
  const own = { ...options, documents: new InlineDocuments() };
  return (server, context) => {
    server.get('/mount/v1/:name/_manifests/:digest', (request, reply) =>
      describe(context, own, request, reply),
    );
  };
}

async function describe(
  context: RegistryContext,
  options: MountOptions & { documents: InlineDocuments },
  request: FastifyRequest,
  reply: FastifyReply,
) {
  const { digest: reference } = request.params as RepositoryParams & { digest: string };
  if (!isTag(reference)) parseDigest(reference);
  const asked = requestOf(request);
  const { repository, principal } = await admitted(context, request, 'pull');
  const { name } = repository;
  await requireTeleport(repository);
  const unknown = new ApiError('MANIFEST_UNKNOWN', { detail: { name, reference } });
  const digest = isDigest(reference) ? reference : await options.origin.resolve(name, reference);
  if (digest === undefined) throw unknown;
  reply.header('cache-control', 'no-store');
  const { expansion, origin } = options;
  // While it is expanded, and asked for again and again, this is all that is looked at.
  const status = await expansion.status(name, digest);
  if (status?.state === 'queued' || status?.state === 'expanding') throw expanding(status.layers);
  const document = await origin.readManifest(name, digest);
  if (document === undefined) throw unknown;
  const manifest = { mediaType: document.mediaType, digest, size: document.bytes.length };
  if (isIndexType(document.mediaType)) {
    return { ...(await describeIndex(expansion, name, document)), manifest, transports: [{ kind: 'blob' }] };
  }
  if (status === undefined) {
    if (!isImage(document)) {
      throw new ApiError('MANIFEST_UNKNOWN', { message: `${digest} is no image, so it is not expanded` });
    }
    // It was pushed before the repository was enabled, or by another way than this registry.
    await expansion.enqueue(name, digest);
    const now = await expansion.status(name, digest);
    throw expanding(now?.layers ?? []);
  }
  const described = { ...asked, repository: name, user: principal.user };
  const image = { digest, bytes: document.bytes };
  const [profile, documents, offer] = await Promise.all([
    profileOf(options.profiles, repository, digest, status),
    asked.documents
      ? options.documents.of(repository, image, status.artifact, (of, named) =>
          origin.readManifest(of, named),
        )
      : undefined,
    offeredTransports(context, options, request, described, status.state === 'expanded'),
  ]);
  const description = {
    manifest,
    ...(status.artifact === undefined ? {} : { artifact: status.artifact }),
    ...profile,
    ...(context.region === undefined ? {} : { region: context.region }),
    sameRegion: offer.sameRegion,
    transports: offer.transports,
    ...reasonOf(status, offer.reasons),
    layers: layersOf(document, status, offer.linkTo),
  };
  return documents === undefined ? description : withDocuments(reply, description, documents);
}

/** The JSON of both: the documents, which are most of it, are kept as it has them. */
function withDocuments(reply: FastifyReply, description: object, documents: Buffer): Buffer {
  reply.type('application/json; charset=utf-8');
  const start = JSON.stringify(description).slice(0, -1);
  return Buffer.concat([Buffer.from(`${start},"documents":`), documents, Buffer.from('}')]);
}

/** The startup profile of an image, or else that of an earlier version of it. */
async function profileOf(
  profiles: PublishedProfiles,
  repository: Repository,
  digest: string,
  { state, platform }: ImageExpansion,
): Promise<{ profile?: Descriptor; earlierProfile?: Descriptor }> {
  const profile = await profiles.find(repository, digest);
  if (profile !== undefined) return { profile };
  if (state !== 'expanded') return {};
  const earlierProfile = await profiles.findEarlier(repository, digest, platform);
  return earlierProfile === undefined ? {} : { earlierProfile };
}

/** Throws ApiError UNSUPPORTED, 404. */
export async function requireTeleport(repository: Repository): Promise<void> {
  if ((await repository.attributes()).teleportEnabled) return;
  throw new ApiError('UNSUPPORTED', {
    status: 404,
    message: `repository ${repository.name} is not enabled: its attribute teleportEnabled is false`,
  });
}

function requestOf(request: FastifyRequest): MountRequest {
  const region = parameter(request, 'region') || undefined;
  if (region !== undefined && !REGION.test(region)) {
    throw new ApiError('UNSUPPORTED', { status: 400, message: 'the region is malformed' });
  }
  const kinds = parameter(request, 'transports')?.split(',', 16);
  return {
    region,
    kinds: kinds ?? ['smb', 'https', 'blob'],
    links: isWanted(request, 'links'),
    documents: isWanted(request, 'documents'),
  };
}

function isWanted(request: FastifyRequest, name: string): boolean {
  const value = parameter(request, name);
  if (value !== undefined && value !== 'true' && value !== 'false') {
    throw new ApiError('UNSUPPORTED', { status: 400, message: `${name} is true or false` });
  }
  return value === 'true';
}

function expanding(layers: readonly LayerStatus[]): ApiError {
  return new ApiError('EXPANDING', {
    detail: { layers: layers.slice(0, MAX_LAYERS) },
    headers: { 'retry-after': RETRY_SECONDS },
  });
}

function reasonOf({ state, reason }: ImageExpansion, others: readonly string[]): { reason?: string } {
  const failed =
    state === 'failed' ? [`the image cannot be expanded: ${reason ?? 'no reason is known'}`] : [];
  const reasons = [...failed, ...others];
  return reasons.length === 0 ? {} : { reason: reasons.join('; ') };
}

/** The layers whose VHDs are there, lowest first. */
function layersOf(document: Document, status: ImageExpansion, linkTo: (diffID: string) => object) {
  const { layers } = parseManifest(document.bytes);
  return status.layers.flatMap(({ digest, diffID, bytes, status: state }) => {
    const blob = layers.find((layer) => layer.digest === digest);
    if (blob === undefined || diffID === undefined || bytes === undefined || state !== 'expanded') return [];
    return [{ diffID, size: bytes, blob: plain(blob), ...linkTo(diffID) }];
  });
}

/** What the expansion takes for one; what is none is never expanded. */
function isImage({ bytes }: Document): boolean {
  const { config, layers, artifactType, subject } = parseManifest(bytes);
  if (!isConfigType(config.mediaType) || artifactType !== undefined) return false;
  return (
    layers.some(({ mediaType }) => isLayerType(mediaType)) || (layers.length === 0 && subject === undefined)
  );
}

function plain({ mediaType, digest, size }: Descriptor): Descriptor {
  return { mediaType, digest, size };
}

/**
 * An index has no artifact of its own: it is expanded when each of its images is that can be, and clients ask for the
 * one of their platform. Throws ApiError EXPANDING.
 */
async function describeIndex(expansion: Expansion, name: string, { bytes }: Document) {
  const manifests: { digest: string; state: string; reason?: string }[] = [];
  const pending: LayerStatus[] = [];
  let isPending = false;
  for (const { digest } of parseIndex(bytes).manifests) {
    const status = await expansion.status(name, digest);
    if (status === undefined) continue;
    const { state, reason, layers } = status;
    manifests.push({ digest, state, ...(reason === undefined ? {} : { reason }) });
    if (state !== 'queued' && state !== 'expanding') continue;
    isPending = true;
    pending.push(...layers);
  }
  if (isPending) throw expanding(pending);
  return { manifests, reason: 'this is an index: ask for the manifest of a platform', layers: [] };
}
