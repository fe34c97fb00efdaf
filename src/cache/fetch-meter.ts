/** What the sources have given so far, by their kind, and how long readers waited for it. */
import type { SourceKind } from '../source/source.js';
import { Histogram } from '../telemetry/histogram.js';

export interface KindMeter {
  /** Verified. */
  bytes: number;
  /** From the first demand of a block until it was put; blocks that came before anybody asked are not among them. */
  waits: Histogram;
}

export class FetchMeter {
  readonly kinds = new Map<SourceKind, KindMeter>();

  of(kind: SourceKind): KindMeter {
    let meter = this.kinds.get(kind);
    if (meter === undefined) {
      meter = { bytes: 0, waits: new Histogram() };
      this.kinds.set(kind, meter);
    }
    return meter;
  }
}
