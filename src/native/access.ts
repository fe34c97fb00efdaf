/** What the requests of a session ask of its file system, as the addon tells it and as a preload repeats it. */

/** What a container may ask of a file system, in the order of native/access-log.h. */
export const ACCESS_KINDS = ['name', 'absent', 'listing', 'link', 'pages'] as const;
export type AccessKind = (typeof ACCESS_KINDS)[number];

export interface PathAccess {
  kind: AccessKind;
  /** Relative to the root, which is empty; its bytes as latin1, since a name need not be UTF-8. */
  path: string;
  /** Pages of 4 KiB; of other kinds than `pages` 0 and 1. */
  first: number;
  count: number;
}

/** Where accesses that were made to one image lead in another. */
export interface Located {
  /** Those that it has, or lacks if they are of what is absent: their positions, and of their pages how many are there. */
  steps: { step: number; count: number }[];
  /** The blocks that those pages lie in, each once, and the first one that asks for it. */
  blocks: { step: number; device: number; first: number; count: number }[];
}

/** The first time that the kernel asked for it. */
export interface Access extends PathAccess {
  /** Milliseconds since the session began. */
  time: number;
}
