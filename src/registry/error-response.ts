/** Turns whatever a request ends with into the error body of the distribution-spec. */
import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { OrcaError } from '../errors.js';
import type { ErrorCodeName } from '../oci/error-codes.js';
import { log } from '../telemetry/logger.js';
import { ApiError } from './api-error.js';

/** Codes of OciError, as what is wrong with a request. */
const OF_OCI: Readonly<Record<string, { code: ErrorCodeName; status?: number }>> = {
  INVALID_REFERENCE: { code: 'NAME_INVALID' },
  INVALID_DIGEST: { code: 'DIGEST_INVALID' },
  DIGEST_MISMATCH: { code: 'DIGEST_INVALID' },
  SIZE_MISMATCH: { code: 'SIZE_INVALID' },
  INVALID_MANIFEST: { code: 'MANIFEST_INVALID' },
  INVALID_INDEX: { code: 'MANIFEST_INVALID' },
  TOO_LARGE: { code: 'MANIFEST_INVALID', status: 413 },
  UNSUPPORTED: { code: 'UNSUPPORTED', status: 400 },
};

const NO_SPACE = new Set(['ENOSPC', 'EDQUOT', 'EMFILE', 'ENFILE']);

export function apiErrorOf(error: unknown): ApiError | undefined {
  if (error instanceof ApiError) return error;
  const { message } = error as Error;
  if (error instanceof OrcaError && Object.hasOwn(OF_OCI, error.code)) {
    const { code, status } = OF_OCI[error.code]!;
    return new ApiError(code, { message, ...(status === undefined ? {} : { status }) });
  }
  const { code, statusCode } = error as Partial<FastifyError>;
  if (code !== undefined && NO_SPACE.has(code)) {
    return new ApiError('UNAVAILABLE', {
      message: 'the registry has no room left',
      headers: { 'retry-after': '60' },
    });
  }
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return new ApiError('UNSUPPORTED', { message, status: statusCode });
  }
  return undefined;
}

export function sendError(
  error: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply | undefined {
  if (request.raw.destroyed && !request.raw.complete) {
    log.debug('a client went away', { request: request.id, method: request.method, path: pathOf(request) });
    reply.hijack();
    request.raw.socket.destroy();
    return undefined;
  }
  let answer = apiErrorOf(error);
  if (answer === undefined || (answer.status >= 500 && !(error instanceof ApiError))) {
    log.error('request failed', {
      request: request.id,
      method: request.method,
      path: pathOf(request),
      error: error as Error,
    });
  }
  answer ??= new ApiError('UNKNOWN');
  // Headers of what was begun do not belong to what is sent now.
  for (const name of ['content-length', 'content-range', 'content-type', 'etag', 'accept-ranges'])
    reply.removeHeader(name);
  return reply
    .code(answer.status)
    .headers(answer.headers)
    .type('application/json')
    .send(JSON.stringify(answer.body()));
}

/** Without the query, which may hold credentials. */
export function pathOf(request: FastifyRequest): string {
  return request.originalUrl.replace(/\?.*$/s, '');
}
