/**
 * The referrers of a manifest (distribution-spec, "Listing Referrers"): those of the upstream and our teleport
 * artifacts. An upstream without that API has them under a tag ("Referrers Tag Schema"), which clients no longer look
 * at once they get an answer here; so its list is part of ours.
 */
import type { FastifyReply, FastifyRequest } from 'fastify';
import { parseDigest } from '../../oci/digest.js';
import { headerOf } from '../../oci/http-client.js';
import { type Descriptor, MAX_MANIFEST_BYTES, MEDIA_TYPE, parseIndex } from '../../oci/manifest.js';
import { ApiError } from '../api-error.js';
import type { Repository } from '../repository.js';
import { parameter } from '../request-body.js';
import type { Gateway } from './gateway.js';
import { clientGone } from './pass-through.js';
import { readAnswer, type UpstreamResponse } from './upstream.js';

/** What registries without the API answer to it, besides 404. */
const NO_API = new Set([400, 404, 405, 406, 501]);

export async function sendReferrers(
  gateway: Gateway,
  repository: Repository,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const { passThrough, access } = gateway;
  const { digest } = request.params as { digest: string };
  parseDigest(digest);
  const query = request.originalUrl.includes('?') ? request.originalUrl.replace(/^[^?]*/, '') : '';
  const passage = { path: `/v2/${repository.name}/referrers/${digest}${query}` };
  const artifactType = parameter(request, 'artifactType');
  const ours = await oursOf(gateway, repository, digest, artifactType);
  // Another page than the first has another parameter.
  const first = Object.keys(request.query as object).every((name) => name === 'artifactType');
  if (ours.length === 0 || !first) return passThrough.pass(request, reply, passage);
  const signal = clientGone(reply);
  const answer = await passThrough.ask(request, passage, signal);
  const isList = answer.status === 200 && isIndex(answer);
  if (!isList && !NO_API.has(answer.status) && answer.status !== 200)
    return passThrough.give(reply, answer, passage);
  let theirs: Descriptor[] | undefined;
  if (isList) {
    theirs = await readIndex(answer);
  } else {
    await answer.body.dump({ limit: 64 << 10 }).catch(() => undefined);
    // An answer without the API says nothing of what the client may.
    await access.requireWith(request, repository.name, 'pull', digest);
    theirs = await readTagSchema(gateway, repository, digest, request, signal);
    if (artifactType !== undefined)
      theirs = theirs.filter((descriptor) => descriptor.artifactType === artifactType);
  }
  const known = new Set(theirs.map((descriptor) => descriptor.digest));
  const manifests = [...ours.filter((descriptor) => !known.has(descriptor.digest)), ...theirs];
  for (const name of ['link', 'oci-filters-applied']) {
    const value = isList ? passThrough.answerHeaders(answer, passage)[name] : undefined;
    if (value !== undefined) reply.header(name, value);
  }
  if (!isList && artifactType !== undefined) reply.header('oci-filters-applied', 'artifactType');
  const body = JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE.index, manifests });
  return reply.header('content-type', MEDIA_TYPE.index).send(Buffer.from(body));
}

async function oursOf(
  gateway: Gateway,
  repository: Repository,
  digest: string,
  artifactType: string | undefined,
): Promise<Descriptor[]> {
  const found: Descriptor[] = [];
  for await (const descriptor of gateway.artifacts(repository, digest))
    if (artifactType === undefined || descriptor.artifactType === artifactType) found.push(descriptor);
  return found;
}

async function readTagSchema(
  { passThrough, upstream }: Gateway,
  repository: Repository,
  digest: string,
  request: FastifyRequest,
  signal: AbortSignal,
): Promise<Descriptor[]> {
  const { algorithm, hex } = parseDigest(digest);
  const answer = await upstream.send({
    method: 'GET',
    path: `/v2/${repository.name}/manifests/${algorithm}-${hex.slice(0, 64)}`,
    headers: { ...passThrough.headers(request), accept: MEDIA_TYPE.index },
    signal,
  });
  if (answer.status === 200 && isIndex(answer)) return readIndex(answer);
  await answer.body.dump({ limit: 64 << 10 }).catch(() => undefined);
  return [];
}

function isIndex({ headers }: UpstreamResponse): boolean {
  return headerOf(headers, 'content-type')?.toLowerCase().startsWith(MEDIA_TYPE.index) ?? false;
}

/** The descriptors as the upstream has them, fields that we do not know included, once the index is sure to be one. */
async function readIndex({ body }: UpstreamResponse): Promise<Descriptor[]> {
  const bytes = await readAnswer(body, MAX_MANIFEST_BYTES);
  try {
    parseIndex(bytes);
  } catch (error) {
    const message = `the upstream's referrers are malformed: ${(error as Error).message}`;
    throw new ApiError('UNAVAILABLE', { status: 502, message });
  }
  return (JSON.parse(bytes.toString()) as { manifests: Descriptor[] }).manifests;
}
