/**
 * Where the bytes of a store come from: the interface that smb, https, file and blob implement.
 *
 * A source answers with exactly the bytes asked for or throws a SourceError; it never returns short data, and it
 * verifies nothing (the cache verifies every block against the block digests) unless the handle says otherwise.
 */
import type { ByteRange } from '../byte-range.js';
import { OrcaError } from '../errors.js';

export type SourceKind = 'file' | 'smb' | 'https' | 'blob';

/**
 * Codes: NOT_FOUND, ACCESS_DENIED, BAD_CREDENTIALS, UNREACHABLE, TIMEOUT, CONNECTION_LOST, SHORT_READ,
 * PROTOCOL, TOO_LARGE, INVALID_URL, CORRUPT, CLOSED; CACHE_UNWRITABLE for what is kept of a source in the cache; and
 * those of SmbError. UNREACHABLE, TIMEOUT, CONNECTION_LOST, BUSY and STALE are retryable.
 */
export class SourceError extends OrcaError {}

/** A range of a layer VHD; `offset` is a multiple of the length of a whole piece. */
export interface VhdPiece {
  offset: number;
  bytes: Uint8Array;
}

/** One layer VHD, open for reading. */
export interface LayerHandle {
  /** Length of the layer VHD in bytes, footer included. */
  readonly size: number;
  /**
   * Digest of the chunk map (layer/chunk-map.ts) that everything it gives has been verified by. Without it, nothing is
   * verified here: the cache does so by the block digests.
   */
  readonly verifiedBy?: string;
  /** `length` bytes at `offset`, both within `size`. Many reads may be outstanding at once. */
  read(offset: number, length: number, signal?: AbortSignal): Promise<Uint8Array>;
  /**
   * Only of a layer that comes as a stream: all of it in pieces of `pieceSize` bytes in ascending order, the last one
   * may be shorter; empty ones between are signs of life. `read` would go through such a stream for itself.
   */
  stream?(pieceSize: number, signal: AbortSignal): AsyncGenerator<VhdPiece, void, void>;
  /** What `read` gave is not read any more, and its memory may be used again. It need not be called. */
  giveBack?(bytes: Uint8Array): void;
  close(): Promise<void>;
}

export interface Source {
  readonly kind: SourceKind;
  /** For messages: a path or a URL without user and password. */
  readonly location: string;
  /** A whole small file of the store, by its path in the store; TOO_LARGE beyond `maxBytes`. */
  readFile(path: string, maxBytes: number, signal?: AbortSignal): Promise<Uint8Array>;
  /**
   * Opens a layer VHD by diffID (`sha256:…`). A handle survives reconnects of its source. `first` is what will be read
   * first, for a source that opens and reads in one round trip.
   */
  openLayer(diffID: string, signal?: AbortSignal, first?: ByteRange): Promise<LayerHandle>;
  /** Connects and logs in before the first read, where that takes several round trips. Throws as a read does. */
  connect?(): Promise<void>;
  /** Whether it can be reached; by default a layer is opened and its head read. Throws as a read does. */
  probe?(diffID: string, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}
