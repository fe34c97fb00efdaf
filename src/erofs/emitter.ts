const PIECE_SIZE = 1 << 20;

/** Collects bytes in pieces and knows its position, so that every section can assert that it begins as planned. */
export class Emitter {
  readonly pieces: Uint8Array[] = [];
  position = 0;
  private piece = Buffer.alloc(0);
  private used = 0;

  append(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.length; ) {
      const room = this.room();
      const length = Math.min(room, bytes.length - done);
      this.piece.set(bytes.subarray(done, done + length), this.used);
      this.used += length;
      this.position += length;
      done += length;
    }
  }

  /** Appends zeros up to a position. */
  padTo(position: number): void {
    if (position < this.position) throw new Error(`planned ${position}, but already at ${this.position}`);
    while (this.position < position) {
      const length = Math.min(this.room(), position - this.position);
      this.used += length;
      this.position += length;
    }
  }

  private room(): number {
    if (this.used === this.piece.length) {
      this.piece = Buffer.alloc(PIECE_SIZE);
      this.pieces.push(this.piece);
      this.used = 0;
    }
    return this.piece.length - this.used;
  }

  finish(): readonly Uint8Array[] {
    const last = this.pieces.pop();
    return last === undefined ? [] : [...this.pieces, last.subarray(0, this.used)];
  }
}
