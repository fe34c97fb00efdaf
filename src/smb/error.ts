/**
 * What goes wrong with a share, as one family.
 *
 * Codes: NOT_FOUND, SHARE_NOT_FOUND, ACCESS_DENIED, BAD_CREDENTIALS, GUEST_REFUSED, UNREACHABLE, TIMEOUT,
 * CONNECTION_LOST, BUSY, STALE, NOT_A_DIRECTORY, IS_A_DIRECTORY, DFS, ENCRYPTION_UNAVAILABLE,
 * DIALECT_UNSUPPORTED, AUTHENTICATION_UNSUPPORTED, SIGNATURE, PROTOCOL, INVALID_URL, INVALID_PATH,
 * INVALID_CREDENTIALS_FILE, CLOSED; for any other refusal of the server the name of its NT status.
 * UNREACHABLE, TIMEOUT, CONNECTION_LOST and BUSY are retryable.
 */
import { OrcaError } from '../errors.js';

const RETRYABLE = new Set(['UNREACHABLE', 'TIMEOUT', 'CONNECTION_LOST', 'BUSY']);

export class SmbError extends OrcaError {
  /** Name of the NT status the server answered with, when it was the server that refused. */
  readonly status: string | undefined;

  constructor(code: string, message: string, options: { cause?: unknown; status?: string } = {}) {
    super(code, message, { cause: options.cause, retryable: RETRYABLE.has(code) });
    this.status = options.status;
  }
}

/** The server broke the protocol; `what` completes the sentence "the server sent …". */
export function protocolError(what: string): SmbError {
  return new SmbError('PROTOCOL', `the server sent ${what}`);
}
