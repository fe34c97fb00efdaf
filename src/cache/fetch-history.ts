/** Which blocks of a layer came from a source, and when: the last few thousand runs of them. */
import type { SourceKind } from '../source/source.js';

/** Some 200 KB of memory. When there are more, the older half is forgotten. */
const MOST_RUNS = 2048;

export interface FetchedRun {
  /** `performance.now()`, when it had been verified and put. */
  time: number;
  first: number;
  count: number;
  kind: SourceKind;
  /** Whether somebody waited for a block of it. */
  demanded: boolean;
}

export class FetchHistory {
  #runs: FetchedRun[] = [];

  get runs(): readonly FetchedRun[] {
    return this.#runs;
  }

  add(run: FetchedRun): void {
    if (this.#runs.length === MOST_RUNS) this.#runs = this.#runs.slice(MOST_RUNS / 2);
    this.#runs.push(run);
  }
}
