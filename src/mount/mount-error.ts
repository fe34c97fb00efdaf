import { OrcaError } from '../errors.js';

/**
 * What keeps an image from being mounted or unmounted.
 *
 * Codes: NOT_FOUND and NOT_A_DIRECTORY (the mount point), BUSY, NO_FUSE, NOT_PERMITTED, NOT_MOUNTED, NO_ANSWER,
 * FAILED; and of images NOT_EXPANDED, EXPANDING, INVALID_IMAGE, TOO_LARGE;
 * of the environment INVALID_SETTING.
 */
export class MountError extends OrcaError {}
