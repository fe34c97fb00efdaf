/** An HTTP proxy before a registry that counts the bytes of bodies by the path that was asked for. */
import { createServer, request as httpRequest, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';

export class CountingProxy {
  readonly #server: Server;
  readonly #bytes = new Map<string, number>();

  private constructor(target: string) {
    this.#server = createServer((request, response) => {
      const { method, url = '', headers } = request;
      const upstream = httpRequest(new URL(url, target), { method, headers }, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.on('data', (chunk: Buffer) => {
          this.#bytes.set(url, (this.#bytes.get(url) ?? 0) + chunk.length);
        });
        answer.pipe(response);
      });
      upstream.on('error', () => response.destroy());
      response.on('close', () => upstream.destroy());
      request.pipe(upstream);
    });
  }

  static async start(target: string): Promise<CountingProxy> {
    const proxy = new CountingProxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  /** `127.0.0.1:PORT`. */
  get host(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Bytes of the bodies whose path contains `part`. */
  bytes(part: string): number {
    let sum = 0;
    for (const [path, bytes] of this.#bytes) if (path.includes(part)) sum += bytes;
    return sum;
  }

  /** May be called again. */
  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
