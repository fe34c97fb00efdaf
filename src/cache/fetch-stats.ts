/** What a fetch scheduler has done so far. */
export interface FetchStats {
  /** Blocks that sessions asked for, each counted once until it is there. */
  blocksWanted: number;
  /** Blocks that were asked for before anybody waited for them. */
  blocksPrefetched: number;
  /** Blocks that came from a source and verified, and their bytes. */
  blocksFetched: number;
  bytesFetched: number;
  /** Blocks found in the cache file after all: after an unclean stop, or put there by another process. */
  blocksRecovered: number;
  /** Blocks that came wrong from a source; blocks whose readers got EIO; blocks that the disk did not take. */
  blocksCorrupt: number;
  blocksFailed: number;
  blocksUncached: number;
}

export function noFetches(): FetchStats {
  return {
    blocksWanted: 0,
    blocksPrefetched: 0,
    blocksFetched: 0,
    bytesFetched: 0,
    blocksRecovered: 0,
    blocksCorrupt: 0,
    blocksFailed: 0,
    blocksUncached: 0,
  };
}
