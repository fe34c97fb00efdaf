import { OrcaError } from '../errors.js';

/**
 * What is wrong with an image in a store, with the merge of its layers, or with the store itself. A layer that
 * cannot be expanded keeps the code of its cause (LayerError, OciError).
 *
 * Codes of its own: NOT_FOUND, NOT_EXPANDED, INVALID_STORE, INVALID_ARTIFACT, INVALID_LAYER, INVALID_INPUT,
 * BAD_HARD_LINK, TOO_LARGE, NO_SPACE, READ_ONLY, ABORTED, IO.
 */
export class ImageError extends OrcaError {}

const REMEDIES: Record<string, [code: string, remedy: string]> = {
  ENOSPC: ['NO_SPACE', 'the disk is full; free some space and run it again'],
  EDQUOT: ['NO_SPACE', 'the disk quota is used up; free some space and run it again'],
  EROFS: ['READ_ONLY', 'the file system is read-only; choose a store that can be written'],
  EACCES: ['READ_ONLY', 'permission denied; run it as the owner of the store'],
  EPERM: ['READ_ONLY', 'permission denied; run it as the owner of the store'],
};

/**
 * The one line that a user gets for what went wrong with `what` (a layer, an image, a store): says what a full or
 * read-only disk needs, and keeps the text of an OrcaError.
 */
export function imageError(cause: unknown, what: string): ImageError {
  if (cause instanceof ImageError && cause.message.startsWith(what)) return cause;
  const [code, remedy] = REMEDIES[errnoOf(cause)] ?? [];
  if (code !== undefined) return new ImageError(code, `${what}: ${remedy}`, { cause });
  if (isAbort(cause)) return new ImageError('ABORTED', `${what}: stopped before it was complete`, { cause });
  if (cause instanceof OrcaError) {
    const { retryable } = cause;
    return new ImageError(cause.code, `${what}: ${cause.message}`, { cause, retryable });
  }
  return new ImageError('IO', `${what}: ${cause instanceof Error ? cause.message : String(cause)}`, {
    cause,
  });
}

/** The name of the system error at the bottom of a chain of causes, or an empty string. */
function errnoOf(error: unknown): string {
  for (let at = error, depth = 0; at instanceof Error && depth < 8; at = at.cause, depth++) {
    const code = 'syscall' in at && 'code' in at ? at.code : undefined;
    if (typeof code === 'string') return code;
  }
  return '';
}

/** An AbortError may be a DOMException of another realm, which is no instance of this realm's Error. */
function isAbort(error: unknown): boolean {
  return typeof error === 'object' && error !== null && 'name' in error && error.name === 'AbortError';
}
