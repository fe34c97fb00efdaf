/** A layer VHD as the host has it: the blocks in the cache, the digests they must match, and where the rest comes from. */
import { setMaxListeners } from 'node:events';
import type { BlockDigests } from '../layer/block-digests.js';
import type { BlockFile } from '../native/addon.js';
import type { Eviction } from './eviction.js';
import { FetchHistory } from './fetch-history.js';
import type { LayerSource } from './layer-source.js';
import { SequentialStreams } from './sequential-streams.js';
import type { Want } from './want.js';

/** Bytes that are evicted together: large enough that a layer of 5 GB has about a thousand groups. */
const GROUP_BYTES = 4 << 20;
/** Measured: docs/BENCHMARKS.md, "Reading ahead". */
const DEFAULT_READ_AHEAD = { openAfter: 2 << 20, most: 8 << 20 };

export function blocksPerGroup(blockSize: number): number {
  return Math.max(1, GROUP_BYTES / blockSize);
}

export class CachedLayer {
  readonly digests: BlockDigests;
  readonly blockFile: BlockFile;
  readonly dataPath: string;
  /** In the order in which they are asked; shared by all mounts that have the layer. */
  readonly sources: LayerSource[] = [];
  /** The blocks that somebody waits for, by number, and the work on them. The scheduler's. */
  readonly wants = new Map<number, Want>();
  readonly running = new Set<Promise<void>>();
  /** Blocks that have come and are being verified and stored; true of one that was asked for again meanwhile. */
  readonly putting = new Map<number, boolean>();
  readonly streams: SequentialStreams;
  readonly history = new FetchHistory();
  /**
   * Blocks that did not come within their deadline, when that was (`performance.now()`), and whether they had less time
   * than others. The scheduler's.
   */
  readonly overdue = new Map<number, { since: number; hurried: boolean }>();
  /** When each block group was last filled or missed, in milliseconds since 1970. */
  readonly lastUse: Float64Array;
  readonly #makeRoom: Eviction['makeRoom'];
  /** Made for the first read: most layers of a mount are never read. */
  #controller: AbortController | undefined;
  #closed = false;

  /** `lastUse`: of the whole layer, before this process opened it. `makeRoom` is that of Eviction. */
  constructor(
    digests: BlockDigests,
    blockFile: BlockFile,
    options: {
      dataPath: string;
      lastUse: number;
      makeRoom: Eviction['makeRoom'];
      /** Bytes; see SequentialStreams. */
      readAhead?: { openAfter: number; most: number };
    },
  ) {
    this.digests = digests;
    this.blockFile = blockFile;
    this.dataPath = options.dataPath;
    this.#makeRoom = options.makeRoom;
    const { openAfter, most } = options.readAhead ?? DEFAULT_READ_AHEAD;
    this.streams = new SequentialStreams(digests.count, {
      openAfter: Math.max(1, Math.floor(openAfter / digests.blockSize)),
      mostBlocks: Math.floor(most / digests.blockSize),
    });
    const groups = Math.ceil(digests.count / blocksPerGroup(digests.blockSize));
    this.lastUse = new Float64Array(groups).fill(options.lastUse);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Aborted when the layer is no longer read. */
  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      setMaxListeners(0, this.#controller.signal);
      if (this.#closed) this.#controller.abort();
    }
    return this.#controller.signal;
  }

  stop(): void {
    this.#closed = true;
    this.#controller?.abort();
  }

  /** Whether the cache file may hold a block although nobody could see it when it was missed. */
  mayHave(block: number): boolean {
    return this.blockFile.has(block) || (this.blockFile.suspect && this.blockFile.wasPresent(block));
  }

  /** True of a block that need not be fetched: it is in the cache file, or on its way there. */
  isExpected(block: number): boolean {
    return this.wants.has(block) || this.putting.has(block) || this.mayHave(block);
  }

  /** Room in the cache file for `count` blocks; what it resolves with is to be called when they have been written. */
  async makeRoom(firstBlock: number, count: number, bytes: number): Promise<() => void> {
    const size = blocksPerGroup(this.digests.blockSize);
    const last = Math.floor((firstBlock + count - 1) / size);
    for (let group = Math.floor(firstBlock / size); group <= last; group++) this.lastUse[group] = Date.now();
    return this.#makeRoom(bytes, () => {
      let missing = 0;
      for (let block = firstBlock; block < firstBlock + count; block++)
        if (!this.blockFile.has(block)) missing += this.digests.length(block);
      return missing;
    });
  }

  /** True of a group with a block that somebody waits for. */
  isWanted(group: number): boolean {
    const size = blocksPerGroup(this.digests.blockSize);
    for (let block = group * size; block < (group + 1) * size; block++) {
      if (this.wants.has(block) || this.putting.has(block)) return true;
    }
    return false;
  }
}
