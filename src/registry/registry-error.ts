import { OrcaError } from '../errors.js';

/**
 * What keeps a registry from starting or from working. What is wrong with a request is an ApiError.
 *
 * Codes: INVALID_DATA, IN_USE, INVALID_USERS, INVALID_OPTION, LISTEN, IO.
 */
export class RegistryError extends OrcaError {}
