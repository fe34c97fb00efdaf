/**
 * Readers that go through a layer from front to back, found by their misses, and how far to read ahead of each.
 *
 * Files lie in a layer one after the other, and whoever reads small ones in sequence goes on from one to the next: only
 * misses that follow one another for `openAfter` blocks open a window, which ends with a file that is not small. It doubles whenever the reader comes to its middle, up to `mostBlocks`. Hits are
 * not seen either; the block in the middle is watched, and the block file tells when it is read.
 */

/** Streams that one layer keeps account of; the one that was quiet longest goes first. */
const MAX_STREAMS = 8;
/** Misses that must follow one another: two could be the head and the tail of anything. */
const OPEN_AFTER_MISSES = 3;

export interface ReadAheadOptions {
  /** Blocks that must be missed in sequence before anything is read ahead; the first window is as large. */
  openAfter: number;
  /** The largest window; 0 turns reading ahead off. */
  mostBlocks: number;
}

/** Blocks to fetch, and the one to watch. */
export interface ReadAhead {
  first: number;
  count: number;
  watch: number;
}

interface Stream {
  /** The block after the last one known to be read. */
  next: number;
  misses: number;
  blocks: number;
  /** 0 until it opens. */
  window: number;
  /** The block after the last one that was asked for ahead. */
  ahead: number;
  watch: number;
  /** The block after the last one that may be asked for. */
  end: number;
}

export class SequentialStreams {
  readonly #end: number;
  readonly #options: ReadAheadOptions;
  /** The most recent last. */
  #streams: Stream[] = [];

  /** `blocks` of the layer. */
  constructor(blocks: number, options: ReadAheadOptions) {
    this.#end = blocks;
    this.#options = options;
  }

  /** `fileEnd`: the block after the last one of a file that is not small. */
  missed(first: number, count: number, fileEnd = this.#end): ReadAhead | undefined {
    const { openAfter, mostBlocks } = this.#options;
    if (mostBlocks === 0) return undefined;
    const end = first + count;
    // Several threads serve one reader: the miss of what comes later may be told first.
    const stream = this.#streams.find(
      (s) => first <= Math.max(s.next, s.ahead) && first >= s.next - openAfter,
    );
    if (stream === undefined) {
      this.#keep({ next: end, misses: 1, blocks: count, window: 0, ahead: 0, watch: -1, end: fileEnd });
      return undefined;
    }
    this.#keep(stream);
    if (end <= stream.next) return undefined;
    stream.end = fileEnd;
    stream.misses += 1;
    stream.blocks += end - Math.max(first, stream.next);
    stream.next = end;
    if (stream.window === 0 && (stream.misses < OPEN_AFTER_MISSES || stream.blocks < openAfter))
      return undefined;
    return this.#extend(stream);
  }

  /** A watched block is read. */
  touched(block: number): ReadAhead | undefined {
    const stream = this.#streams.find(({ watch }) => watch === block);
    if (stream === undefined) return undefined;
    this.#keep(stream);
    stream.next = Math.max(stream.next, block + 1);
    return this.#extend(stream);
  }

  #keep(stream: Stream): void {
    this.#streams = [...this.#streams.filter((other) => other !== stream), stream].slice(-MAX_STREAMS);
  }

  #extend(stream: Stream): ReadAhead | undefined {
    const { openAfter, mostBlocks } = this.#options;
    stream.window = Math.min(mostBlocks, stream.window === 0 ? openAfter : stream.window * 2);
    const first = Math.max(stream.next, stream.ahead);
    const end = Math.min(this.#end, stream.end, stream.next + stream.window);
    if (end <= first) return undefined;
    stream.ahead = end;
    stream.watch = stream.next + Math.floor((end - stream.next) / 2);
    return { first, count: end - first, watch: stream.watch };
  }
}
