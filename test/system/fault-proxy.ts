/**
 * A TCP proxy on loopback in front of a real server, which loses, delays and damages what the server sends: what a bad
 * network or a bad server does. Which chunk meets which fault follows from the seed.
 *
 *     const proxy = await FaultProxy.start(samba.port, 42);
 *     proxy.faults = { rate: 0.1 };   // of the chunks from the server
 *     proxy.refuse();                 // as if nobody listened: connections break, new ones are cut at once
 *     proxy.accept();
 */
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export const FAULTS = ['cut', 'stall', 'corrupt', 'truncate'] as const;
export type FaultKind = (typeof FAULTS)[number];

export interface FaultPlan {
  /** Share of the server's chunks that meet a fault, 0…1. */
  rate: number;
  /** All of them by default. */
  kinds?: readonly FaultKind[];
  /** Milliseconds; for ever by default. */
  stall?: number;
}

export class FaultProxy {
  faults: FaultPlan | undefined;
  /** Bytes that clients got of the server. */
  bytes = 0;
  connections = 0;
  readonly met: Record<FaultKind, number> = { cut: 0, stall: 0, corrupt: 0, truncate: 0 };
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #random: () => number;
  #refusing = false;

  private constructor(target: number, seed: number) {
    this.#random = generator(seed);
    this.#server = createServer((client) => {
      this.connections += 1;
      if (this.#refusing) {
        client.destroy();
        return;
      }
      const upstream = connect(target, '127.0.0.1');
      for (const socket of [client, upstream]) {
        this.#sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => {
          this.#sockets.delete(socket);
          client.destroy();
          upstream.destroy();
        });
      }
      client.pipe(upstream);
      upstream.on('data', (chunk: Buffer) => {
        upstream.pause();
        void this.#deliver(chunk, client).then(() => upstream.resume());
      });
    });
  }

  static async start(target: number, seed: number): Promise<FaultProxy> {
    const proxy = new FaultProxy(target, seed);
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  refuse(): void {
    this.#refusing = true;
    this.sever();
  }

  accept(): void {
    this.#refusing = false;
  }

  /** Breaks every connection. */
  sever(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    this.sever();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #deliver(chunk: Buffer, client: Socket): Promise<void> {
    const { faults } = this;
    const kind =
      faults !== undefined && this.#random() < faults.rate ? this.#pick(faults.kinds ?? FAULTS) : undefined;
    if (kind !== undefined) this.met[kind] += 1;
    if (kind === 'cut') {
      client.destroy();
      return;
    }
    if (kind === 'truncate') {
      client.end(chunk.subarray(0, this.#below(chunk.length)));
      return;
    }
    if (kind === 'stall') {
      if (faults?.stall === undefined) return new Promise((resolve) => client.once('close', () => resolve()));
      await sleep(faults.stall);
    }
    if (kind === 'corrupt') {
      const at = this.#below(chunk.length);
      chunk[at] = (chunk[at] ?? 0) ^ (1 + this.#below(255));
    }
    this.bytes += chunk.length;
    if (!client.destroyed && !client.write(chunk)) {
      await new Promise<void>((resolve) => {
        client.once('drain', () => resolve());
        client.once('close', () => resolve());
      });
    }
  }

  #pick(kinds: readonly FaultKind[]): FaultKind | undefined {
    return kinds[this.#below(kinds.length)];
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }
}

/** Numbers in 0…1 that follow from the seed (mulberry32). */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
