/**
 * Decides which blocks are read from where, and when: the miss side of every mount (DESIGN §6).
 *
 * A wanted block waits in the queue until a read may start; the read takes wanted neighbours along. A read that
 * fails puts its blocks back into the queue, where the next source, or the same one after a pause, gets them. A
 * block leaves the queue verified and put into its block file, or with EIO and a log line.
 *
 * Where a source has a layer as a stream only, blocks stay in the queue until the stream has passed them.
 *
 * What the queue leaves room for is fetched ahead: what follows where somebody reads in sequence, and what
 * `prefetch` is asked for. A reader who comes for a block on its way waits for it like everyone else.
 */
import type { Logger } from '../telemetry/logger.js';
import { BlockDelivery } from './block-delivery.js';
import type { CachedLayer } from './cached-layer.js';
import { FetchLog } from './fetch-log.js';
import type { FetchMeter } from './fetch-meter.js';
import { noFetches } from './fetch-stats.js';
import type { LayerSource } from './layer-source.js';
import { LayerStream, type StreamHost } from './layer-stream.js';
import { Prefetch, type PrefetchOptions, PrefetchQueue } from './prefetch-queue.js';
import { LAST_TRY_MS, type Run, RunReader } from './run-reader.js';
import type { ReadAhead } from './sequential-streams.js';
import { StreamGate } from './stream-gate.js';
import { Want } from './want.js';

export interface FetchOptions {
  /** How long a reader waits at most before EIO, in milliseconds; default 60000. */
  deadline?: number;
  /** How long one read from a source may take before another is tried, in milliseconds; default 20000. */
  attemptTimeout?: number;
  /** Reads from sources that are outstanding at once; default 16. */
  maxOutstanding?: number;
  /** Most bytes of one read from a source; default 2 MiB. */
  maxReadBytes?: number;
  /** Bytes that may be under way, over all layers, before anybody has asked for them; default 8 MiB. */
  maxPrefetchBytes?: number;
}

/**
 * The kernel follows a read-ahead that failed at once by a read of its first page: who asks first for a block, within
 * the first time after its deadline, waits only for the second time. Each who asks within the first time has the
 * sources asked at once.
 */
const OVERDUE_MS = 1000;
const OVERDUE_WAIT_MS = 2000;
/** Reads that are kept free for what somebody waits for. */
const RESERVED_READS = 4;
/** Failures of a stream after which it is begun only for who waits for it. */
const MAX_STREAM_FAILURES = 3;
/** How often those who wait for a stream look for a better source. */
const LOOK_AGAIN_MS = 500;

export class FetchScheduler {
  readonly stats = noFetches();
  readonly #log: FetchLog;
  readonly #reader: RunReader;
  readonly #delivery: BlockDelivery;
  readonly #deadline: number;
  readonly #maxOutstanding: number;
  readonly #maxReadBytes: number;
  readonly #maxPrefetchBytes: number;
  /** In the order of arrival, which is nearly that of the deadlines. */
  readonly #queue = new Set<Want>();
  readonly #prefetches = new PrefetchQueue();
  readonly #streams = new WeakMap<LayerSource, LayerStream>();
  readonly #streamHost: StreamHost;
  #outstanding = 0;
  #prefetchBytes = 0;
  #pumpSoon: NodeJS.Immediate | undefined;
  #pumpLater: NodeJS.Timeout | undefined;

  constructor(options: FetchOptions = {}, logger?: Logger) {
    this.#log = new FetchLog(logger);
    const attemptTimeout = options.attemptTimeout ?? 20_000;
    this.#reader = new RunReader(attemptTimeout, this.#log);
    this.#delivery = new BlockDelivery(this.stats, this.#log);
    this.#deadline = options.deadline ?? 60_000;
    this.#maxOutstanding = options.maxOutstanding ?? 16;
    this.#maxReadBytes = options.maxReadBytes ?? 2 << 20;
    this.#maxPrefetchBytes = options.maxPrefetchBytes ?? 8 << 20;
    this.#streamHost = {
      gate: new StreamGate(),
      reader: this.#reader,
      attemptTimeout,
      isParked: (want) => this.#queue.has(want),
      unpark: (want) => this.#queue.delete(want),
      deliver: (run, source, bytes) =>
        this.#deliver(run, source, bytes).catch((error: Error) => this.#defect(run, error)),
      changed: () => this.#pump(),
    };
  }

  /** What came from each kind of source. */
  get meter(): FetchMeter {
    return this.#delivery.meter;
  }

  /** Reads from sources that are under way. */
  get readsOutstanding(): number {
    return this.#outstanding;
  }

  /**
   * Somebody waits for these blocks. Blocks that are wanted already are not asked for again. `end`: the block after the
   * last one that whoever reads in sequence will want.
   */
  demand(layer: CachedLayer, firstBlock: number, count: number, end?: number): void {
    const now = performance.now();
    const deadline = now + this.#deadline;
    for (let block = firstBlock; block < firstBlock + count && !layer.closed; block++) {
      const known = layer.wants.get(block);
      if (known !== undefined) {
        if (!known.demanded) this.stats.blocksWanted += 1;
        known.demand(deadline);
        continue;
      }
      if (layer.putting.has(block)) {
        layer.putting.set(block, true);
        continue;
      }
      const want = this.#newWant(layer, block, now);
      layer.wants.set(block, want);
      this.stats.blocksWanted += 1;
      if (layer.mayHave(block)) this.#track([want], this.#recover(want));
      else this.#enqueue(want);
    }
    this.#readAhead(layer, layer.streams.missed(firstBlock, count, end));
  }

  /** A watched block of the layer is read: its stream goes on. */
  touched(layer: CachedLayer, block: number): void {
    this.#readAhead(layer, layer.streams.touched(block));
  }

  /**
   * Fetches the absent ones of these blocks when nobody waits for others, in large reads. Resolves when they have
   * come or are given up (they failed several times, the signal, `drop`): then readers fetch what they need.
   */
  prefetch(layer: CachedLayer, firstBlock: number, count: number, options: PrefetchOptions): Promise<void> {
    const range = new Prefetch(layer, firstBlock, count, options);
    this.#prefetches.add(range);
    this.#pumpInTurn();
    return range.done;
  }

  #readAhead(layer: CachedLayer, ahead: ReadAhead | undefined): void {
    if (ahead === undefined || layer.closed) return;
    layer.blockFile.watch(ahead.watch);
    void this.prefetch(layer, ahead.first, ahead.count, { priority: 'read-ahead' });
  }

  /** Gives up what the layer's readers wait for, and resolves when nothing of it is under way any more. */
  async drop(layer: CachedLayer): Promise<void> {
    for (const want of layer.wants.values()) this.#queue.delete(want);
    layer.stop();
    await Promise.all(layer.running);
    layer.wants.clear();
    this.#prefetches.pending();
  }

  #newWant(layer: CachedLayer, block: number, now: number): Want {
    const overdue = layer.overdue.get(block);
    layer.overdue.delete(block);
    const justOverdue = overdue !== undefined && now - overdue.since <= OVERDUE_MS;
    if (justOverdue) for (const { state } of layer.sources) state.endPause();
    const hurried = justOverdue && !overdue.hurried;
    const wait = hurried ? Math.min(OVERDUE_WAIT_MS, this.#deadline / 4) : this.#deadline;
    return new Want(layer, block, now + wait, { hurried });
  }

  #enqueue(want: Want): void {
    if (want.layer.closed) return;
    this.#queue.add(want);
    this.#pumpInTurn();
  }

  #pumpInTurn(): void {
    // Not at once: the other misses of this turn of the event loop may be neighbours.
    this.#pumpSoon ??= setImmediate(() => {
      this.#pumpSoon = undefined;
      this.#pump();
    });
  }

  /** Keeps account of work on wanted blocks of one layer; a defect in it is EIO for their readers, and a log line. */
  #track(wants: Run, work: Promise<void>): void {
    const { running } = wants[0].layer;
    const guarded = work
      .catch((error: Error) => this.#defect(wants, error))
      .finally(() => running.delete(guarded));
    running.add(guarded);
  }

  #defect(wants: Run, error: Error): void {
    this.#log.defect(error);
    this.#delivery.giveUp(wants.filter((want) => want.layer.wants.get(want.block) === want));
  }

  #pump(): void {
    clearTimeout(this.#pumpLater);
    const now = performance.now();
    const given: Want[] = [];
    let wakeAt = Number.POSITIVE_INFINITY;
    for (const want of this.#queue) {
      const choice = want.choose(now);
      const isLate = want.deadline <= now;
      if (choice === 'exhausted') {
        this.#queue.delete(want);
        given.push(want);
        continue;
      }
      const isParked = 'source' in choice && choice.source.isStream;
      // Also for one that is late: the next reader will not be.
      if (isParked) this.#streamOf(want.layer, choice.source).want(want.block);
      if (isLate && (isParked || 'waitUntil' in choice || want.wasTried(choice.source))) {
        this.#queue.delete(want);
        given.push(want);
      } else if ('waitUntil' in choice) {
        wakeAt = Math.min(wakeAt, choice.waitUntil, want.deadline);
      } else if (isParked) {
        wakeAt = Math.min(wakeAt, want.deadline, now + LOOK_AGAIN_MS);
      } else if (this.#outstanding < this.#maxOutstanding) {
        this.#start(want, choice.source, now);
      } else {
        wakeAt = Math.min(wakeAt, isLate ? now + LAST_TRY_MS : want.deadline);
      }
    }
    this.#delivery.giveUp(given);
    wakeAt = Math.min(wakeAt, this.#prefetchMore(now));
    if (wakeAt < Number.POSITIVE_INFINITY) {
      this.#pumpLater = setTimeout(() => this.#pump(), Math.max(1, wakeAt - now));
    }
  }

  /** Starts reads that nobody waits for, as many as there is room for; the time at which to look again. */
  #prefetchMore(now: number): number {
    let wakeAt = Number.POSITIVE_INFINITY;
    const mostReads = Math.max(1, this.#maxOutstanding - RESERVED_READS);
    for (const range of this.#prefetches.pending()) {
      const { layer } = range;
      const { blockSize, size } = layer.digests;
      for (;;) {
        const room = this.#maxPrefetchBytes - this.#prefetchBytes;
        if (this.#outstanding >= mostReads || (this.#prefetchBytes > 0 && room < this.#maxReadBytes))
          return wakeAt;
        const next = range.next(Math.max(1, Math.floor(this.#maxReadBytes / blockSize)), now);
        if (next === undefined) break;
        if ('waitUntil' in next) {
          wakeAt = Math.min(wakeAt, next.waitUntil);
          break;
        }
        const wants = Array.from(
          { length: next.count },
          (_, index) => new Want(layer, next.first + index, now + this.#deadline, { demanded: false }),
        ) as unknown as Run;
        const choice = wants[0].choose(now);
        if (choice === 'exhausted') {
          range.giveUp();
          break;
        }
        if ('waitUntil' in choice) {
          wakeAt = Math.min(wakeAt, choice.waitUntil);
          break;
        }
        if (choice.source.isStream) {
          const stream = this.#streamOf(layer, choice.source);
          // What has passed and is not in the cache cannot be kept there.
          if (stream.passes > 0 || stream.failures >= MAX_STREAM_FAILURES) range.giveUp();
          else stream.want(next.first);
          break;
        }
        for (const want of wants) layer.wants.set(want.block, want);
        this.stats.blocksPrefetched += wants.length;
        range.begun(next.count);
        const bytes = Math.min(size, (next.first + next.count) * blockSize) - next.first * blockSize;
        this.#prefetchBytes += bytes;
        this.#begin(wants, choice.source, now, (arrived) => {
          this.#prefetchBytes -= bytes;
          if (!arrived && choice.source.isStream) range.putBack(next.first);
          else range.ended(next.first, !arrived);
        });
      }
    }
    this.#prefetches.pending();
    return wakeAt;
  }

  #streamOf(layer: CachedLayer, source: LayerSource): LayerStream {
    const known = this.#streams.get(source);
    const stream = known ?? new LayerStream(layer, source, this.#streamHost);
    if (known === undefined) this.#streams.set(source, stream);
    return stream;
  }

  /** Starts one read for the wanted block and its wanted neighbours. */
  #start(want: Want, source: LayerSource, now: number): void {
    const { layer } = want;
    const mostBlocks = Math.max(1, Math.floor(this.#maxReadBytes / layer.digests.blockSize));
    const run: [Want, ...Want[]] = [want];
    this.#queue.delete(want);
    const join = (block: number): boolean => {
      const neighbour = layer.wants.get(block);
      if (run.length >= mostBlocks || neighbour === undefined || !this.#queue.has(neighbour)) return false;
      const choice = neighbour.choose(now);
      if (choice === 'exhausted' || !('source' in choice) || choice.source !== source) return false;
      run.push(neighbour);
      return this.#queue.delete(neighbour);
    };
    let last = want.block;
    while (join(last + 1)) last += 1;
    let first = want.block;
    while (join(first - 1)) first -= 1;
    run.sort((a, b) => a.block - b.block);
    this.#begin(run, source, now);
  }

  /** Reads and puts a run; `ended` is told whether the source gave it. */
  #begin(
    run: Run,
    source: LayerSource,
    now: number,
    ended: (arrived: boolean) => void = () => undefined,
  ): void {
    this.#outstanding += 1;
    let arrived = false;
    const work = this.#reader
      .read(run, source, now)
      .then(async (bytes) => {
        if (bytes === undefined && !run[0].layer.closed) for (const want of run) this.#again(want);
        this.#outstanding -= 1;
        this.#pump();
        if (bytes === undefined) return;
        arrived = true;
        await this.#deliver(run, source, bytes);
      })
      .finally(() => {
        ended(arrived);
        this.#pump();
      });
    this.#track(run, work);
  }

  /** Puts what has arrived, and asks again for what did not arrive as it should. */
  async #deliver(run: Run, source: LayerSource, bytes: Uint8Array): Promise<void> {
    const { layer } = run[0];
    const { wrong, askedAgain } = await this.#delivery
      .put(run, source, bytes)
      // Nobody reads them any more, whatever became of them.
      .finally(() => source.giveBack(bytes));
    for (const want of wrong) {
      if (askedAgain.includes(want.block)) want.demand(performance.now() + this.#deadline);
      this.#again(want);
    }
    // Who asked while the block was put has been answered by that, unless it has been evicted again.
    const wrongBlocks = new Set(wrong.map(({ block }) => block));
    for (const block of askedAgain) {
      const answered = wrongBlocks.has(block) || layer.closed || !layer.blockFile.awaited(block);
      if (!answered) this.demand(layer, block, 1);
    }
  }

  /** Somebody may still wait for a block that did not arrive, or arrived wrong. */
  #again(want: Want): void {
    if (want.demanded) this.#enqueue(want);
    else want.layer.wants.delete(want.block);
  }

  /** Asks the cache file first; what it has wrong or not at all is fetched. */
  async #recover(want: Want): Promise<void> {
    if (!(await this.#delivery.recover(want))) this.#enqueue(want);
  }
}
