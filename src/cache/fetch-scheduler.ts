/**
 * Decides which blocks are read from where, and when: the miss side of every mount (DESIGN §6).
 *
 * A wanted block waits in the queue until a read may start; the read takes wanted neighbours along. A read that
 * fails puts its blocks back into the queue, where the next source, or the same one after a pause, gets them. A
 * block leaves the queue verified and put into its block file, or with EIO and a log line.
 */
import { constants } from 'node:os';
import { OrcaError } from '../errors.js';
import { type Logger, log } from '../telemetry/logger.js';
import type { CachedLayer } from './cached-layer.js';
import type { LayerSource } from './layer-source.js';
import { withTimeout } from './read-timeout.js';
import type { Attempt } from './source-state.js';
import { Want } from './want.js';

export interface FetchOptions {
  /** How long a reader waits at most before EIO, in milliseconds; default 60000. */
  deadline?: number;
  /** How long one read from a source may take before another is tried, in milliseconds; default 20000. */
  attemptTimeout?: number;
  /** Reads from sources that are outstanding at once; default 16. */
  maxOutstanding?: number;
  /** Most bytes of one read from a source; default 1 MiB. */
  maxReadBytes?: number;
}

export interface FetchStats {
  /** Blocks that sessions asked for, each counted once until it is there. */
  blocksWanted: number;
  /** Blocks that came from a source and verified, and their bytes. */
  blocksFetched: number;
  bytesFetched: number;
  /** Blocks found in the cache file after all: after an unclean stop, or put there by another process. */
  blocksRecovered: number;
  /** Blocks that came wrong from a source; blocks whose readers got EIO; blocks that the disk did not take. */
  blocksCorrupt: number;
  blocksFailed: number;
  blocksUncached: number;
}

/** A block that this process was too busy, or asleep, to ask for in time still gets one try of this length. */
const LAST_TRY_MS = 500;
/** A source that lacks a layer, or has it wrong, comes last for this long, if there is another. */
const AVOID_MS = 5000;
/**
 * A read-ahead that failed is followed at once by a read of its first page: who asks for a block within the first
 * time after its deadline waits only for the second time, while the sources are asked once more.
 */
const OVERDUE_MS = 1000;
const OVERDUE_WAIT_MS = 2000;
/** The disk's refusals are reported once in this time. */
const DISK_REPORT_MS = 60_000;

export class FetchScheduler {
  readonly stats: FetchStats = {
    blocksWanted: 0,
    blocksFetched: 0,
    bytesFetched: 0,
    blocksRecovered: 0,
    blocksCorrupt: 0,
    blocksFailed: 0,
    blocksUncached: 0,
  };
  readonly #log: Logger;
  readonly #deadline: number;
  readonly #attemptTimeout: number;
  readonly #maxOutstanding: number;
  readonly #maxReadBytes: number;
  /** In the order of arrival, which is nearly that of the deadlines. */
  readonly #queue = new Set<Want>();
  #outstanding = 0;
  #pumpSoon: NodeJS.Immediate | undefined;
  #pumpLater: NodeJS.Timeout | undefined;
  #diskReportedAt = Number.NEGATIVE_INFINITY;

  constructor(options: FetchOptions = {}, logger: Logger = log) {
    this.#log = logger;
    this.#deadline = options.deadline ?? 60_000;
    this.#attemptTimeout = options.attemptTimeout ?? 20_000;
    this.#maxOutstanding = options.maxOutstanding ?? 16;
    this.#maxReadBytes = options.maxReadBytes ?? 1 << 20;
  }

  /** Somebody waits for these blocks. Blocks that are wanted already are not asked for again. */
  demand(layer: CachedLayer, firstBlock: number, count: number): void {
    const now = performance.now();
    const deadline = now + this.#deadline;
    const overdueDeadline = now + Math.min(OVERDUE_WAIT_MS, this.#deadline / 4);
    for (let block = firstBlock; block < firstBlock + count; block++) {
      if (layer.wants.has(block) || layer.closed) continue;
      const want = new Want(layer, block, this.#isOverdue(layer, block, now) ? overdueDeadline : deadline);
      layer.wants.set(block, want);
      this.stats.blocksWanted += 1;
      if (layer.mayHave(block)) this.#track([want], this.#recover(want));
      else this.#enqueue(want);
    }
  }

  /** Gives up what the layer's readers wait for, and resolves when nothing of it is under way any more. */
  async drop(layer: CachedLayer): Promise<void> {
    for (const want of layer.wants.values()) this.#queue.delete(want);
    layer.stop();
    await Promise.all(layer.running);
    layer.wants.clear();
  }

  /** True of a block that nobody could get within its deadline just now. */
  #isOverdue(layer: CachedLayer, block: number, now: number): boolean {
    const since = layer.overdue.get(block);
    if (since === undefined) return false;
    layer.overdue.delete(block);
    if (now - since > OVERDUE_MS) return false;
    for (const { state } of layer.sources) state.endPause();
    return true;
  }

  #enqueue(want: Want): void {
    if (want.layer.closed) return;
    this.#queue.add(want);
    // Not at once: the other misses of this turn of the event loop may be neighbours.
    this.#pumpSoon ??= setImmediate(() => {
      this.#pumpSoon = undefined;
      this.#pump();
    });
  }

  /** Keeps account of work on wanted blocks of one layer; a defect in it is EIO for their readers, and a log line. */
  #track(wants: readonly [Want, ...Want[]], work: Promise<void>): void {
    const { running } = wants[0].layer;
    const guarded = work
      .catch((error: Error) => {
        this.#log.error(`defect in the fetch scheduler: ${error.stack ?? error.message}`);
        this.#giveUp(wants.filter((want) => want.layer.wants.get(want.block) === want));
      })
      .finally(() => running.delete(guarded));
    running.add(guarded);
  }

  #pump(): void {
    clearTimeout(this.#pumpLater);
    const now = performance.now();
    const given: Want[] = [];
    let wakeAt = Number.POSITIVE_INFINITY;
    for (const want of this.#queue) {
      const choice = want.choose(now);
      const isLate = want.deadline <= now;
      if (choice === 'exhausted' || (isLate && (want.wasTried || 'waitUntil' in choice))) {
        this.#queue.delete(want);
        given.push(want);
      } else if ('waitUntil' in choice) {
        wakeAt = Math.min(wakeAt, choice.waitUntil, want.deadline);
      } else if (this.#outstanding < this.#maxOutstanding) {
        this.#start(want, choice.source, now);
      } else {
        wakeAt = Math.min(wakeAt, isLate ? now + LAST_TRY_MS : want.deadline);
      }
    }
    this.#giveUp(given);
    if (wakeAt < Number.POSITIVE_INFINITY) {
      this.#pumpLater = setTimeout(() => this.#pump(), Math.max(1, wakeAt - now));
    }
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
    this.#outstanding += 1;
    const work = this.#fetch(run, source, now).finally(() => {
      this.#outstanding -= 1;
      this.#pump();
    });
    this.#track(run, work);
  }

  /** One read from one source. Never rejects: what did not arrive goes back into the queue. */
  async #fetch(run: readonly [Want, ...Want[]], source: LayerSource, now: number): Promise<void> {
    const { layer, block: first } = run[0];
    const { blockSize, size } = layer.digests;
    const offset = first * blockSize;
    const length = Math.min(size, offset + run.length * blockSize) - offset;
    const remaining = Math.max(LAST_TRY_MS, Math.min(...run.map((want) => want.deadline)) - now);
    const attempt = source.state.begin();
    let bytes: Uint8Array;
    try {
      bytes = await withTimeout(Math.min(this.#attemptTimeout, remaining), layer.signal, (signal) =>
        source.read(offset, length, signal),
      );
    } catch (error) {
      if (layer.closed) source.state.abandoned(attempt);
      else this.#readFailed(run, source, attempt, error);
      return;
    }
    this.#readSucceeded(source, attempt, length);
    await Promise.all(
      run.map((want, index) => {
        const block = bytes.subarray(index * blockSize, Math.min(length, (index + 1) * blockSize));
        return this.#arrived(want, source, block);
      }),
    );
  }

  #readSucceeded(source: LayerSource, attempt: Attempt, length: number): void {
    const { state } = source;
    if (!state.healthy) this.#log.info(`${state.source.location} is back`);
    state.succeeded(attempt, length);
  }

  #readFailed(run: readonly Want[], source: LayerSource, attempt: Attempt, error: unknown): void {
    const { state } = source;
    const code = error instanceof OrcaError ? error.code : 'UNEXPECTED';
    const message = (error as Error).message;
    const retryable = error instanceof OrcaError && error.retryable;
    const wasHealthy = state.healthy;
    state.failed(attempt, { code, message, at: Date.now() }, retryable, performance.now());
    if (retryable && wasHealthy) {
      this.#log.warn(`${state.source.location} fails, reads from it are tried again: ${message}`, { code });
    }
    if (!retryable) source.avoidUntil = performance.now() + AVOID_MS;
    source.lastProblem = { code, message, at: Date.now() };
    for (const want of run) {
      want.failed(source, `${code}, ${message}`, retryable);
      this.#enqueue(want);
    }
  }

  async #arrived(want: Want, source: LayerSource, bytes: Uint8Array): Promise<void> {
    if (!want.layer.digests.verify(want.block, bytes)) {
      this.stats.blocksCorrupt += 1;
      const message = `block ${want.block} does not match its digest`;
      source.state.corruptBlocks += 1;
      source.avoidUntil = performance.now() + AVOID_MS;
      source.lastProblem = { code: 'CORRUPT', message, at: Date.now() };
      want.corrupt(source);
      this.#enqueue(want);
      return;
    }
    source.bytes += bytes.length;
    this.stats.blocksFetched += 1;
    this.stats.bytesFetched += bytes.length;
    await this.#put(want, bytes);
  }

  /** Asks the cache file first; what it has wrong or not at all is fetched. */
  async #recover(want: Want): Promise<void> {
    const { layer, block } = want;
    const bytes = await layer.blockFile.read(block).catch(() => undefined);
    if (layer.closed) return;
    if (bytes === undefined || !layer.digests.verify(block, bytes)) {
      this.#enqueue(want);
      return;
    }
    this.stats.blocksRecovered += 1;
    // What is trusted already is not written again; put() answers the readers.
    layer.blockFile.trust(block);
    await this.#put(want, bytes);
  }

  async #put(want: Want, bytes: Uint8Array): Promise<void> {
    const { layer, block } = want;
    const written = await layer.makeRoom(block, bytes.length);
    // Before put(): a READ that misses the block again from now on asks for it anew.
    layer.wants.delete(block);
    try {
      await layer.blockFile.put(block, bytes);
    } catch (error) {
      this.stats.blocksUncached += 1;
      this.#reportDisk(error as NodeJS.ErrnoException, layer);
    } finally {
      written();
    }
  }

  #reportDisk(error: NodeJS.ErrnoException, layer: CachedLayer): void {
    const now = performance.now();
    if (now - this.#diskReportedAt < DISK_REPORT_MS) return;
    this.#diskReportedAt = now;
    const reason = error.code ?? error.message;
    this.#log.warn(`${layer.dataPath} cannot be written (${reason}): reads go on uncached; make room there`);
  }

  /** Answers the readers with EIO: one log line for each run of neighbours that failed for the same reasons. */
  #giveUp(wants: readonly Want[]): void {
    const sorted = [...wants].sort((a, b) => a.block - b.block);
    const runs: { layer: CachedLayer; first: number; last: number; reasons: string }[] = [];
    const now = performance.now();
    for (const want of sorted) {
      want.layer.wants.delete(want.block);
      if (want.deadline <= now) want.layer.overdue.set(want.block, now);
      want.layer.blockFile.fail(want.block, constants.errno.EIO);
      this.stats.blocksFailed += 1;
      const reasons = want.reasons().join('; ');
      const run = runs.find(
        (r) => r.layer === want.layer && r.last === want.block - 1 && r.reasons === reasons,
      );
      if (run === undefined) runs.push({ layer: want.layer, first: want.block, last: want.block, reasons });
      else run.last = want.block;
    }
    for (const { layer, first, last, reasons } of runs) {
      const blocks = first === last ? `block ${first}` : `blocks ${first} to ${last}`;
      const { diffID } = layer.digests;
      this.#log.error(`read error: ${blocks} of layer ${diffID}: ${reasons}`);
    }
  }
}
