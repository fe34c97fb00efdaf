import { OrcaError } from '../errors.js';

/**
 * What goes wrong between a command and the host daemon, or in the daemon itself.
 *
 * Codes: NOT_RUNNING, NO_START (the daemon cannot be started), ALREADY_RUNNING, NO_ANSWER, INVALID_REQUEST,
 * NOT_FOUND, NOT_PERMITTED, BUSY, STATE (the state file cannot be used), ENDING; and, in the client, those of whatever failed in the
 * daemon.
 */
export class DaemonError extends OrcaError {}

/** `cause` is what the kernel said, if that is at hand. */
export function notPermitted(socket: string, cause?: Error): DaemonError {
  return new DaemonError('NOT_PERMITTED', `${socket} is another user's: only its owner may use it`, {
    cause,
  });
}
