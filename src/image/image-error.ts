import { OrcaError } from '../errors.js';

/**
 * What is wrong with an image in a store, with the merge of its layers, or with the store itself.
 *
 * Codes: NOT_FOUND, NOT_EXPANDED, INVALID_STORE, INVALID_ARTIFACT, INVALID_LAYER, INVALID_INPUT, BAD_HARD_LINK,
 * TOO_LARGE, NO_SPACE, ABORTED, IO.
 */
export class ImageError extends OrcaError {}
