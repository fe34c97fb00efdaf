/**
 * Credits of one connection (MS-SMB2 § 3.2.4.1.2 and 3.2.5.1.4): a request is sent only when the server has
 * granted as many credits as it charges. Who has to wait waits in order of arrival.
 */
import { onAbort } from '../abort.js';

/** Credits to hold in the end: 32 MiB of outstanding reads, which is also the most a Windows server gives. */
const TARGET = 512;
/** More than any server grants; a bound for a hostile one. */
const MAX_CREDITS = 8192;

interface Waiter {
  charge: number;
  resolve(): void;
  reject(error: unknown): void;
}

export class CreditWindow {
  #available = 1;
  #inFlight = 0;
  #waiters: Waiter[] = [];
  readonly #onStarved: () => void;

  /** `onStarved`: the first in line needs more credits than there are, and no answer is due that could bring them. */
  constructor(onStarved: () => void) {
    this.#onStarved = onStarved;
  }

  /** What may be outstanding at once. */
  get window(): number {
    return this.#available + this.#inFlight;
  }

  /** Takes `charge` credits, now or when they have come. Rejects with what `fail` or the signal gives. */
  async take(charge: number, signal?: AbortSignal): Promise<void> {
    if (this.#waiters.length === 0 && charge <= this.#available) {
      this.#available -= charge;
      this.#inFlight += charge;
      return;
    }
    let forget = () => {};
    try {
      await new Promise<void>((resolve, reject) => {
        const waiter = { charge, resolve, reject };
        forget = onAbort(signal, () => {
          this.#waiters = this.#waiters.filter((other) => other !== waiter);
          reject(signal!.reason);
          this.#wake();
        });
        this.#waiters.push(waiter);
        this.#wake();
      });
    } finally {
      forget();
    }
  }

  /** What to ask for with a request that charges `charge`. */
  toRequest(charge: number): number {
    return Math.max(charge, Math.min(TARGET, TARGET - this.window + charge));
  }

  /** An interim response brought `granted` credits; its request is still outstanding. */
  grant(granted: number): void {
    this.#available = Math.min(MAX_CREDITS, this.#available + granted);
    this.#wake();
  }

  /** The request that charged `charge` is answered. */
  settle(charge: number, granted: number): void {
    this.#inFlight -= charge;
    this.grant(granted);
  }

  fail(error: unknown): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter.reject(error);
  }

  #wake(): void {
    for (let first = this.#waiters[0]; first !== undefined; first = this.#waiters[0]) {
      if (first.charge > this.#available) {
        if (this.#inFlight === 0) this.#onStarved();
        return;
      }
      this.#waiters.shift();
      this.#available -= first.charge;
      this.#inFlight += first.charge;
      first.resolve();
    }
  }
}
