import { OrcaError } from '../errors.js';

/**
 * What is wrong with a reference, a digest, a manifest, a layout or an archive.
 *
 * Codes: INVALID_REFERENCE, INVALID_DIGEST, INVALID_MANIFEST, INVALID_INDEX, INVALID_CONFIG, INVALID_LAYOUT,
 * INVALID_ARCHIVE, DIGEST_MISMATCH, SIZE_MISMATCH, TOO_LARGE, NOT_FOUND, AMBIGUOUS, UNSUPPORTED, IO.
 */
export class OciError extends OrcaError {}
