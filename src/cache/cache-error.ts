import { OrcaError } from '../errors.js';

/** What is wrong with the cache directory. Codes: UNUSABLE, INVALID_LIMIT, INVALID_PROFILE. */
export class CacheError extends OrcaError {}
