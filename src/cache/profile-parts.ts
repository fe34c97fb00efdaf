/** What a startup profile consists of, and its bounds. */
import type { AccessKind } from '../native/access.js';
import type { Extent } from './profile-extents.js';

/** Blocks of a layer VHD. */
export interface ProfileEntry extends Extent {
  /** Index into `layers`. */
  layer: number;
}

/** A name, a listing or a link's target that was asked for, or pages of 4 KiB of a file. */
export interface ProfileStep extends Extent {
  kind: AccessKind;
  /** Relative to the root, which is empty; its bytes as latin1, since a name need not be UTF-8. */
  path: string;
}

export interface ProfileParts {
  /** diffIDs. */
  layers: readonly string[];
  /** How many were merged. */
  runs: number;
  /** Without overlap, in the order of their times. */
  entries: readonly ProfileEntry[];
  steps: readonly ProfileStep[];
}

/** What is read later than this after the first READ is work, not start. */
export const STARTUP_MS = 30_000;
/** After so many runs a profile is as good as it gets. */
export const MAX_RUNS = 16;
/** As many as an image may have devices, and 8 GiB of blocks of 128 KiB or pages: more is no startup. */
export const MAX_LAYERS = 4096;
export const MAX_BLOCKS = 1 << 16;
export const MAX_STEPS = 1 << 16;
export const MAX_PAGES = 1 << 21;
/** Of every number. */
export const MAX_VALUE = 0xffffffff;
/** The largest header and entries take 1.8 MB; of steps a hundred bytes each, which is twice what long paths take. */
export const MAX_PROFILE_BYTES = 24 + 32 * MAX_LAYERS + MAX_BLOCKS * 25 + MAX_STEPS * 100;
/** PATH_MAX, less its NUL; and of all paths together, since they are stored by what they do not have in common. */
const MAX_PATH = 4095;
export const MAX_PATH_BYTES = 8 << 20;

/** Whether it can be the path of something below the root, or the root. */
export function isImagePath(path: string): boolean {
  if (path === '') return true;
  if (path.length > MAX_PATH || path.includes('\0')) return false;
  return path.split('/').every((part) => part !== '' && part !== '.' && part !== '..' && part.length <= 255);
}
