/**
 * A layer that its source gives as a stream only: what passes is put into the cache, whoever asked for it. Readers
 * wait until the stream has passed their blocks; it goes on without them as long as no better source is well.
 */
import type { VhdPiece } from '../source/source.js';
import type { CachedLayer } from './cached-layer.js';
import type { LayerSource } from './layer-source.js';
import { withTimeout } from './read-timeout.js';
import type { Run, RunReader } from './run-reader.js';
import type { StreamGate, Streaming } from './stream-gate.js';
import { Want } from './want.js';

/** Bytes that come in one piece: enough to be hashed at once, little enough that nobody waits for its end. */
const PIECE_SIZE = 512 << 10;
/** A stream that nobody waits for, and that brings nothing that a better source has not, is kept as it is so long. */
const IDLE_MS = 30_000;

/** What a stream needs of the scheduler. */
export interface StreamHost {
  readonly gate: StreamGate;
  readonly reader: RunReader;
  /** Milliseconds that a piece may take. */
  readonly attemptTimeout: number;
  /** True of a wanted block that no read is under way for. */
  isParked(want: Want): boolean;
  /** It is parked no longer; false when it was not. */
  unpark(want: Want): boolean;
  /** Puts blocks that have come, and parks again those that are wrong and still wanted. Never rejects. */
  deliver(run: Run, source: LayerSource, bytes: Uint8Array): Promise<void>;
  /** Something has passed, or the stream has ended: what is parked, or to be prefetched, is to be looked at again. */
  changed(): void;
}

export class LayerStream implements Streaming {
  readonly #layer: CachedLayer;
  readonly #source: LayerSource;
  readonly #host: StreamHost;
  /** Blocks that were asked for; some may have come, or be no longer wanted. */
  readonly #asked = new Set<number>();
  /** The first block that has not passed. */
  #position = 0;
  /** No block before it is absent. */
  #absent = 0;
  #idleSince: number | undefined;
  #running: Promise<void> | undefined;
  /** How often it has come to its end. */
  passes = 0;
  failures = 0;

  constructor(layer: CachedLayer, source: LayerSource, host: StreamHost) {
    this.#layer = layer;
    this.#source = source;
    this.#host = host;
  }

  /** A block is to come; begins the stream if need be. */
  want(block: number): void {
    const isNew = !this.#asked.has(block);
    this.#asked.add(block);
    if (this.#running === undefined) this.#start();
    else if (isNew) this.#host.gate.change();
  }

  get isAwaited(): boolean {
    return this.#awaits(0);
  }

  get isUseful(): boolean {
    const { digests, sources } = this.#layer;
    while (this.#absent < digests.count && this.#layer.blockFile.has(this.#absent)) this.#absent += 1;
    if (this.#absent === digests.count) return false;
    const now = performance.now();
    const better = sources.slice(0, sources.indexOf(this.#source));
    return !better.some(({ state, avoidUntil }) => state.healthy && avoidUntil <= now);
  }

  get isOver(): boolean {
    if (this.#layer.closed || !this.#layer.sources.includes(this.#source)) return true;
    if (this.isAwaited || this.isUseful) {
      this.#idleSince = undefined;
      return false;
    }
    this.#idleSince ??= performance.now();
    return this.#absent === this.#layer.digests.count || performance.now() - this.#idleSince >= IDLE_MS;
  }

  /** Whether somebody waits for a block at or after `first`. */
  #awaits(first: number): boolean {
    for (const block of this.#asked) {
      const want = this.#layer.wants.get(block);
      if (want?.demanded !== true || !this.#host.isParked(want)) this.#asked.delete(block);
      else if (block >= first) return true;
    }
    return false;
  }

  #start(): void {
    const { running, signal } = this.#layer;
    const { gate } = this.#host;
    const onAbort = () => gate.change();
    this.#absent = 0;
    signal.addEventListener('abort', onAbort, { once: true });
    const timer = setInterval(onAbort, IDLE_MS).unref();
    const work = this.#run().finally(() => {
      clearInterval(timer);
      signal.removeEventListener('abort', onAbort);
      running.delete(work);
      this.#running = undefined;
      this.#host.changed();
    });
    this.#running = work;
    running.add(work);
  }

  async #run(): Promise<void> {
    const { gate } = this.#host;
    try {
      if (!(await gate.enter(this))) return;
      while (await this.#pass());
    } finally {
      gate.leave(this);
    }
  }

  /** Goes through the layer once; true when somebody waits for what has passed already. */
  async #pass(): Promise<boolean> {
    const { signal, digests } = this.#layer;
    const stop = new AbortController();
    const pieceSize = Math.max(digests.blockSize, PIECE_SIZE);
    const pieces = this.#source.stream(pieceSize, AbortSignal.any([stop.signal, signal]));
    this.#position = 0;
    this.#absent = 0;
    try {
      while (await this.#host.gate.turn(this)) {
        if (this.isAwaited && !this.#awaits(this.#position)) return true;
        const piece = await this.#next(pieces);
        if (piece === undefined) return false;
        if (piece === 'end') {
          this.passes += 1;
          return this.isAwaited;
        }
        await this.#deliver(piece.offset / digests.blockSize, piece.bytes);
        this.#host.changed();
      }
      return false;
    } finally {
      stop.abort();
      pieces.return().catch(() => undefined);
    }
  }

  /** undefined after a failure, which the source and whoever waits then know of. */
  async #next(pieces: AsyncGenerator<VhdPiece, void, void>): Promise<VhdPiece | 'end' | undefined> {
    const { reader, attemptTimeout } = this.#host;
    const attempt = this.#source.state.begin();
    try {
      const next = await withTimeout(attemptTimeout, this.#layer.signal, () => pieces.next());
      reader.succeeded(this.#source, attempt, next.done === true ? 0 : next.value.bytes.length);
      return next.done === true ? 'end' : next.value;
    } catch (error) {
      if (this.#layer.closed) this.#source.state.abandoned(attempt);
      else {
        this.failures += 1;
        const waiting = [...this.#asked].flatMap((block) => this.#layer.wants.get(block) ?? []);
        reader.failed(
          waiting.filter((want) => this.#host.isParked(want)),
          this.#source,
          attempt,
          error,
        );
      }
      return undefined;
    }
  }

  /** Puts the blocks of a piece that are absent and that nobody else is fetching. */
  async #deliver(first: number, bytes: Uint8Array): Promise<void> {
    const { blockSize } = this.#layer.digests;
    const count = Math.ceil(bytes.length / blockSize);
    this.#position = first + count;
    let run: Want[] = [];
    const runs = [run];
    for (let block = first; block < first + count; block++) {
      const want = this.#take(block);
      if (want !== undefined) run.push(want);
      else if (run.length > 0) {
        run = [];
        runs.push(run);
      }
    }
    for (const wants of runs) {
      const start = wants[0]?.block;
      if (start === undefined) continue;
      const from = (start - first) * blockSize;
      const piece = bytes.subarray(from, from + wants.length * blockSize);
      await this.#host.deliver(wants as unknown as Run, this.#source, piece);
    }
  }

  #take(block: number): Want | undefined {
    const layer = this.#layer;
    const known = layer.wants.get(block);
    if (known !== undefined) return this.#host.unpark(known) ? known : undefined;
    if (layer.blockFile.has(block) || layer.putting.has(block)) return undefined;
    const want = new Want(layer, block, performance.now() + this.#host.attemptTimeout, { demanded: false });
    layer.wants.set(block, want);
    return want;
  }
}
