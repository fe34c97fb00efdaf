/**
 * A proxy in front of a real SMB server that sees whole frames and may change those of the server: what an attacker
 * on the wire, or a broken server, would do.
 */
import { connect, createServer, type Server, type Socket } from 'node:net';

/** Called with each frame of the server (without its length prefix); gives the frames to deliver in its place. */
export type Fault = (frame: Buffer) => Buffer[];

export class FrameProxy {
  /** Change at any time; frames pass unchanged while undefined. */
  fault: Fault | undefined;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(target: number) {
    this.#server = createServer((client) => {
      const upstream = connect(target, '127.0.0.1');
      for (const socket of [client, upstream]) {
        this.#sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => {
          client.destroy();
          upstream.destroy();
        });
      }
      client.pipe(upstream);
      let held = Buffer.alloc(0);
      upstream.on('data', (chunk) => {
        held = Buffer.concat([held, chunk]);
        while (held.length >= 4 && held.length >= 4 + held.readUInt32BE(0)) {
          const frame = Buffer.from(held.subarray(4, 4 + held.readUInt32BE(0)));
          held = held.subarray(4 + frame.length);
          for (const delivered of this.fault?.(frame) ?? [frame]) {
            const prefix = Buffer.alloc(4);
            prefix.writeUInt32BE(delivered.length);
            client.write(Buffer.concat([prefix, delivered]));
          }
        }
      });
    });
  }

  static async start(target: number): Promise<FrameProxy> {
    const proxy = new FrameProxy(target);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  /** Breaks every connection. */
  sever(): void {
    for (const socket of this.#sockets) socket.destroy();
    this.#sockets.clear();
  }

  stop(): void {
    this.sever();
    this.#server.close();
  }
}
