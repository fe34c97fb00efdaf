/**
 * The streaming parser: chunks of a tar in, events out. How the bytes are cut into chunks makes no difference.
 *
 * Memory is bounded by the limits of tar.ts, whatever the input; every failure is a TarError. An unknown type of
 * entry is skipped with a warning, as POSIX allows; the data of links, directories and devices is taken to be
 * absent whatever their size field says, as Go's archive/tar does, which container engines use.
 */
import type { ByteString } from '../erofs/tree.js';
import {
  decodeDevice,
  decodeGnuSparse,
  decodeHeader,
  isZeroBlock,
  latin1,
  type TarHeader,
} from './header.js';
import { type PaxHeader, parsePax, paxInteger, paxText, paxTime, paxXattrs } from './pax.js';
import {
  addGnuSegments,
  checkSegments,
  EXTENSION_MAP_SIZE,
  parseSparseMap,
  SparseMapReader,
} from './sparse.js';
import {
  MAX_LONG_NAME_SIZE,
  MAX_PAX_SIZE,
  quoteName,
  type SparseSegment,
  TAR_BLOCK_SIZE,
  type TarEntry,
  type TarEntryType,
  TarError,
  type TarEvent,
} from './tar.js';

/** What the parser's coroutine yields when it has used up its input. */
const NEED_INPUT = undefined;
type Step<T> = Generator<TarEvent | typeof NEED_INPUT, T, void>;

const ENTRY_TYPES: Readonly<Record<ByteString, TarEntryType>> = {
  '\0': 'file',
  0: 'file',
  1: 'hardlink',
  2: 'symlink',
  3: 'chardev',
  4: 'blockdev',
  5: 'directory',
  6: 'fifo',
  7: 'file',
  D: 'directory',
  S: 'file',
};

/** Keys that mean nothing in a global header, since they belong to one entry. */
const LOCAL_KEYS = /^(path|linkpath|size|GNU\.sparse\..*)$/;

const NO_PAX: PaxHeader = { values: new Map(), segments: [] };

/** What the headers before an entry's own say of it. */
interface Extensions {
  pax?: PaxHeader;
  longName?: ByteString;
  longLink?: ByteString;
}

/** The stored form of a file: which pieces of it there are, and how many bytes remain to be read for them. */
interface Contents {
  segments?: SparseSegment[];
  size: number;
  stored: number;
}

export class TarParser {
  #chunk: Uint8Array = new Uint8Array(0);
  #position = 0;
  /** Offset in the archive of the first byte of #chunk. */
  #chunkOffset = 0;
  #discarding = 0;
  #skipRequested = false;
  /** True when the archive may end here: between entries, before or after the first zero block. */
  #mayEnd = true;
  #ended = false;
  #failure: unknown;
  readonly #globals = new Map<ByteString, Uint8Array>();
  #globalsSize = 0;
  readonly #steps = this.#parse();

  /** Takes all events that `chunk` completes; must be iterated to its end before the next push. */
  *push(chunk: Uint8Array): Generator<TarEvent, void, void> {
    if (this.#failure !== undefined) throw this.#failure;
    this.#chunkOffset += this.#chunk.length;
    this.#chunk = chunk;
    this.#position = 0;
    while (!this.#ended) {
      const event = this.#step();
      if (event === NEED_INPUT) return;
      yield event;
    }
  }

  #step(): TarEvent | typeof NEED_INPUT {
    try {
      const step = this.#steps.next();
      if (step.done === true) this.#ended = true;
      return step.done === true ? NEED_INPUT : step.value;
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  }

  /** The input is complete. Throws TRUNCATED when the archive is not; a warning when only its end mark misses. */
  *finish(): Generator<TarEvent, void, void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#ended) return;
    if (!this.#mayEnd) {
      throw new TarError('TRUNCATED', `tar: cut short after ${this.#offset} bytes`);
    }
    yield { kind: 'warning', message: 'tar: the two zero blocks that end an archive are missing' };
  }

  /** Asked for at an `entry` event: its data is of no interest, no `data` events follow. */
  skipData(): void {
    this.#skipRequested = true;
  }

  /**
   * How many of the next bytes the parser would only throw away, once push() is at its end. A reader that can
   * seek may leave them out and say so with discarded().
   */
  get discardable(): number {
    return this.#discarding;
  }

  discarded(length: number): void {
    if (length > this.#discarding) throw new RangeError('more bytes than the parser would discard');
    this.#discarding -= length;
    this.#chunkOffset += length;
  }

  get #offset(): number {
    return this.#chunkOffset + this.#position;
  }

  /** The next `length` bytes, at most what is a named limit; a view of the chunk when they lie in one. */
  *#take(length: number): Step<Uint8Array> {
    let available = this.#chunk.length - this.#position;
    if (available >= length) return this.#consume(length);
    const bytes = new Uint8Array(length);
    let filled = 0;
    for (;;) {
      const piece = this.#consume(Math.min(available, length - filled));
      bytes.set(piece, filled);
      filled += piece.length;
      if (filled === length) return bytes;
      if (filled > 0) this.#mayEnd = false;
      yield NEED_INPUT;
      available = this.#chunk.length - this.#position;
    }
  }

  #consume(length: number): Uint8Array {
    const bytes = this.#chunk.subarray(this.#position, this.#position + length);
    this.#position += length;
    return bytes;
  }

  *#discard(length: number): Step<void> {
    this.#discarding = length;
    for (;;) {
      this.#discarding -= this.#consume(
        Math.min(this.#chunk.length - this.#position, this.#discarding),
      ).length;
      if (this.#discarding === 0) return;
      yield NEED_INPUT;
    }
  }

  *#parse(): Step<void> {
    let extensions: Extensions | undefined;
    for (;;) {
      this.#mayEnd = extensions === undefined;
      const block = yield* this.#take(TAR_BLOCK_SIZE);
      const blockOffset = this.#offset - TAR_BLOCK_SIZE;
      try {
        if (isZeroBlock(block)) {
          if (extensions !== undefined) throw invalid('extended header without an entry');
          this.#mayEnd = true;
          if (isZeroBlock(yield* this.#take(TAR_BLOCK_SIZE))) return;
          throw invalid('a single zero block is followed by something else');
        }
        this.#mayEnd = false;
        const header = decodeHeader(block);
        if (isExtension(header.type)) extensions = yield* this.#extension(header, extensions ?? {});
        else {
          yield* this.#entry(header, block, extensions ?? {});
          extensions = undefined;
        }
      } catch (error) {
        throw located(error, blockOffset);
      }
    }
  }

  *#extension(header: TarHeader, before: Extensions): Step<Extensions | undefined> {
    const isName = header.type === 'L' || header.type === 'K';
    const limit = isName ? MAX_LONG_NAME_SIZE : MAX_PAX_SIZE;
    if (header.size < 0) throw invalid('negative size');
    if (header.size > limit) {
      throw new TarError(
        'TOO_LARGE',
        `tar: an extended header of ${header.size} bytes; at most ${limit} can be read`,
      );
    }
    const data = yield* this.#take(header.size);
    const after = { ...before };
    if (header.type === 'L') after.longName = untilNul(data);
    else if (header.type === 'K') after.longLink = untilNul(data);
    else if (header.type === 'g') {
      for (const [key, value] of parsePax(data).values) yield* this.#setGlobal(key, value);
    } else after.pax = parsePax(data);
    yield* this.#discard(padding(header.size));
    return Object.keys(after).length === 0 ? undefined : after;
  }

  *#setGlobal(key: ByteString, value: Uint8Array): Step<void> {
    if (LOCAL_KEYS.test(key)) {
      yield { kind: 'warning', message: `tar: ${key} in a global extended header is ignored` };
      return;
    }
    const previous = this.#globals.get(key);
    if (previous !== undefined) this.#globalsSize -= key.length + previous.length;
    this.#globalsSize += key.length + value.length;
    if (this.#globalsSize > MAX_PAX_SIZE) {
      throw new TarError('TOO_LARGE', `tar: global extended headers of more than ${MAX_PAX_SIZE} bytes`);
    }
    this.#globals.set(key, value);
  }

  /** Local records over global ones; an empty value takes a record away (POSIX), except that of an xattr. */
  #effectiveValues(pax: PaxHeader): ReadonlyMap<ByteString, Uint8Array> {
    if (this.#globals.size === 0 && pax === NO_PAX) return pax.values;
    const values = new Map([...this.#globals, ...pax.values]);
    for (const [key, value] of values) {
      if (value.length === 0 && !key.includes('.xattr.')) values.delete(key);
    }
    return values;
  }

  *#entry(header: TarHeader, block: Uint8Array, extensions: Extensions): Step<void> {
    const pax = extensions.pax ?? NO_PAX;
    const values = this.#effectiveValues(pax);
    const name =
      paxName(values, 'GNU.sparse.name') ?? extensions.longName ?? paxName(values, 'path') ?? header.name;
    try {
      const size = paxNumber(values, 'size') ?? header.size;
      const type = this.#typeOf(header, name);
      if (type === undefined) {
        yield {
          kind: 'warning',
          message: `tar: ${quoteName(name)} of type ${quoteName(header.type)} is skipped`,
        };
        if (size < 0) throw invalid('negative size');
        yield* this.#discard(padded(size));
        return;
      }
      if (name === '') throw invalid('entry without a name');
      const linkname = extensions.longLink ?? paxName(values, 'linkpath') ?? header.linkname;
      const device = type === 'chardev' || type === 'blockdev' ? decodeDevice(block) : { major: 0, minor: 0 };
      const gnu = header.type === 'S' ? decodeGnuSparse(block) : undefined;
      const { segments, ...contents } =
        type === 'file'
          ? yield* this.#contents(size, pax, values, gnu)
          : { size: 0, stored: 0, segments: undefined };
      const entry: TarEntry = {
        type,
        name,
        linkname: type === 'hardlink' || type === 'symlink' ? linkname : '',
        mode: header.mode,
        uid: ownerId(paxNumber(values, 'uid') ?? header.uid, 'uid'),
        gid: ownerId(paxNumber(values, 'gid') ?? header.gid, 'gid'),
        size: contents.size,
        mtime: paxMtime(values) ?? BigInt(header.mtime) * 1_000_000_000n,
        ...device,
        xattrs: paxXattrs(values),
        dataOffset: this.#offset,
        storedSize: contents.stored,
      };
      if (segments !== undefined) entry.segments = segments;
      this.#skipRequested = false;
      yield { kind: 'entry', entry };
      yield* this.#data(contents.stored, segments);
      // A directory that stands for its old listing (GNU incremental) or has a slash after a file's name.
      if (type === 'directory' && header.type !== '5') yield* this.#discard(padded(size));
      yield { kind: 'end' };
    } catch (error) {
      throw named(error, name);
    }
  }

  /** Undefined for a type that is skipped. V7 has no type for directories, but a slash after the name. */
  #typeOf(header: TarHeader, name: ByteString): TarEntryType | undefined {
    if (header.type === 'M') {
      throw new TarError('UNSUPPORTED', 'tar: continues a file of another volume; join the volumes first');
    }
    if (header.type === 'S' && !header.isGnu) {
      throw new TarError('UNSUPPORTED', 'tar: sparse file in the format of star; write it with --format=pax');
    }
    const type = Object.hasOwn(ENTRY_TYPES, header.type) ? ENTRY_TYPES[header.type] : undefined;
    return type === 'file' && header.type !== 'S' && name.endsWith('/') ? 'directory' : type;
  }

  /** Reads what lies between the header of a file and its data, which only sparse files have. */
  *#contents(
    size: number,
    pax: PaxHeader,
    values: ReadonlyMap<ByteString, Uint8Array>,
    gnu: ReturnType<typeof decodeGnuSparse> | undefined,
  ): Step<Contents> {
    if (size < 0) throw invalid('negative size');
    if (gnu !== undefined) {
      const segments: SparseSegment[] = [];
      addGnuSegments(segments, gnu.map);
      for (let more = gnu.more; more; ) {
        const extension = yield* this.#take(TAR_BLOCK_SIZE);
        addGnuSegments(segments, extension.subarray(0, EXTENSION_MAP_SIZE));
        more = extension[EXTENSION_MAP_SIZE] !== 0;
      }
      return { segments: checkSegments(segments, gnu.realSize, size), size: gnu.realSize, stored: size };
    }
    if (values.has('GNU.sparse.major')) return yield* this.#sparse10(size, values);
    const realSize = paxNumber(values, 'GNU.sparse.size');
    if (realSize === undefined) return { size, stored: size };
    const map = values.get('GNU.sparse.map');
    const segments = map === undefined ? pax.segments : parseSparseMap(latin1(map));
    return { segments: checkSegments(segments, realSize, size), size: realSize, stored: size };
  }

  *#sparse10(size: number, values: ReadonlyMap<ByteString, Uint8Array>): Step<Contents> {
    const version = `${paxNumber(values, 'GNU.sparse.major')}.${paxNumber(values, 'GNU.sparse.minor')}`;
    const realSize = paxNumber(values, 'GNU.sparse.realsize');
    if (version !== '1.0' || realSize === undefined) {
      throw new TarError(
        'UNSUPPORTED',
        `tar: sparse file of format ${version}; write it with --sparse-version=1.0`,
      );
    }
    const map = new SparseMapReader();
    let stored = size;
    while (!map.done) {
      stored -= TAR_BLOCK_SIZE;
      if (stored < 0) throw new TarError('INVALID_SPARSE', 'tar: sparse map beyond the end of the entry');
      map.push(yield* this.#take(TAR_BLOCK_SIZE));
    }
    return { segments: checkSegments(map.segments, realSize, stored), size: realSize, stored };
  }

  *#data(stored: number, segments: readonly SparseSegment[] | undefined): Step<void> {
    if (!this.#skipRequested) {
      for (const segment of segments ?? [{ offset: 0, length: stored }]) {
        let { offset, length } = segment;
        while (length > 0) {
          const bytes = this.#consume(Math.min(this.#chunk.length - this.#position, length));
          if (bytes.length > 0) yield { kind: 'data', offset, bytes };
          offset += bytes.length;
          length -= bytes.length;
          if (length > 0) yield NEED_INPUT;
        }
      }
      yield* this.#discard(padding(stored));
    } else {
      yield* this.#discard(padded(stored));
    }
  }
}

/** Events of a whole stream. Throws TarError, or whatever the stream throws. */
export async function* parseTar(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<TarEvent, void, void> {
  const parser = new TarParser();
  for await (const chunk of chunks) yield* parser.push(chunk);
  yield* parser.finish();
}

function isExtension(type: ByteString): boolean {
  return type === 'x' || type === 'X' || type === 'g' || type === 'L' || type === 'K';
}

function padding(size: number): number {
  return (TAR_BLOCK_SIZE - (size % TAR_BLOCK_SIZE)) % TAR_BLOCK_SIZE;
}

function padded(size: number): number {
  return size + padding(size);
}

function untilNul(bytes: Uint8Array): ByteString {
  const end = bytes.indexOf(0);
  return latin1(end < 0 ? bytes : bytes.subarray(0, end));
}

function invalid(what: string): TarError {
  return new TarError('INVALID_HEADER', `tar: ${what}`);
}

function paxName(values: ReadonlyMap<ByteString, Uint8Array>, key: ByteString): ByteString | undefined {
  const value = values.get(key);
  return value === undefined ? undefined : paxText(key, value);
}

function paxNumber(values: ReadonlyMap<ByteString, Uint8Array>, key: ByteString): number | undefined {
  const value = values.get(key);
  return value === undefined ? undefined : paxInteger(key, value);
}

function paxMtime(values: ReadonlyMap<ByteString, Uint8Array>): bigint | undefined {
  const value = values.get('mtime');
  return value === undefined ? undefined : paxTime('mtime', value);
}

/** Linux has ids of 32 bits. */
function ownerId(value: number, what: string): number {
  if (value < 0 || value > 0xffffffff) throw invalid(`${what} ${value} is not within 32 bits`);
  return value;
}

function named(error: unknown, name: ByteString): unknown {
  if (!(error instanceof TarError)) return error;
  return new TarError(error.code, `${error.message} (entry ${quoteName(name)})`, { cause: error });
}

function located(error: unknown, offset: number): unknown {
  if (!(error instanceof TarError)) return error;
  return new TarError(error.code, `${error.message} (header at byte ${offset})`, { cause: error });
}
