import { OrcaError } from '../errors.js';

/** What a snapshot request got wrong; the codes are those of gRPC that containerd tells apart. */
export class SnapshotError extends OrcaError {
  declare readonly code: SnapshotErrorCode;

  constructor(code: SnapshotErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, message, options);
  }
}

export type SnapshotErrorCode =
  | 'NOT_FOUND'
  | 'ALREADY_EXISTS'
  | 'INVALID_ARGUMENT'
  | 'FAILED_PRECONDITION'
  | 'UNAVAILABLE';
