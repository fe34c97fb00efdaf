/** Whose turn it is among the layers that stream at once: those that somebody waits for go before the others. */

/** Layers that stream at once; each takes a connection, a decompressor and some MiB of memory. */
const MAX_OPEN = 4;

export interface Streaming {
  /** Somebody waits for what it is to bring. */
  readonly isAwaited: boolean;
  /** It brings what is not in the cache yet, and no better source has. */
  readonly isUseful: boolean;
  /** It is to end. */
  readonly isOver: boolean;
}

export class StreamGate {
  readonly #open = new Set<Streaming>();
  /** That wait to begin, in the order of arrival. */
  readonly #waiting = new Set<Streaming>();
  readonly #wakers = new Set<() => void>();

  /** To be called whenever what a stream says of itself has changed. */
  change(): void {
    for (const wake of this.#wakers) wake();
    this.#wakers.clear();
  }

  /** Resolves when it may begin; false when it is over before. To be followed by `leave`. */
  async enter(stream: Streaming): Promise<boolean> {
    this.#waiting.add(stream);
    // Others may have to make room, or to stand back.
    this.change();
    while (!stream.isOver && (this.#open.size >= MAX_OPEN || this.#first() !== stream)) await this.#changed();
    this.#waiting.delete(stream);
    this.#open.add(stream);
    this.change();
    return !stream.isOver;
  }

  /** Resolves when it may go on; false when it is over, or its place is needed. */
  async turn(stream: Streaming): Promise<boolean> {
    for (;;) {
      if (stream.isOver) return false;
      if (stream.isAwaited) return true;
      if ([...this.#waiting].some(({ isAwaited }) => isAwaited) && this.#open.size >= MAX_OPEN) return false;
      if (stream.isUseful && ![...this.#open].some(({ isAwaited }) => isAwaited)) return true;
      await this.#changed();
    }
  }

  leave(stream: Streaming): void {
    this.#open.delete(stream);
    this.change();
  }

  #first(): Streaming | undefined {
    const waiting = [...this.#waiting];
    return waiting.find(({ isAwaited }) => isAwaited) ?? waiting[0];
  }

  #changed(): Promise<void> {
    return new Promise((resolve) => this.#wakers.add(resolve));
  }
}
