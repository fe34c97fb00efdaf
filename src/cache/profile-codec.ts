/** The bytes of a startup profile (docs/FORMAT.md, "Startup profile"). Anybody may have written them. */
import { ACCESS_KINDS } from '../native/access.js';
import { CacheError } from './cache-error.js';
import {
  isImagePath,
  MAX_BLOCKS,
  MAX_LAYERS,
  MAX_PAGES,
  MAX_PATH_BYTES,
  MAX_PROFILE_BYTES,
  MAX_RUNS,
  MAX_STEPS,
  MAX_VALUE,
  type ProfileEntry,
  type ProfileParts,
  type ProfileStep,
  STARTUP_MS,
} from './profile-parts.js';

const MAGIC = 'ORCAPROF';
const VERSION = 2;
const HEADER_SIZE = 24;
const DIFF_ID = /^sha256:[0-9a-f]{64}$/;
const PAGES = ACCESS_KINDS.indexOf('pages');

/** The last steps are left out where all of them would be more than MAX_PROFILE_BYTES or MAX_PATH_BYTES. */
export function encodeProfile({ layers, runs, entries, steps }: ProfileParts): Uint8Array {
  const header = Buffer.alloc(HEADER_SIZE + 32 * layers.length);
  for (const [index, diffID] of layers.entries())
    header.write(diffID.slice('sha256:'.length), HEADER_SIZE + 32 * index, 'hex');
  const bytes: number[] = [];
  let before = 0;
  for (const { layer, first, count, time, seen } of entries) {
    for (const value of [layer, first, count, time - before, seen]) pushVarint(bytes, value);
    before = time;
  }
  before = 0;
  let path = '';
  let written = 0;
  let pathBytes = 0;
  for (const step of steps) {
    const end = bytes.length;
    bytes.push(ACCESS_KINDS.indexOf(step.kind));
    const shared = sharedLength(path, step.path);
    pushVarint(bytes, shared);
    pushVarint(bytes, step.path.length - shared);
    for (let at = shared; at < step.path.length; at++) bytes.push(step.path.charCodeAt(at));
    pushVarint(bytes, step.time - before);
    pushVarint(bytes, step.seen);
    if (step.kind === 'pages') for (const value of [step.first, step.count]) pushVarint(bytes, value);
    pathBytes += step.path.length;
    if (header.length + bytes.length > MAX_PROFILE_BYTES || pathBytes > MAX_PATH_BYTES) {
      bytes.length = end;
      break;
    }
    before = step.time;
    path = step.path;
    written += 1;
  }
  header.write(MAGIC, 'latin1');
  header.writeUInt16LE(VERSION, 8);
  header.writeUInt16LE(runs, 10);
  header.writeUInt32LE(layers.length, 12);
  header.writeUInt32LE(entries.length, 16);
  header.writeUInt32LE(written, 20);
  return Buffer.concat([header, Buffer.from(bytes)]);
}

/** Throws CacheError INVALID_PROFILE. */
export function decodeProfile(encoded: Uint8Array): ProfileParts {
  const bytes = Buffer.from(encoded.buffer, encoded.byteOffset, encoded.length);
  if (bytes.length < HEADER_SIZE || bytes.length > MAX_PROFILE_BYTES) throw invalid('its length');
  if (bytes.toString('latin1', 0, 8) !== MAGIC) throw invalid('what it begins with');
  if (bytes.readUInt16LE(8) !== VERSION) throw invalid('its version');
  const runs = bytes.readUInt16LE(10);
  const [layerCount, entryCount, stepCount] = [12, 16, 20].map((at) => bytes.readUInt32LE(at)) as [
    number,
    number,
    number,
  ];
  if (runs < 1 || runs > MAX_RUNS || layerCount > MAX_LAYERS) throw invalid('its size');
  if (entryCount > MAX_BLOCKS || stepCount > MAX_STEPS) throw invalid('its size');
  const reader = new Reader(bytes, HEADER_SIZE + 32 * layerCount);
  const layers = Array.from({ length: layerCount }, (_, index) => {
    const at = HEADER_SIZE + 32 * index;
    return `sha256:${bytes.toString('hex', at, at + 32)}`;
  });
  if (!layers.every((diffID) => DIFF_ID.test(diffID)) || new Set(layers).size !== layers.length)
    throw invalid('its layers');
  const entries = readEntries(reader, { entryCount, layerCount, runs });
  const steps = readSteps(reader, stepCount, runs);
  if (!reader.atEnd) throw invalid('what follows its steps');
  return { layers, runs, entries, steps };
}

function readEntries(
  reader: Reader,
  { entryCount, layerCount, runs }: { entryCount: number; layerCount: number; runs: number },
): ProfileEntry[] {
  const entries: ProfileEntry[] = [];
  let time = 0;
  let blocks = 0;
  for (let index = 0; index < entryCount; index++) {
    const layer = reader.next();
    const first = reader.next();
    const count = reader.next();
    time += reader.next();
    const seen = reader.next();
    blocks += count;
    const inBounds = layer < layerCount && count >= 1 && blocks <= MAX_BLOCKS && first + count <= MAX_VALUE;
    if (!inBounds || time > STARTUP_MS || seen < 1 || seen > runs) throw invalid(`entry ${index}`);
    entries.push({ layer, first, count, time, seen });
  }
  return entries;
}

function readSteps(reader: Reader, stepCount: number, runs: number): ProfileStep[] {
  const steps: ProfileStep[] = [];
  let time = 0;
  let pages = 0;
  let pathBytes = 0;
  let path = '';
  for (let index = 0; index < stepCount; index++) {
    const number = reader.next();
    const kind = ACCESS_KINDS[number];
    const shared = reader.next();
    if (kind === undefined || shared > path.length) throw invalid(`step ${index}`);
    path = path.slice(0, shared) + reader.text(reader.next());
    pathBytes += path.length;
    if (pathBytes > MAX_PATH_BYTES) throw invalid('its size');
    time += reader.next();
    const seen = reader.next();
    const [first, count] = number === PAGES ? [reader.next(), reader.next()] : [0, 1];
    if (kind === 'pages') pages += count;
    const inBounds = isImagePath(path) && count >= 1 && pages <= MAX_PAGES && first + count <= MAX_VALUE;
    if (!inBounds || time > STARTUP_MS || seen < 1 || seen > runs) throw invalid(`step ${index}`);
    steps.push({ kind, path, first, count, time, seen });
  }
  return steps;
}

function invalid(what: string): CacheError {
  return new CacheError('INVALID_PROFILE', `a startup profile cannot be used: ${what} is wrong`);
}

/** Characters that the two begin with in common. */
function sharedLength(a: string, b: string): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a.charCodeAt(length) === b.charCodeAt(length)) length += 1;
  return length;
}

function pushVarint(bytes: number[], value: number): void {
  let rest = value;
  for (; rest > 0x7f; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  bytes.push(rest);
}

/** Numbers in little-endian base 128, at most 32 bits, in the shortest form; and texts, as latin1. */
class Reader {
  readonly #bytes: Buffer;
  #at: number;

  constructor(bytes: Buffer, at: number) {
    if (at > bytes.length) throw invalid('its length');
    this.#bytes = bytes;
    this.#at = at;
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  next(): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined || value > MAX_VALUE) throw invalid('a number');
      value += (byte & 0x7f) * scale;
      if (byte > 0x7f) continue;
      if (value > MAX_VALUE || (byte === 0 && scale > 1)) throw invalid('a number');
      return value;
    }
  }

  text(length: number): string {
    if (length > this.#bytes.length - this.#at) throw invalid('a path');
    this.#at += length;
    return this.#bytes.toString('latin1', this.#at - length, this.#at);
  }
}
