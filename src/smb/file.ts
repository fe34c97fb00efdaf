/** A file on the share, open for reading; it outlives reconnects. */
import type { SmbClient } from './client.js';
import type { Opened } from './create.js';
import { SmbError } from './error.js';
import { MAX_PIECE } from './login.js';
import type { OpenedFile, Session } from './session.js';

/** Pieces of one `read` that are under way at once. */
const OUTSTANDING = 8;

export class SmbFile {
  /** Length in bytes. */
  readonly size: number;
  readonly #client: SmbClient;
  readonly #name: string;
  readonly #identity: Opened;
  #handle: { session: Session; fileId: Promise<Buffer> } | undefined;
  #first: OpenedFile['first'];
  #stale: SmbError | undefined;
  #closed = false;

  /** @internal `SmbClient.open` makes these. */
  constructor(client: SmbClient, name: string, session: Session, { opened, first }: OpenedFile) {
    this.#client = client;
    this.#name = name;
    this.#identity = opened;
    this.#handle = { session, fileId: Promise.resolve(opened.fileId) };
    this.#first = first;
    this.size = opened.size;
  }

  /**
   * Exactly `length` bytes from `offset`; a RangeError when they do not lie within `size`. The result may be a view
   * of a larger buffer, which is used again after `giveBack`. Throws STALE when the file is no longer what it was when
   * it was opened.
   */
  async read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array> {
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0) {
      throw new RangeError(`${this.#where}: read of ${length} bytes at ${offset}`);
    }
    if (offset + length > this.size) {
      throw new RangeError(`${this.#where}: read of ${length} bytes at ${offset}, the file has ${this.size}`);
    }
    if (length === 0) return new Uint8Array(0);
    if (length <= MAX_PIECE) {
      const piece = await this.#readSome(offset, length, signal);
      if (piece.length === length) return piece;
      const whole = Buffer.allocUnsafeSlow(length);
      piece.copy(whole);
      this.giveBack(piece);
      await this.#fill(whole, offset, piece.length, length, signal);
      return whole;
    }
    const whole = Buffer.allocUnsafeSlow(length);
    let next = 0;
    let failed = false;
    const worker = async () => {
      while (next < length && !failed) {
        const from = next;
        next = Math.min(length, from + MAX_PIECE);
        await this.#fill(whole, offset, from, next, signal);
      }
    };
    const count = Math.min(OUTSTANDING, Math.ceil(length / MAX_PIECE));
    try {
      await Promise.all(Array.from({ length: count }, worker));
    } finally {
      failed = true;
    }
    return whole;
  }

  /** Puts the bytes `[from, to)` of the read at `offset` into their places in `whole`. */
  async #fill(whole: Buffer, offset: number, from: number, to: number, signal?: AbortSignal): Promise<void> {
    for (let at = from; at < to; ) {
      const piece = await this.#readSome(offset + at, to - at, signal);
      piece.copy(whole, at);
      this.giveBack(piece);
      at += piece.length;
    }
  }

  /** At least one byte; fewer than `length` when credits or the server do not give more at once. */
  async #readSome(offset: number, length: number, signal?: AbortSignal): Promise<Buffer> {
    signal?.throwIfAborted();
    const first = this.#takeFirst(offset, length);
    if (first !== undefined) return first;
    const shrunk = () =>
      new SmbError('STALE', `${this.#where}: the file has become shorter since it was opened`);
    try {
      const piece = await this.#client.run(
        (session) => this.#readFrom(session, offset, length, signal),
        signal,
      );
      if (piece.length === 0) throw shrunk();
      return piece;
    } catch (error) {
      if (error instanceof SmbError && error.status === 'STATUS_END_OF_FILE') throw shrunk();
      throw error;
    }
  }

  /** What came with the open, once, for the read that begins there. */
  #takeFirst(offset: number, length: number): Buffer | undefined {
    if (this.#first?.offset !== offset || this.#first.bytes.length === 0) return undefined;
    const { bytes } = this.#first;
    this.#first = undefined;
    const wanted = bytes.subarray(0, length);
    this.#client.frames.pass(bytes, wanted);
    return wanted;
  }

  async #readFrom(session: Session, offset: number, length: number, signal?: AbortSignal): Promise<Buffer> {
    const read = async () => {
      const fileId = await this.#fileId(session);
      return session.read(fileId, offset, Math.min(length, session.pieceSize), this.#name, signal);
    };
    const before = this.#handle;
    try {
      return await read();
    } catch (error) {
      // An administrator of the server can close a handle without ending the session.
      if (!(error instanceof SmbError) || error.status !== 'STATUS_FILE_CLOSED') throw error;
      if (this.#handle === before) this.#handle = undefined;
      return read();
    }
  }

  /** The open of this file in `session`, opened anew when the session is. */
  #fileId(session: Session): Promise<Buffer> {
    if (this.#closed) throw new SmbError('CLOSED', `${this.#where}: the file is closed`);
    if (this.#stale !== undefined) throw this.#stale;
    if (this.#handle?.session === session) return this.#handle.fileId;
    const handle = { session, fileId: this.#reopen(session) };
    handle.fileId.catch(() => {
      if (this.#handle === handle) this.#handle = undefined;
    });
    this.#handle = handle;
    return handle.fileId;
  }

  async #reopen(session: Session): Promise<Buffer> {
    const opened = await session.create(this.#name, 'file');
    const before = this.#identity;
    const same =
      opened.size === before.size &&
      opened.lastWriteTime === before.lastWriteTime &&
      (opened.onDiskId === undefined ||
        before.onDiskId === undefined ||
        opened.onDiskId.equals(before.onDiskId));
    if (same) return opened.fileId;
    session.close(opened.fileId).catch(() => {});
    this.#stale = new SmbError(
      'STALE',
      `${this.#where}: the file was changed or replaced on the share; open it again`,
    );
    throw this.#stale;
  }

  /** Of what `read` gave: nobody reads it any more. It need not be called. */
  giveBack(bytes: Uint8Array): void {
    this.#client.frames.giveBack(bytes);
  }

  get #where(): string {
    return this.#client.locationOf(this.#name);
  }

  /** Reads that come after this throw CLOSED. Never fails. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#first !== undefined) this.giveBack(this.#first.bytes);
    this.#first = undefined;
    const handle = this.#handle;
    this.#handle = undefined;
    if (handle?.session.alive)
      await handle.fileId.then((fileId) => handle.session.close(fileId)).catch(() => {});
  }
}
