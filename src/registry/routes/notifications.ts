/**
 * `POST /notifications`: events of the registry behind a gateway, in the format of CNCF Distribution
 * (docs/about/notifications), for images that are pushed around the gateway. An envelope that is none is refused;
 * events that are none of ours are passed over, since a registry sends again, for ever, what it gets no 2xx for.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { FastifyRequest } from 'fastify';
import { isDigest } from '../../oci/digest.js';
import { isIndexType, isManifestType } from '../../oci/manifest.js';
import { isRepositoryPath, isTag } from '../../oci/reference.js';
import { ApiError } from '../api-error.js';
import type { RouteGroup } from '../context.js';
import { RegistryError } from '../registry-error.js';
import { readBody } from '../request-body.js';

export interface NotificationOptions {
  /** A file with the secret that senders show as a bearer token, read at every request; without it, all are refused. */
  tokenFile: string | undefined;
  pushed(repository: string, manifestDigest: string, tags: readonly string[]): Promise<void>;
  deleted(repository: string, manifestDigest: string): Promise<void>;
  untagged(repository: string, tag: string): Promise<void>;
}

interface ManifestEvent {
  action: 'push' | 'delete';
  repository: string;
  /** Absent of the deletion of a tag. */
  digest: string | undefined;
  /** None or one. */
  tags: string[];
}

/** Distribution sends one event at a time, others a few. */
const MAX_BODY_BYTES = 1 << 20;
const MAX_EVENTS = 1000;
/** What can be guessed is no secret. */
const MIN_SECRET_CHARACTERS = 16;
const MAX_SECRET_CHARACTERS = 4096;

export function notificationRoutes({
  tokenFile,
  pushed,
  deleted,
  untagged,
}: NotificationOptions): RouteGroup {
  return (server, { stallTimeout }) => {
    server.post('/notifications', async (request, reply) => {
      await authenticate(request, tokenFile);
      const events = decodeEvents(await readBody(request, MAX_BODY_BYTES, 'notification', stallTimeout));
      const ours = events.map(manifestEvent).filter((event) => event !== undefined);
      for (const { action, repository, digest, tags } of ours) {
        if (digest === undefined) for (const tag of tags) await untagged(repository, tag);
        else await (action === 'push' ? pushed(repository, digest, tags) : deleted(repository, digest));
      }
      return reply.code(202).send({ events: events.length, taken: ours.length });
    });
  };
}

/** Reads the secret. Throws RegistryError INVALID_OPTION, which does not quote it. */
export async function readNotificationToken(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch((cause: Error) => {
    throw new RegistryError('INVALID_OPTION', `notifications token: ${cause.message}`, { cause });
  });
  const secret = text.trim();
  const usable = secret.length >= MIN_SECRET_CHARACTERS && secret.length <= MAX_SECRET_CHARACTERS;
  if (usable && /^[\x21-\x7e]+$/.test(secret)) return secret;
  throw new RegistryError(
    'INVALID_OPTION',
    `notifications token ${path}: write one line of ${MIN_SECRET_CHARACTERS} characters or more, without spaces`,
  );
}

async function authenticate(request: FastifyRequest, tokenFile: string | undefined): Promise<void> {
  if (tokenFile === undefined) throw new ApiError('DENIED', { message: 'notifications are not configured' });
  const [, shown] = /^bearer +(\S+)$/i.exec(request.headers.authorization ?? '') ?? [];
  const secret = await readNotificationToken(tokenFile);
  if (shown !== undefined && timingSafeEqual(hash(shown), hash(secret))) return;
  throw new ApiError('UNAUTHORIZED', {
    message: 'notifications need the bearer token that they are configured with',
    headers: { 'www-authenticate': 'Bearer realm="notifications"' },
  });
}

function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** Throws ApiError UNSUPPORTED with status 400. */
function decodeEvents(body: Buffer): unknown[] {
  const invalid = (message: string) => new ApiError('UNSUPPORTED', { status: 400, message });
  let envelope: unknown;
  try {
    envelope = JSON.parse(body.toString());
  } catch {
    throw invalid('the notification is not JSON');
  }
  const events = (envelope as { events?: unknown } | null)?.events;
  if (!Array.isArray(events)) throw invalid('the notification has no list of events');
  if (events.length > MAX_EVENTS) throw invalid(`more than ${MAX_EVENTS} events`);
  return events;
}

/** Undefined unless the event is that a manifest has been pushed or deleted, or a tag deleted. */
function manifestEvent(event: unknown): ManifestEvent | undefined {
  const { action, target } = (event ?? {}) as Record<string, unknown>;
  const { mediaType, digest, repository, tag } = (target ?? {}) as Record<string, unknown>;
  if (typeof repository !== 'string' || !isRepositoryPath(repository)) return undefined;
  const tags = typeof tag === 'string' && isTag(tag) ? [tag] : [];
  const isUntagged = action === 'delete' && (digest === undefined || digest === '') && tags.length > 0;
  if (isUntagged) return { action, repository, digest: undefined, tags };
  if (typeof digest !== 'string' || !isDigest(digest)) return undefined;
  // An event of a deletion has no media type.
  if (action === 'delete') return { action, repository, digest, tags };
  if (action !== 'push' || typeof mediaType !== 'string') return undefined;
  return isManifestType(mediaType) || isIndexType(mediaType)
    ? { action, repository, digest, tags }
    : undefined;
}
