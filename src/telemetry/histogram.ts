/** Counts of durations by size: what a Prometheus histogram is made of. */

/** Upper bounds in milliseconds: from a read on the host's own disk to a reader who has nearly given up. */
export const LATENCY_BOUNDS = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 20_000, 60_000] as const;

export class Histogram {
  /** By bound; the last is for what exceeds all of them. Not cumulative. */
  readonly counts: number[] = new Array<number>(LATENCY_BOUNDS.length + 1).fill(0);
  /** Of all milliseconds. */
  sum = 0;
  count = 0;

  add(milliseconds: number): void {
    const index = LATENCY_BOUNDS.findIndex((bound) => milliseconds <= bound);
    const bucket = index < 0 ? LATENCY_BOUNDS.length : index;
    this.counts[bucket] = (this.counts[bucket] ?? 0) + 1;
    this.sum += milliseconds;
    this.count += 1;
  }

  merge(other: Histogram): void {
    for (const [index, count] of other.counts.entries())
      this.counts[index] = (this.counts[index] ?? 0) + count;
    this.sum += other.sum;
    this.count += other.count;
  }

  /** The bound below which this part (0 to 1) of the durations lies; undefined without any, or beyond all bounds. */
  quantile(part: number): number | undefined {
    let below = 0;
    for (const [index, bound] of LATENCY_BOUNDS.entries()) {
      below += this.counts[index] ?? 0;
      if (this.count > 0 && below >= part * this.count) return bound;
    }
    return undefined;
  }
}
