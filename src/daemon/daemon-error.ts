import { OrcaError } from '../errors.js';

/**
 * What goes wrong between a command and the host daemon, or in the daemon itself.
 *
 * Codes: NOT_RUNNING, NO_START (the daemon cannot be started), ALREADY_RUNNING, NO_ANSWER, INVALID_REQUEST,
 * NOT_FOUND, BUSY, STATE (the state file cannot be used), ENDING; and, in the client, those of whatever failed in the
 * daemon.
 */
export class DaemonError extends OrcaError {}
