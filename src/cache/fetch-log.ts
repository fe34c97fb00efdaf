/** What the fetch scheduler tells the operator: once for what happens to many blocks. */
import { type Logger, log } from '../telemetry/logger.js';
import type { CachedLayer } from './cached-layer.js';
import type { Want } from './want.js';

/** The disk's refusals are reported once in this time. */
const DISK_REPORT_MS = 60_000;

export class FetchLog {
  readonly #log: Logger;
  #diskReportedAt = Number.NEGATIVE_INFINITY;

  constructor(logger: Logger = log) {
    this.#log = logger;
  }

  defect(error: Error): void {
    this.#log.error(`defect in the fetch scheduler: ${error.stack ?? error.message}`);
  }

  sourceBack(location: string): void {
    this.#log.info(`${location} is back`);
  }

  sourceFails(location: string, code: string, message: string): void {
    this.#log.warn(`${location} fails, reads from it are tried again: ${message}`, { code });
  }

  diskRefuses(error: NodeJS.ErrnoException, layer: CachedLayer): void {
    const now = performance.now();
    if (now - this.#diskReportedAt < DISK_REPORT_MS) return;
    this.#diskReportedAt = now;
    const reason = error.code ?? error.message;
    this.#log.warn(`${layer.dataPath} cannot be written (${reason}): reads go on uncached; make room there`);
  }

  /** One line for each run of neighbours that failed for the same reasons; the wants are in the order of blocks. */
  readErrors(wants: readonly Want[]): void {
    const runs: { layer: CachedLayer; first: number; last: number; reasons: string }[] = [];
    for (const want of wants) {
      const reasons = want.reasons().join('; ');
      const run = runs.find(
        (r) => r.layer === want.layer && r.last === want.block - 1 && r.reasons === reasons,
      );
      if (run === undefined) runs.push({ layer: want.layer, first: want.block, last: want.block, reasons });
      else run.last = want.block;
    }
    for (const { layer, first, last, reasons } of runs) {
      const blocks = first === last ? `block ${first}` : `blocks ${first} to ${last}`;
      this.#log.error(`read error: ${blocks} of layer ${layer.digests.diffID}: ${reasons}`);
    }
  }
}
