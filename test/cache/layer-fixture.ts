/** Layers of random bytes, a source that misbehaves on a plan, and a block file in memory. */
import { createCipheriv, createHash } from 'node:crypto';
import { BlockDigests } from '../../src/layer/block-digests.js';
import type { BlockFile, PutResult } from '../../src/native/addon.js';
import { type LayerHandle, type Source, SourceError } from '../../src/source/source.js';

export interface TestLayer {
  bytes: Buffer;
  digests: BlockDigests;
}

/** Deterministic numbers in [0, 1) (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function randomLayer(seed: number, size: number, blockSize = 4096): TestLayer {
  const key = createHash('sha256').update(`layer ${seed}`).digest().subarray(0, 16);
  const bytes = createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(size));
  return { bytes, digests: digestsOf(bytes, blockSize) };
}

/** Block digests as docs/FORMAT.md has them; the diffID is the sha256 of the bytes. */
export function digestsOf(bytes: Buffer, blockSize: number): BlockDigests {
  const count = Math.ceil(bytes.length / blockSize);
  const encoded = Buffer.alloc(64 + 32 * count);
  encoded.write('ORCADGST', 'latin1');
  encoded.writeUInt32LE(1, 8);
  encoded.writeUInt32LE(blockSize, 12);
  encoded.writeBigUInt64LE(BigInt(bytes.length), 16);
  createHash('sha256').update(bytes).digest().copy(encoded, 24);
  for (let i = 0; i < count; i++) {
    const block = bytes.subarray(i * blockSize, (i + 1) * blockSize);
    createHash('sha256')
      .update(block)
      .digest()
      .copy(encoded, 64 + 32 * i);
  }
  return BlockDigests.decode(encoded);
}

export type Fault = 'ok' | 'fail' | 'corrupt' | 'stall' | 'short' | 'refuse';

export interface SourceRead {
  diffID: string;
  offset: number;
  length: number;
}

/** Serves layers from memory; `plan` decides what becomes of each read. */
export class FaultSource implements Source {
  readonly kind = 'file';
  readonly location: string;
  readonly reads: SourceRead[] = [];
  /** Answers, and resolves of `hold`, are given when it resolves. */
  gate: Promise<void> = Promise.resolve();
  plan: (read: SourceRead) => Fault = () => 'ok';
  outstanding = 0;
  mostOutstanding = 0;
  closed = 0;
  readonly #layers: ReadonlyMap<string, Buffer>;

  constructor(location: string, layers: readonly TestLayer[]) {
    this.location = location;
    this.#layers = new Map(layers.map(({ bytes, digests }) => [digests.diffID, bytes]));
  }

  async readFile(path: string): Promise<Uint8Array> {
    throw new SourceError('NOT_FOUND', `${path} does not exist`);
  }

  async openLayer(diffID: string): Promise<LayerHandle> {
    const bytes = this.#layers.get(diffID);
    if (bytes === undefined) throw new SourceError('NOT_FOUND', `${this.location} lacks ${diffID}`);
    return {
      size: bytes.length,
      read: (offset, length, signal) => this.#read(bytes, { diffID, offset, length }, signal),
      close: async () => {
        this.closed += 1;
      },
    };
  }

  async close(): Promise<void> {}

  async #read(bytes: Buffer, read: SourceRead, signal: AbortSignal | undefined): Promise<Uint8Array> {
    this.reads.push(read);
    this.outstanding += 1;
    this.mostOutstanding = Math.max(this.mostOutstanding, this.outstanding);
    try {
      await this.gate;
      const fault = this.plan(read);
      const answer = Buffer.from(bytes.subarray(read.offset, read.offset + read.length));
      switch (fault) {
        case 'ok':
          return answer;
        case 'corrupt':
          answer[Math.floor(answer.length / 2)]! ^= 1;
          return answer;
        case 'short':
          return answer.subarray(0, answer.length - 1);
        case 'fail':
          throw new SourceError('CONNECTION_LOST', 'connection reset by plan', { retryable: true });
        case 'refuse':
          throw new SourceError('ACCESS_DENIED', 'refused by plan');
        case 'stall':
          await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
          throw new Error('unreachable');
      }
    } finally {
      this.outstanding -= 1;
    }
  }
}

/** Says what became of each block; `refusal` is what the disk says to put(). */
export class MemoryBlockFile implements BlockFile {
  readonly blocks: number;
  suspect = false;
  refusal: NodeJS.ErrnoException | undefined;
  readonly there = new Map<number, Buffer>();
  readonly claimed = new Map<number, Buffer>();
  readonly watched: number[] = [];
  readonly #digests: BlockDigests;
  /** Called with the bytes of a put, or the errno of a fail. */
  onAnswer: (block: number, answer: Buffer | number) => void = () => undefined;
  isAwaited: (block: number) => boolean = () => false;

  constructor(digests: BlockDigests) {
    this.blocks = digests.count;
    this.#digests = digests;
  }

  has(block: number): boolean {
    return this.there.has(block);
  }

  wasPresent(block: number): boolean {
    return this.claimed.has(block);
  }

  trust(block: number): void {
    const claimed = this.claimed.get(block);
    if (claimed !== undefined) this.there.set(block, claimed);
  }

  count(): number {
    return this.there.size;
  }

  bytesOnDisk(): number {
    return [...this.there.values()].reduce((sum, bytes) => sum + bytes.length, 0);
  }

  async read(block: number): Promise<Uint8Array> {
    return this.there.get(block) ?? this.claimed.get(block) ?? Buffer.alloc(0);
  }

  async put(block: number, bytes: Uint8Array): Promise<void> {
    this.onAnswer(block, Buffer.from(bytes));
    if (this.refusal !== undefined) throw this.refusal;
    this.there.set(block, Buffer.from(bytes));
  }

  async putRun(firstBlock: number, bytes: Uint8Array): Promise<PutResult> {
    const wrong: number[] = [];
    let error: NodeJS.ErrnoException | undefined;
    for (let at = 0; at < bytes.length; at += this.#digests.blockSize) {
      const block = firstBlock + at / this.#digests.blockSize;
      const piece = bytes.subarray(at, at + this.#digests.blockSize);
      if (!this.#digests.verify(block, piece)) wrong.push(block);
      else
        await this.put(block, piece).catch((refusal) => {
          error = refusal;
        });
    }
    return error === undefined ? { wrong } : { wrong, error };
  }

  watch(block: number): void {
    this.watched.push(block);
  }

  awaited(block: number): boolean {
    return this.isAwaited(block);
  }

  fail(block: number, errno: number): void {
    this.onAnswer(block, errno);
  }

  evict(firstBlock: number, count: number): void {
    for (let block = firstBlock; block < firstBlock + count; block++) this.there.delete(block);
  }

  async close(): Promise<void> {}
}
