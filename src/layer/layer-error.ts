import { OrcaError } from '../errors.js';

/**
 * Failures of layer expansion. Codes: HOSTILE_PATH, INVALID_ENTRY (what no Linux file system can hold),
 * NOT_A_DIRECTORY, LINK_CYCLE, TOO_LARGE, DIGEST_MISMATCH, CORRUPT (compressed data, block digests),
 * UNSUPPORTED_COMPRESSION, WRITE_FAILED; INCOMPLETE (a table of contents that does not say enough).
 */
export class LayerError extends OrcaError {}
