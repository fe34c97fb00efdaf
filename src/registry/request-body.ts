/** Reading what a client sends: never more than is allowed, and never from one that has stopped sending. */
import type { FastifyRequest } from 'fastify';
import { ApiError } from './api-error.js';

/** A client that sends less than this per stall timeout holds a connection and a file for nothing. */
const MIN_BYTES = 4096;

/**
 * The body as it comes; it breaks off when too little of it comes in `stallTimeout` milliseconds. When the consumer
 * stops, the rest is left to the server, which reads it to no effect.
 */
export async function* bodyOf(
  request: FastifyRequest,
  stallTimeout: number,
): AsyncGenerator<Uint8Array, void, void> {
  const stream = request.raw;
  let waiting = false;
  let received = 0;
  const timer = setInterval(() => {
    if (waiting && received < MIN_BYTES) stream.destroy(new Error('the client stopped sending'));
    received = 0;
  }, stallTimeout);
  timer.unref();
  try {
    const chunks = stream.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<Buffer>;
    for (;;) {
      waiting = true;
      const { done, value } = await chunks.next();
      waiting = false;
      if (done) return;
      received += value.length;
      yield value;
    }
  } finally {
    clearInterval(timer);
  }
}

/** A body of at most `limit` bytes. Throws an ApiError with status 413, and closes the connection, for a longer one. */
export async function readBody(
  request: FastifyRequest,
  limit: number,
  what: string,
  stallTimeout: number,
): Promise<Buffer> {
  const tooLarge = () =>
    new ApiError('SIZE_INVALID', {
      status: 413,
      message: `${what}: more than the ${limit} bytes that are allowed`,
      headers: { connection: 'close' },
    });
  if (Number(request.headers['content-length'] ?? 0) > limit) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of bodyOf(request, stallTimeout)) {
    length += chunk.length;
    if (length > limit) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** A query parameter that may be given once. */
export function parameter(request: FastifyRequest, name: string): string | undefined {
  const values = parameters(request, name);
  if (values.length > 1) {
    throw new ApiError('UNSUPPORTED', {
      status: 400,
      message: `the parameter ${name} may be given only once`,
    });
  }
  return values[0];
}

export function parameters(request: FastifyRequest, name: string): string[] {
  const query = request.query as Record<string, string | string[]>;
  const value = Object.hasOwn(query, name) ? query[name] : undefined;
  return value === undefined ? [] : Array.isArray(value) ? value : [value];
}
