/**
 * What the page at the daemon's HTTP port is told. Every user of the host can read it: names, paths, locations and
 * numbers, and nothing of the configuration of containers. Bytes and milliseconds throughout; `performance.now()`
 * never leaves the process.
 *
 *   GET /view/mounts.json       MountsView
 *   GET /view/mounts/ID.json    MountView
 */

export interface MountsView {
  version: string;
  /** Milliseconds since 1970, of the host's clock. */
  now: number;
  startedAt: number;
  cache: { used: number; limit: number };
  mounts: MountSummary[];
}

export interface MountSummary {
  id: string;
  image: string;
  mountpoint: string;
  /** Milliseconds since 1970: when this daemon began to serve it. */
  since: number;
  layers: number;
  bytesRead: number;
  hitRatio: number;
  readsWaiting: number;
  /** Verified bytes by kind of source, of the layers that it shares with other mounts, too. */
  fetched: Record<string, number>;
  problem?: string;
}

export interface MountView extends MountSummary {
  manifestDigest: string;
  now: number;
  /** Which source serves, and why. */
  served: string;
  passedOver: { kind: string; reason: string }[];
  sources: SourceView[];
  reads: { hits: number; misses: number };
  requests: Record<string, number>;
  errors: Record<string, number>;
  /** Upper bounds of the counts of waits; the last count is of what exceeds all. */
  latencyBounds: readonly number[];
  perLayer: LayerView[];
  files: FilesView;
  activity: ActivityView;
}

export interface SourceView {
  kind: string;
  location: string;
  bytes: number;
  healthy: boolean;
  /** What it last failed with. */
  problem?: string;
  /** How many waits for blocks that came from it lay below each bound. */
  waits: number[];
  waitMedian?: number;
  wait99?: number;
}

export interface LayerView {
  diffID: string;
  size: number;
  blockSize: number;
  blocks: number;
  blocksCached: number;
  blocksRead: number;
  /** The layer from its first byte to its last, in equal parts: tenths, rounded up, of the blocks of each. */
  read: number[];
  cached: number[];
}

export interface FilesView {
  /** Files of which something was read, as far as it was counted. */
  total: number;
  /** In the order of their first READs; the first ones. */
  first: { time: number; path: string; size: number }[];
  /** The times of the first READs of all, or of every n-th, ascending; and how many files lie between two. */
  times: number[];
  step: number;
}

/** Times count from `since`; blocks are numbered through all layers, one after the other. */
export interface ActivityView {
  /** Blocks in all. */
  blocks: number;
  /** Bytes of a block of each layer are in perLayer. Time, first block, count. */
  reads: [number, number, number][];
  /** Time, first block, count, kind of source, whether somebody waited. Negative times: fetched for another mount. */
  fetches: [number, number, number, string, boolean][];
  /** Whether older or later runs than these are not told. */
  truncated: boolean;
}
