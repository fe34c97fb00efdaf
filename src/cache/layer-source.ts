/** One layer as one source has it: opened at the first read, and again after a read that failed. */
import type { ByteRange } from '../byte-range.js';
import type { BlockDigests } from '../layer/block-digests.js';
import { type LayerHandle, SourceError, type VhdPiece } from '../source/source.js';
import { Histogram } from '../telemetry/histogram.js';
import type { SourceFailure, SourceState } from './source-state.js';

interface OpenLayer {
  handle: Promise<LayerHandle>;
  reads: number;
  discarded: boolean;
}

/**
 * What a damaged wire makes of a good answer: worth another try, as a broken connection is, until it has happened so
 * often in a row that the server must be meant.
 */
const DAMAGE = new Set(['PROTOCOL', 'SIGNATURE', 'CORRUPT']);
const DAMAGE_IN_ROW = 3;

export class LayerSource {
  readonly state: SourceState;
  /** Bytes of this layer that came from this source and verified. */
  bytes = 0;
  /** How long readers waited for blocks that came from it. */
  readonly waits = new Histogram();
  /** Until then (`performance.now()`) other sources of the layer come first: this one lacks it or has it wrong. */
  avoidUntil = 0;
  /** Why the source was last of no use for this layer. */
  lastProblem: SourceFailure | undefined;
  readonly #digests: BlockDigests;
  #open: OpenLayer | undefined;
  #streamed: LayerHandle | undefined;
  #damaged = 0;
  readonly #lenders = new WeakMap<Uint8Array, LayerHandle>();

  constructor(state: SourceState, digests: BlockDigests) {
    this.state = state;
    this.#digests = digests;
    state.use(digests.diffID);
  }

  /** The layer comes as a stream only, as the first read has found. */
  get isStream(): boolean {
    return this.#streamed !== undefined;
  }

  /** undefined of a layer that is a stream. */
  async read(offset: number, length: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
    this.#open ??= { handle: this.#openHandle({ offset, length }, signal), reads: 0, discarded: false };
    const open = this.#open;
    open.reads += 1;
    try {
      const handle = await open.handle;
      if (handle.stream !== undefined) {
        this.#streamed = handle;
        return undefined;
      }
      const bytes = await handle.read(offset, length, signal);
      if (bytes.length !== length) {
        throw new SourceError(
          'SHORT_READ',
          `${this.state.source.location} gave ${bytes.length} of ${length} bytes`,
        );
      }
      this.#damaged = 0;
      if (handle.giveBack !== undefined) this.#lenders.set(bytes, handle);
      return bytes;
    } catch (error) {
      this.#discard(open);
      throw this.#judged(error);
    } finally {
      open.reads -= 1;
      closeWhenIdle(open);
    }
  }

  /** Of a layer that is a stream: see LayerHandle. */
  async *stream(pieceSize: number, signal: AbortSignal): AsyncGenerator<VhdPiece, void, void> {
    try {
      for await (const piece of this.#streamed?.stream?.(pieceSize, signal) ?? []) {
        yield piece;
        this.#damaged = 0;
      }
    } catch (error) {
      throw this.#judged(error);
    }
  }

  /** What `read` gave is not read any more. */
  giveBack(bytes: Uint8Array): void {
    this.#lenders.get(bytes)?.giveBack?.(bytes);
  }

  close(): void {
    this.state.leave(this.#digests.diffID);
    if (this.#open !== undefined) this.#discard(this.#open);
  }

  #judged(error: unknown): unknown {
    if (!(error instanceof SourceError) || !DAMAGE.has(error.code)) return error;
    this.#damaged += 1;
    if (this.#damaged > DAMAGE_IN_ROW) return error;
    return new SourceError(error.code, error.message, { cause: error, retryable: true });
  }

  async #openHandle(first: ByteRange, signal: AbortSignal): Promise<LayerHandle> {
    const { diffID, size, chunkMap } = this.#digests;
    const { source } = this.state;
    const handle = await source.openLayer(diffID, signal, first);
    // Without digests of blocks, nobody would notice what is wrong.
    const isVerified = chunkMap === undefined || handle.verifiedBy === chunkMap;
    if (handle.size === size && isVerified) return handle;
    await handle.close();
    const what = isVerified ? `${handle.size} bytes, not ${size}` : 'not the chunks of the image';
    throw new SourceError('CORRUPT', `layer ${diffID} has ${what} at ${source.location}`);
  }

  #discard(open: OpenLayer): void {
    open.discarded = true;
    if (this.#open === open) this.#open = undefined;
    closeWhenIdle(open);
  }
}

function closeWhenIdle(open: OpenLayer): void {
  if (!open.discarded || open.reads > 0) return;
  open.handle.then((handle) => handle.close()).catch(() => undefined);
}
