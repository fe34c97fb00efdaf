import { OrcaError } from '../errors.js';

/**
 * What goes wrong between an image and its running container.
 *
 * Codes: INVALID_OPTION, INVALID_IMAGE_CONFIG, NO_COMMAND, COMMAND_NOT_FOUND, NOT_EXECUTABLE, NO_SUCH_USER,
 * NO_SUCH_GROUP, HOSTILE_ROOTFS, NO_RUNC, NO_TERMINAL, NAME_IN_USE, OVERLAY, RUN_DIRECTORY, NOT_ROOT, RUNC_FAILED,
 * INTERRUPTED, CLEANUP.
 */
export class RuntimeError extends OrcaError {}
