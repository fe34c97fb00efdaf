/** The end of a wanted block: verified, in its block file, and its readers answered; or EIO for them and a log line. */
import { constants } from 'node:os';
import type { PutResult } from '../native/addon.js';
import type { SourceKind } from '../source/source.js';
import type { CachedLayer } from './cached-layer.js';
import type { FetchLog } from './fetch-log.js';
import { FetchMeter } from './fetch-meter.js';
import type { FetchStats } from './fetch-stats.js';
import type { LayerSource } from './layer-source.js';
import { AVOID_MS, type Run } from './run-reader.js';
import type { Want } from './want.js';

/** What of a run is to be asked for again. */
export interface Undelivered {
  /** Did not match their digests. */
  wrong: Want[];
  /** Numbers of blocks that were asked for while they were being put. */
  askedAgain: number[];
}

export class BlockDelivery {
  /** By kind of source. */
  readonly meter = new FetchMeter();
  readonly #stats: FetchStats;
  readonly #log: FetchLog;

  constructor(stats: FetchStats, log: FetchLog) {
    this.#stats = stats;
    this.#log = log;
  }

  /** Verifies and stores what a source gave, and answers the readers. */
  async put(run: Run, source: LayerSource, bytes: Uint8Array): Promise<Undelivered> {
    const { layer, block: first } = run[0];
    const written = await layer.makeRoom(first, run.length, bytes.length);
    for (const { block } of run) {
      layer.wants.delete(block);
      layer.putting.set(block, false);
    }
    const askedAgain: number[] = [];
    let wrong = new Set<number>();
    try {
      const result = await putRun(layer, first, run.length, bytes);
      wrong = new Set(result.wrong);
      if (result.error !== undefined) {
        this.#stats.blocksUncached += run.filter(
          ({ block }) => !wrong.has(block) && !layer.blockFile.has(block),
        ).length;
        this.#log.diskRefuses(result.error, layer);
      }
    } catch (defect) {
      // Their readers are to be told.
      for (const want of run) layer.wants.set(want.block, want);
      throw defect;
    } finally {
      written();
      for (const { block } of run) {
        if (layer.putting.get(block)) askedAgain.push(block);
        layer.putting.delete(block);
      }
    }
    const right = run.filter(({ block }) => !wrong.has(block));
    for (const want of run) {
      if (wrong.has(want.block)) this.#corrupt(want, source);
      else this.#fetched(source, want, layer.digests.length(want.block));
    }
    remember(layer, right, source.state.source.kind);
    return { wrong: run.filter(({ block }) => wrong.has(block)), askedAgain };
  }

  /** Takes a block that the cache file has, if it has it right; false when it must be fetched. */
  async recover(want: Want): Promise<boolean> {
    const { layer, block } = want;
    const bytes = await layer.blockFile.read(block).catch(() => undefined);
    if (layer.closed) return true;
    if (bytes === undefined || !layer.digests.verify(block, bytes)) return false;
    this.#stats.blocksRecovered += 1;
    // What is trusted already is not written again; put() answers the readers.
    layer.blockFile.trust(block);
    await this.#putRecovered(want, bytes);
    return true;
  }

  /** Answers the readers with EIO. */
  giveUp(wants: readonly Want[]): void {
    const sorted = [...wants].sort((a, b) => a.block - b.block);
    const now = performance.now();
    for (const want of sorted) {
      want.layer.wants.delete(want.block);
      if (want.deadline <= now) want.layer.overdue.set(want.block, { since: now, hurried: want.hurried });
      want.layer.blockFile.fail(want.block, constants.errno.EIO);
      this.#stats.blocksFailed += 1;
    }
    this.#log.readErrors(sorted);
  }

  #fetched(source: LayerSource, { demandedAt }: Want, bytes: number): void {
    const meter = this.meter.of(source.state.source.kind);
    source.bytes += bytes;
    meter.bytes += bytes;
    if (demandedAt !== undefined) {
      const waited = performance.now() - demandedAt;
      source.waits.add(waited);
      meter.waits.add(waited);
    }
    this.#stats.blocksFetched += 1;
    this.#stats.bytesFetched += bytes;
  }

  #corrupt(want: Want, source: LayerSource): void {
    this.#stats.blocksCorrupt += 1;
    const message = `block ${want.block} does not match its digest`;
    source.state.corruptBlocks += 1;
    source.avoidUntil = performance.now() + AVOID_MS;
    source.lastProblem = { code: 'CORRUPT', message, at: Date.now() };
    want.corrupt(source);
    want.layer.wants.set(want.block, want);
  }

  async #putRecovered({ layer, block }: Want, bytes: Uint8Array): Promise<void> {
    const written = await layer.makeRoom(block, 1, bytes.length);
    // Before put(): a READ that misses the block again from now on asks for it anew.
    layer.wants.delete(block);
    try {
      await layer.blockFile.put(block, bytes);
    } catch (error) {
      this.#stats.blocksUncached += 1;
      this.#log.diskRefuses(error as NodeJS.ErrnoException, layer);
    } finally {
      written();
    }
  }
}

/** Blocks of a layer with a chunk map were verified by their source: LayerSource takes them from no other. */
async function putRun(
  { blockFile, digests }: CachedLayer,
  first: number,
  count: number,
  bytes: Uint8Array,
): Promise<PutResult> {
  if (digests.chunkMap === undefined) return blockFile.putRun(first, bytes, digests.range(first, count));
  const result: PutResult = { wrong: [] };
  for (let index = 0; index < count; index++) {
    const block = bytes.subarray(index * digests.blockSize, (index + 1) * digests.blockSize);
    await blockFile.put(first + index, block).catch((error: NodeJS.ErrnoException) => {
      result.error ??= error;
    });
  }
  return result;
}

/** Neighbours that were demanded, or not, alike are one run. */
function remember(layer: CachedLayer, wants: readonly Want[], kind: SourceKind): void {
  const time = performance.now();
  for (let from = 0; from < wants.length; ) {
    const { block, demanded } = wants[from] as Want;
    let count = 1;
    while (wants[from + count]?.block === block + count && wants[from + count]?.demanded === demanded)
      count += 1;
    layer.history.add({ time, first: block, count, kind, demanded });
    from += count;
  }
}
