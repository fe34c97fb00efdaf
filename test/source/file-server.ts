/** A web server over a directory, with ranges, entity tags, tokens, and faults on demand. */
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { CERTIFICATES } from '../oci/fake-registry.js';

export type ServerFault = (request: IncomingMessage, response: ServerResponse) => boolean;

export class FileServer {
  /** Method, path and range of each request. */
  readonly requests: string[] = [];
  /** Value of Authorization that is required, and the status of a refusal. */
  authorization: string | undefined;
  refusal = 401;
  fault: ServerFault | undefined;
  connections = 0;
  readonly #directory: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #scheme: 'http' | 'https';

  private constructor(directory: string, server: Server, scheme: 'http' | 'https') {
    this.#directory = directory;
    this.#server = server;
    this.#scheme = scheme;
    server.on('request', (request, response) => void this.#serve(request, response));
    server.on('connection', (socket) => {
      this.connections += 1;
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
  }

  static async start(directory: string, { tls = false } = {}): Promise<FileServer> {
    const server = tls
      ? createTlsServer({
          cert: await readFile(join(CERTIFICATES, 'server.crt')),
          key: await readFile(join(CERTIFICATES, 'server.key')),
        })
      : createServer();
    const files = new FileServer(directory, server, tls ? 'https' : 'http');
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    return files;
  }

  get url(): string {
    return `${this.#scheme}://127.0.0.1:${(this.#server.address() as AddressInfo).port}/store/`;
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((done) => this.#server.close(done));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '', headers } = request;
    this.requests.push([method, url, headers.range].filter(Boolean).join(' '));
    response.on('error', () => undefined);
    if (this.fault?.(request, response)) return;
    if (this.authorization !== undefined && headers.authorization !== this.authorization) {
      response.writeHead(this.refusal).end();
      return;
    }
    const path = join(this.#directory, decodeURIComponent(url).replace(/^\/store/, ''));
    const status = await stat(path).catch(() => undefined);
    if (status === undefined || !status.isFile()) {
      response.writeHead(404).end();
      return;
    }
    const etag = `"${status.mtimeMs}-${status.size}"`;
    const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? '') ?? [];
    const matches = headers['if-range'] === undefined || headers['if-range'] === etag;
    const ranged = first !== undefined && matches;
    const start = ranged ? Number(first) : 0;
    const end = Math.min(status.size - 1, ranged && last ? Number(last) : status.size - 1);
    if (ranged && start >= status.size) {
      response.writeHead(416, { 'content-range': `bytes */${status.size}` }).end();
      return;
    }
    response.writeHead(ranged ? 206 : 200, {
      'content-length': end - start + 1,
      etag,
      ...(ranged ? { 'content-range': `bytes ${start}-${end}/${status.size}` } : {}),
    });
    if (method === 'HEAD' || end < start) response.end();
    else
      createReadStream(path, { start, end })
        .on('error', () => response.destroy())
        .pipe(response);
  }
}
