/**
 * The commands' side of the control API. A daemon that dies while it is asked is asked again: its successor accepts
 * on the same socket, and every request may be repeated.
 */
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import { newRequestId, REQUEST_ID_HEADER, requestId } from '../telemetry/request-id.js';
import type {
  CacheInfo,
  ImageInfo,
  Line,
  MountDetails,
  MountInfo,
  MountRequest,
  PingAnswer,
  PruneAnswer,
  PulledImage,
  PullOrder,
} from './api.js';
import { DaemonError, notPermitted } from './daemon-error.js';

const TRIES = 20;
const PAUSE_MS = 50;
/** Of what the daemon answers at once; a stream may take as long as it likes. */
const ANSWER_MS = 60_000;
const MAX_ANSWER_BYTES = 64 << 20;

interface Question {
  method: string;
  path: string;
  body?: object;
  signal?: AbortSignal | undefined;
  onLine?: (line: Line) => void;
}

export class DaemonClient {
  readonly socket: string;

  constructor(socket: string) {
    this.socket = socket;
  }

  /** Undefined when nobody listens. */
  async ping(): Promise<PingAnswer | undefined> {
    try {
      return (await this.#ask({ method: 'GET', path: '/v1/ping' })) as PingAnswer;
    } catch (error) {
      if (error instanceof DaemonError && error.code === 'NOT_RUNNING') return undefined;
      throw error;
    }
  }

  async mounts(): Promise<MountInfo[]> {
    return ((await this.#ask({ method: 'GET', path: '/v1/mounts' })) as { mounts: MountInfo[] }).mounts;
  }

  async mount(id: string): Promise<MountDetails> {
    return (await this.#ask({ method: 'GET', path: `/v1/mounts/${id}` })) as MountDetails;
  }

  /** `id` is the caller's choice. Throws what mounting in the daemon threw, as a DaemonError of the same code. */
  async createMount(
    id: string,
    order: MountRequest,
    options: { signal?: AbortSignal | undefined; onLine?: (line: Line) => void } = {},
  ): Promise<MountInfo> {
    const line = await this.#ask({
      method: 'PUT',
      path: `/v1/mounts/${id}`,
      body: order,
      onLine: ignore,
      ...options,
    });
    return (line as { mount: MountInfo }).mount;
  }

  /** A mount that has gone already is no error. */
  async removeMount(id: string, { lazy = false, force = false } = {}): Promise<void> {
    const query = `${lazy ? 'lazy=1&' : ''}${force ? 'force=1' : ''}`;
    try {
      await this.#ask({ method: 'DELETE', path: `/v1/mounts/${id}?${query}` });
    } catch (error) {
      if (!(error instanceof DaemonError) || error.code !== 'NOT_FOUND') throw error;
    }
  }

  async images(): Promise<ImageInfo[]> {
    return ((await this.#ask({ method: 'GET', path: '/v1/images' })) as { images: ImageInfo[] }).images;
  }

  /** By name, digest or the beginning of one, as are those below. */
  async setPinned(image: string, pinned: boolean): Promise<ImageInfo> {
    const method = pinned ? 'PUT' : 'DELETE';
    return ((await this.#ask({ method, path: '/v1/images/pin', body: { image } })) as { image: ImageInfo })
      .image;
  }

  async removeImage(image: string): Promise<ImageInfo> {
    return (
      (await this.#ask({ method: 'DELETE', path: '/v1/images', body: { image } })) as { image: ImageInfo }
    ).image;
  }

  async prune(all = false): Promise<PruneAnswer> {
    return (await this.#ask({ method: 'POST', path: '/v1/prune', body: { all } })) as PruneAnswer;
  }

  async pull(
    order: PullOrder,
    options: { signal?: AbortSignal | undefined; onLine?: (line: Line) => void } = {},
  ): Promise<PulledImage> {
    const line = await this.#ask({
      method: 'POST',
      path: '/v1/pull',
      body: order,
      onLine: ignore,
      ...options,
    });
    return (line as { pulled: PulledImage }).pulled;
  }

  async cache(): Promise<CacheInfo> {
    return (await this.#ask({ method: 'GET', path: '/v1/cache' })) as CacheInfo;
  }

  async shutDown(force = false): Promise<void> {
    await this.#ask({ method: 'POST', path: '/v1/shutdown', body: { force } });
  }

  async replace(command: readonly string[]): Promise<void> {
    await this.#ask({ method: 'POST', path: '/v1/replace', body: { command } });
  }

  async #ask(question: Question): Promise<unknown> {
    const id = requestId() ?? newRequestId();
    for (let tries = 1; ; tries++) {
      try {
        return await this.#askOnce(question, id);
      } catch (error) {
        const retryable = error instanceof DaemonError && error.code === 'NO_ANSWER' && error.retryable;
        const ending = error instanceof DaemonError && error.code === 'ENDING';
        if (!(retryable || ending) || tries >= TRIES || question.signal?.aborted) throw error;
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
  }

  async #askOnce({ method, path, body, signal, onLine }: Question, id: string): Promise<unknown> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const asked: ClientRequest = request({
        socketPath: this.socket,
        method,
        path,
        // Node's own agent would give a connection up that says nothing for five seconds.
        agent: false,
        headers: {
          [REQUEST_ID_HEADER]: id,
          ...(text !== undefined && {
            'content-type': 'application/json',
            'content-length': Buffer.byteLength(text),
          }),
        },
        ...(signal !== undefined && { signal }),
        ...(onLine === undefined && { timeout: ANSWER_MS }),
      });
      asked.on('timeout', () =>
        asked.destroy(new DaemonError('NO_ANSWER', `the daemon at ${this.socket} does not answer`)),
      );
      asked.on('response', resolve);
      asked.on('error', (error) => reject(this.#failure(error)));
      asked.end(text);
    });
    try {
      let last: unknown;
      for await (const line of linesOf(response)) {
        if (line === '') continue;
        last = JSON.parse(line);
        onLine?.(last as Line);
      }
      const outcome = last as { error?: { code: string; message: string; retryable?: boolean } } | undefined;
      if (outcome?.error !== undefined) {
        const { code, message, retryable } = outcome.error;
        throw new DaemonError(code, message, retryable === undefined ? {} : { retryable });
      }
      if (outcome === undefined || !response.complete) throw new Error('the answer breaks off');
      if (onLine !== undefined && !('mount' in outcome || 'pulled' in outcome))
        throw new Error('no outcome came');
      return outcome;
    } catch (error) {
      throw error instanceof DaemonError ? error : this.#failure(error as Error);
    }
  }

  #failure(cause: NodeJS.ErrnoException): Error {
    if (cause instanceof DaemonError || cause.name === 'AbortError') return cause;
    if (cause.code === 'ENOENT' || cause.code === 'ECONNREFUSED') {
      return new DaemonError(
        'NOT_RUNNING',
        `no daemon listens at ${this.socket}: start it with orca daemon`,
        { cause },
      );
    }
    if (cause.code === 'EACCES') {
      return notPermitted(this.socket, cause);
    }
    const text = `the daemon at ${this.socket} broke off: ${cause.message}`;
    return new DaemonError('NO_ANSWER', text, { cause, retryable: true });
  }
}

async function* linesOf(response: IncomingMessage): AsyncGenerator<string> {
  let text = '';
  response.setEncoding('utf8');
  for await (const chunk of response) {
    text += chunk as string;
    if (text.length > MAX_ANSWER_BYTES) throw new Error('the answer is too long');
    const lines = text.split('\n');
    text = lines.pop() ?? '';
    yield* lines;
  }
  yield text;
}

function ignore(): void {}
