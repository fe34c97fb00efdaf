/** A scheduler with one layer, a block file in memory, and readers that wait as a session's do. */
import { CachedLayer } from '../../src/cache/cached-layer.js';
import { type FetchOptions, FetchScheduler } from '../../src/cache/fetch-scheduler.js';
import { LayerSource } from '../../src/cache/layer-source.js';
import { SourceState } from '../../src/cache/source-state.js';
import type { Logger } from '../../src/telemetry/logger.js';
import { type FaultSource, MemoryBlockFile, type TestLayer } from './layer-fixture.js';

export const BLOCK = 4096;

/** A scheduler with one layer that reads from the sources in this order. */
export class Rig {
  readonly log: string[] = [];
  readonly scheduler: FetchScheduler;
  readonly file: MemoryBlockFile;
  readonly layer: CachedLayer;
  readonly states: SourceState[];
  makeRoom: () => Promise<() => void> = async () => () => undefined;
  readonly #waiting = new Map<number, ((answer: Buffer | number) => void)[]>();

  constructor(
    readonly content: TestLayer,
    sources: readonly FaultSource[],
    options: FetchOptions = {},
    readAhead = { openAfter: 0, most: 0 },
  ) {
    const record = (level: string) => (message: string) => void this.log.push(`${level}: ${message}`);
    const logger: Logger = {
      debug: record('debug'),
      info: record('info'),
      warn: record('warn'),
      error: record('error'),
    };
    this.scheduler = new FetchScheduler(options, logger);
    this.file = new MemoryBlockFile(content.digests);
    this.layer = new CachedLayer(content.digests, this.file, {
      dataPath: '/cache/layers/x.data',
      lastUse: 0,
      makeRoom: () => this.makeRoom(),
      readAhead,
    });
    this.states = sources.map((source) => new SourceState(source));
    for (const state of this.states) {
      this.layer.sources.push(new LayerSource(state, content.digests));
    }
    this.file.isAwaited = (block) => this.#waiting.has(block);
    this.file.onAnswer = (block, answer) => {
      for (const resolve of this.#waiting.get(block) ?? []) resolve(answer);
      this.#waiting.delete(block);
    };
  }

  /** As a session does it: waits for each block of the run; the bytes, or the errno of the first that failed. */
  async read(first: number, count = 1): Promise<Buffer | number> {
    const answers = Promise.all(
      Array.from(
        { length: count },
        (_, i) =>
          new Promise<Buffer | number>((resolve) => {
            const waiting = this.#waiting.get(first + i) ?? [];
            this.#waiting.set(first + i, [...waiting, resolve]);
          }),
      ),
    );
    this.scheduler.demand(this.layer, first, count);
    const found = await answers;
    const failed = found.find((answer) => typeof answer === 'number');
    return failed ?? Buffer.concat(found as Buffer[]);
  }

  /** Resolves when nothing is under way: readers are answered before the books are kept. */
  async idle(): Promise<void> {
    while (this.layer.running.size > 0) await Promise.all(this.layer.running);
  }

  expected(first: number, count = 1): Buffer {
    return this.content.bytes.subarray(first * BLOCK, (first + count) * BLOCK);
  }
}
