import { OrcaError } from '../errors.js';

/**
 * What a tree that EROFS cannot hold, or an image that is not a sound EROFS, ends in.
 *
 * - `INVALID_TREE`: the writer's input contradicts itself (a cycle, overlapping extents, a name with a slash).
 * - `TOO_LARGE`: a limit of the format, or one of ours that the message names, is exceeded.
 * - `UNSUPPORTED`: a sound image that uses something this reader does not know, such as compression.
 * - `INLINE_DATA`: file data lies among the metadata, and the caller asked for extents only.
 * - `TRUNCATED`: the image, or something in it, reaches beyond its end.
 * - `CORRUPT`: anything else that no writer produces.
 */
export class ErofsError extends OrcaError {
  declare readonly code:
    | 'INVALID_TREE'
    | 'TOO_LARGE'
    | 'UNSUPPORTED'
    | 'INLINE_DATA'
    | 'TRUNCATED'
    | 'CORRUPT';

  constructor(code: ErofsError['code'], message: string, options?: { cause?: unknown }) {
    super(code, message, options);
  }
}
