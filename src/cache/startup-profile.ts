/**
 * Which blocks a container of an image reads while it starts, in their order: recorded from the READs of its mounts,
 * merged over several runs, and fetched ahead by the next mount.
 *
 * offset  width  meaning (little-endian)
 *      0      8  "ORCAPROF"
 *      8      2  version, 1
 *     10      2  runs that were merged
 *     12      4  number of layers
 *     16      4  number of entries
 *     20   32×n  diffID of each layer
 *      …         entries, each five varints: layer, first block, count, milliseconds since the entry before it,
 *                runs that read it
 */
import { CacheError } from './cache-error.js';

export interface ProfileEntry {
  /** Index into `layers`. */
  layer: number;
  block: number;
  count: number;
  /** Milliseconds since the first READ. */
  time: number;
  /** Of the runs of the profile, how many read it. */
  seen: number;
}

/** What is read later than this after the first READ is work, not start. */
export const STARTUP_MS = 30_000;
/** As many as an image may have devices, and 8 GiB of blocks of 128 KiB: more is no startup. */
const MAX_LAYERS = 4096;
const MAX_BLOCKS = 1 << 16;
/** After so many runs a profile is as good as it gets. */
export const MAX_RUNS = 16;
/** The largest numbers that fit the bounds above: 20 + 32 × MAX_LAYERS, and MAX_BLOCKS entries of 5 varints. */
export const MAX_PROFILE_BYTES = 20 + 32 * MAX_LAYERS + MAX_BLOCKS * 25;
const MAX_VALUE = 0xffffffff;
const MAGIC = 'ORCAPROF';
const VERSION = 1;
const HEADER_SIZE = 20;
const DIFF_ID = /^sha256:[0-9a-f]{64}$/;

export class StartupProfile {
  /** diffIDs. */
  readonly layers: readonly string[];
  /** In the order of their times. */
  readonly entries: readonly ProfileEntry[];
  readonly runs: number;

  private constructor(layers: readonly string[], entries: readonly ProfileEntry[], runs: number) {
    this.layers = layers;
    this.entries = entries;
    this.runs = runs;
  }

  /** Of one run: `touches` as a session has them, `layers` the diffIDs of its devices. */
  static record(
    touches: readonly { device: number; block: number; time: number }[],
    layers: readonly string[],
  ): StartupProfile {
    const begin = touches[0]?.time ?? 0;
    const blocks = touches
      .filter(({ device, time }) => device < layers.length && time - begin <= STARTUP_MS)
      .slice(0, MAX_BLOCKS)
      .map(({ device, block, time }) => ({ layer: device, block, count: 1, time: time - begin, seen: 1 }));
    return new StartupProfile(layers, joined(blocks), 1);
  }

  /**
   * This profile and another run of the same image. The earliest time of a block counts; what fewer than half of the
   * runs have read is left out from the third run on.
   */
  merge(run: StartupProfile): StartupProfile {
    const layers = [...new Set([...this.layers, ...run.layers])].slice(0, MAX_LAYERS);
    const runs = Math.min(MAX_RUNS, this.runs + run.runs);
    const blocks = new Map<string, ProfileEntry>();
    for (const profile of [this, run]) {
      for (const entry of profile.entries) {
        const layer = layers.indexOf(profile.layers[entry.layer]!);
        for (let block = entry.block; layer >= 0 && block < entry.block + entry.count; block++) {
          const key = `${layer} ${block}`;
          const known = blocks.get(key);
          const time = Math.min(entry.time, known?.time ?? entry.time);
          const seen = Math.min(runs, entry.seen + (known?.seen ?? 0));
          blocks.set(key, { layer, block, count: 1, time, seen });
        }
      }
    }
    const kept = [...blocks.values()].filter(({ seen }) => runs < 3 || seen * 2 >= runs);
    kept.sort((a, b) => a.time - b.time);
    return new StartupProfile(layers, joined(kept.slice(0, MAX_BLOCKS)), runs);
  }

  encode(): Uint8Array {
    const header = Buffer.alloc(HEADER_SIZE + 32 * this.layers.length);
    header.write(MAGIC, 'latin1');
    header.writeUInt16LE(VERSION, 8);
    header.writeUInt16LE(this.runs, 10);
    header.writeUInt32LE(this.layers.length, 12);
    header.writeUInt32LE(this.entries.length, 16);
    this.layers.forEach((diffID, index) => {
      header.write(diffID.slice('sha256:'.length), HEADER_SIZE + 32 * index, 'hex');
    });
    const bytes: number[] = [];
    let before = 0;
    for (const { layer, block, count, time, seen } of this.entries) {
      for (const value of [layer, block, count, time - before, seen]) pushVarint(bytes, value);
      before = time;
    }
    return Buffer.concat([header, Buffer.from(bytes)]);
  }

  /** Throws CacheError INVALID_PROFILE. */
  static decode(encoded: Uint8Array): StartupProfile {
    const bytes = Buffer.from(encoded.buffer, encoded.byteOffset, encoded.length);
    if (bytes.length < HEADER_SIZE || bytes.length > MAX_PROFILE_BYTES) throw invalid('its length');
    if (bytes.toString('latin1', 0, 8) !== MAGIC) throw invalid('what it begins with');
    if (bytes.readUInt16LE(8) !== VERSION) throw invalid('its version');
    const runs = bytes.readUInt16LE(10);
    const layerCount = bytes.readUInt32LE(12);
    const entryCount = bytes.readUInt32LE(16);
    if (runs < 1 || runs > MAX_RUNS || layerCount > MAX_LAYERS || entryCount > MAX_BLOCKS)
      throw invalid('its size');
    const reader = new VarintReader(bytes, HEADER_SIZE + 32 * layerCount);
    const layers = Array.from({ length: layerCount }, (_, index) => {
      const at = HEADER_SIZE + 32 * index;
      return `sha256:${bytes.toString('hex', at, at + 32)}`;
    });
    if (!layers.every((diffID) => DIFF_ID.test(diffID)) || new Set(layers).size !== layers.length)
      throw invalid('its layers');
    const entries: ProfileEntry[] = [];
    let time = 0;
    let blocks = 0;
    for (let index = 0; index < entryCount; index++) {
      const [layer, block, count, elapsed, seen] = [0, 0, 0, 0, 0].map(() => reader.next()) as [
        number,
        number,
        number,
        number,
        number,
      ];
      time += elapsed;
      blocks += count;
      const inBounds = layer < layerCount && count >= 1 && blocks <= MAX_BLOCKS && block + count <= MAX_VALUE;
      if (!inBounds || time > STARTUP_MS || seen < 1 || seen > runs) throw invalid(`entry ${index}`);
      entries.push({ layer, block, count, time, seen });
    }
    if (!reader.atEnd) throw invalid('what follows its entries');
    return new StartupProfile(layers, entries, runs);
  }
}

/** Neighbours that follow one another, and that as many runs have read, as one entry with the time of the first. */
function joined(blocks: readonly ProfileEntry[]): ProfileEntry[] {
  const entries: ProfileEntry[] = [];
  for (const entry of blocks) {
    const last = entries.at(-1);
    const follows =
      last?.layer === entry.layer && last.block + last.count === entry.block && last.seen === entry.seen;
    if (last !== undefined && follows) last.count += entry.count;
    else entries.push({ ...entry });
  }
  return entries;
}

function invalid(what: string): CacheError {
  return new CacheError('INVALID_PROFILE', `a startup profile cannot be used: ${what} is wrong`);
}

function pushVarint(bytes: number[], value: number): void {
  let rest = value;
  for (; rest > 0x7f; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 0x80);
  bytes.push(rest);
}

/** Little-endian base 128, at most 32 bits, in the shortest form. */
class VarintReader {
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
}
