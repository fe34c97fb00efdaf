/** How busy the processors of the host are, whoever uses them. */
import { cpus } from 'node:os';

/** What is asked more often than this, in milliseconds, is answered as before. */
const WINDOW_MS = 250;

export class IdleProcessors {
  #share = 0;
  #lookedAt = Number.NEGATIVE_INFINITY;
  #idle = 0;
  #total = 0;

  /** The share of their time that was idle between this look and the one before, 0 to 1; 0 at the first. */
  share(now = performance.now()): number {
    if (now - this.#lookedAt < WINDOW_MS) return this.#share;
    let [idle, total] = [0, 0];
    for (const { times } of cpus()) {
      idle += times.idle;
      for (const time of Object.values(times)) total += time;
    }
    const spent = total - this.#total;
    const isFirst = this.#lookedAt === Number.NEGATIVE_INFINITY;
    this.#share = isFirst || spent <= 0 ? 0 : Math.min(1, Math.max(0, (idle - this.#idle) / spent));
    [this.#lookedAt, this.#idle, this.#total] = [now, idle, total];
    return this.#share;
  }
}
