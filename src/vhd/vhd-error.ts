import { OrcaError } from '../errors.js';

/**
 * What a file that is not a sound VHD ends in.
 *
 * - `NOT_VHD`: there is no footer where one must be.
 * - `CORRUPT`: a checksum or a field is wrong.
 * - `TRUNCATED`: something that the file refers to lies beyond its end.
 * - `UNSUPPORTED`: a sound VHD of a kind that is not read here, such as a differencing disk.
 * - `TOO_LARGE`: more than a VHD can hold.
 */
export class VhdError extends OrcaError {
  declare readonly code: 'NOT_VHD' | 'CORRUPT' | 'TRUNCATED' | 'UNSUPPORTED' | 'TOO_LARGE';

  constructor(code: VhdError['code'], message: string, options?: { cause?: unknown }) {
    super(code, message, options);
  }
}
