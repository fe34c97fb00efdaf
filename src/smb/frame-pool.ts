/**
 * Memory for received frames, used again: a slab holds one long frame or several, and comes back when the reader has
 * filled it and everybody whose frame lies in it has given that back. Whoever does not give back keeps its memory for
 * good; the slab is then never used again, and collected as garbage with the last view of it.
 */

/** Slabs that wait for their next use: more than one connection's reads of 2 MiB come and go by. */
const MOST_FREE = 8;

export class Slab {
  readonly buffer: Buffer;
  /** Frames in it that somebody holds on to, ever; and how many of these were given back. */
  kept = 0;
  returned = 0;
  /** The reader writes into another one. */
  full = false;

  constructor(buffer: Buffer) {
    this.buffer = buffer;
  }

  /** Whether somebody holds views of it. */
  get isHeld(): boolean {
    return this.returned < this.kept;
  }
}

export class FramePool {
  readonly #free: Slab[] = [];
  readonly #lent = new WeakMap<Uint8Array, Slab>();
  readonly #onFree: (buffer: Buffer) => void;

  /** `onFree` is told of a buffer that nobody may have a view of any more, for tests. */
  constructor(onFree: (buffer: Buffer) => void = () => undefined) {
    this.#onFree = onFree;
  }

  /** A slab of `size` bytes, whose content is of no meaning. */
  take(size: number): Slab {
    const found = this.#free.pop();
    // Of another size only after a connection has agreed on another.
    if (found?.buffer.length === size) return new Slab(found.buffer);
    this.#free.length = 0;
    return new Slab(Buffer.allocUnsafeSlow(size));
  }

  /** The reader is done with a slab. */
  retire(slab: Slab): void {
    slab.full = true;
    this.#settle(slab);
  }

  /** `frame` lies in the slab, is counted there as kept, and may be given back. */
  lend(frame: Uint8Array, slab: Slab): void {
    this.#lent.set(frame, slab);
  }

  /** What `whole` would give back, `part` gives back from now on. */
  pass(whole: Uint8Array, part: Uint8Array): void {
    const slab = this.#lent.get(whole);
    if (slab === undefined) return;
    this.#lent.delete(whole);
    this.#lent.set(part, slab);
  }

  /** Nobody reads these bytes any more. Of bytes that were not lent, or were given back, nothing becomes. */
  giveBack(bytes: Uint8Array): void {
    const slab = this.#lent.get(bytes);
    if (slab === undefined) return;
    this.#lent.delete(bytes);
    slab.returned += 1;
    this.#settle(slab);
  }

  /** Lets go of memory that waits for its next use. */
  clear(): void {
    this.#free.length = 0;
  }

  #settle(slab: Slab): void {
    if (!slab.full || slab.isHeld) return;
    this.#onFree(slab.buffer);
    if (this.#free.length < MOST_FREE) this.#free.push(slab);
  }
}
