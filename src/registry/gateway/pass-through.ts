/** One request through the gateway: headers, then bodies in both directions as fast as the slower side takes them. */
import { randomBytes } from 'node:crypto';
import { pipeline } from 'node:stream/promises';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { headerOf } from '../../oci/http-client.js';
import { log } from '../../telemetry/logger.js';
import { ApiError } from '../api-error.js';
import { bodyOf } from '../request-body.js';
import type { UploadSlots } from '../upload-slots.js';
import { requestHeaders, responseHeaders } from './forwarded-headers.js';
import type { Locations } from './locations.js';
import type { Upstream, UpstreamResponse } from './upstream.js';

export interface Passage {
  /** Path and query at the upstream. */
  path: string;
  /** A body that is at hand already; otherwise that of the request, if it has one. */
  body?: Uint8Array;
  /** The repository in which an upload begins or goes on. */
  upload?: string;
}

/** For the Via header (RFC 9110 §7.6.3); another gateway has another. */
const PSEUDONYM = `orca-${randomBytes(6).toString('hex')}`;

export class PassThrough {
  constructor(
    readonly upstream: Upstream,
    private readonly locations: Locations,
    private readonly slots: UploadSlots,
    private readonly stallTimeout: number,
  ) {}

  /** Sends the request on and gives the answer back. Throws ApiError when there is none. */
  async pass(request: FastifyRequest, reply: FastifyReply, passage: Passage): Promise<FastifyReply> {
    const signal = clientGone(reply);
    const send = async () => this.give(reply, await this.ask(request, passage, signal), passage);
    const streams = passage.body === undefined && hasBody(request);
    try {
      return await (streams ? this.slots.using(send) : send());
    } catch (error) {
      // Nobody is there to be told.
      if (signal.aborted) return reply.hijack();
      throw error;
    }
  }

  /** The upstream's answer to the request. */
  async ask(
    request: FastifyRequest,
    { path, body }: Passage,
    signal?: AbortSignal,
  ): Promise<UpstreamResponse> {
    if (request.headers.via?.includes(PSEUDONYM)) {
      throw new ApiError('UNAVAILABLE', { status: 508, message: 'the upstream of this gateway is itself' });
    }
    const headers = this.headers(request);
    const length = request.headers['content-length'];
    const streams = body === undefined && hasBody(request);
    if (streams && length !== undefined) headers['content-length'] = length;
    return this.upstream.send({
      method: request.method,
      path,
      headers,
      body: streams ? bodyOf(request, this.stallTimeout) : body,
      signal,
    });
  }

  /** Headers of the client's request, for requests that are made on its behalf. */
  headers(request: FastifyRequest): Record<string, string | string[]> {
    return requestHeaders(request.headers, { via: `1.1 ${PSEUDONYM}`, client: request.ip });
  }

  /** Sends an answer of the upstream to the client. */
  async give(reply: FastifyReply, answer: UpstreamResponse, passage: Passage): Promise<FastifyReply> {
    const response = reply.raw;
    let headers: Record<string, string | string[]>;
    try {
      headers = { ...(reply.getHeaders() as Record<string, string>), ...this.answerHeaders(answer, passage) };
      for (const [name, value] of Object.entries(headers)) response.setHeader(spelled(name), value);
    } catch (error) {
      // A header that HTTP does not allow.
      answer.body.destroy();
      for (const name of response.getHeaderNames()) response.removeHeader(name);
      throw this.upstream.failure(error);
    }
    reply.hijack();
    response.socket?.setTimeout(this.stallTimeout);
    response.writeHead(answer.status);
    try {
      await pipeline(answer.body, response);
    } catch (error) {
      // Both sides have been cut off by now, so that neither takes the part for the whole.
      log.debug('a response broke off', { error: error as Error });
    }
    return reply;
  }

  /** Headers of an answer as the client gets them. */
  answerHeaders(
    { status, headers }: Pick<UpstreamResponse, 'status' | 'headers'>,
    { path, upload }: Passage,
  ): Record<string, string | string[]> {
    const given = responseHeaders(headers);
    const location = headerOf(headers, 'location');
    const goesOn = status === 201 ? undefined : upload;
    const target = location && this.locations.toClient(location, path, goesOn);
    if (target) given['location'] = target;
    const link = headerOf(headers, 'link');
    if (link !== undefined) given['link'] = this.locations.linkToClient(link, path);
    return given;
  }
}

/** Aborted when the client goes away before it has its answer. */
export function clientGone({ raw }: FastifyReply): AbortSignal {
  const controller = new AbortController();
  raw.once('close', () => {
    if (!raw.writableFinished) controller.abort(new Error('the client went away'));
  });
  return controller.signal;
}

/** As scripts look for it with grep, whatever the upstream's spelling was. */
function spelled(name: string): string {
  return name === 'docker-content-digest' ? 'Docker-Content-Digest' : name;
}

function hasBody({ method, headers }: FastifyRequest): boolean {
  if (method === 'GET' || method === 'HEAD') return false;
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}
