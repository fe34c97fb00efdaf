/**
 * What a container of an image asks for while it starts, in its order: blocks of layers, and names and pages of the
 * mounted file system. Recorded from the requests of its mounts, merged over several runs, and replayed by the next
 * mount: blocks are fetched ahead, the rest is walked through the mount.
 */
import type { Access, Located } from '../native/access.js';
import { decodeProfile, encodeProfile } from './profile-codec.js';
import { type Extent, flatten, joined, upTo } from './profile-extents.js';
import {
  isImagePath,
  MAX_BLOCKS,
  MAX_LAYERS,
  MAX_PAGES,
  MAX_RUNS,
  MAX_STEPS,
  type ProfileEntry,
  type ProfileParts,
  type ProfileStep,
  STARTUP_MS,
} from './profile-parts.js';

export {
  MAX_PROFILE_BYTES,
  MAX_RUNS,
  type ProfileEntry,
  type ProfileStep,
  STARTUP_MS,
} from './profile-parts.js';

const layerOf = ({ layer }: ProfileEntry) => layer;
const stepOf = ({ kind, path }: ProfileStep) => `${kind} ${path}`;
const isUsual = (runs: number) => (extent: Extent) => extent.seen * 2 >= runs;

export class StartupProfile implements ProfileParts {
  readonly layers: readonly string[];
  readonly runs: number;
  readonly entries: readonly ProfileEntry[];
  readonly steps: readonly ProfileStep[];

  private constructor({ layers, runs, entries, steps }: ProfileParts) {
    this.layers = layers;
    this.runs = runs;
    this.entries = entries;
    this.steps = steps;
  }

  /** Of one run: `touches` and `accesses` as a session has them, `layers` the diffIDs of its devices. */
  static record(
    touches: readonly { device: number; block: number; time: number }[],
    layers: readonly string[],
    accesses: readonly Access[] = [],
  ): StartupProfile {
    const begin = Math.min(touches[0]?.time ?? Infinity, accesses[0]?.time ?? Infinity);
    const inTime = ({ time }: { time: number }) => time - begin <= STARTUP_MS;
    const entries = touches
      .filter((touch) => touch.device < layers.length && inTime(touch))
      .map(({ device, block, time }) => ({
        layer: device,
        first: block,
        count: 1,
        time: time - begin,
        seen: 1,
      }));
    const steps = accesses
      .filter((access) => isImagePath(access.path) && inTime(access))
      .map(({ kind, path, first, count, time }) => ({
        kind,
        path,
        first,
        count,
        time: time - begin,
        seen: 1,
      }));
    return StartupProfile.#bounded({
      layers,
      runs: 1,
      entries: flatten(entries, layerOf, 'most'),
      steps: flatten(steps, stepOf, 'most'),
    });
  }

  /**
   * What `related`, of another image, says of the one whose devices are `layers`: as one run of it. `located`: where
   * the steps of `related` lead there.
   */
  static inherit(related: StartupProfile, layers: readonly string[], located: Located): StartupProfile {
    const timeOf = (index: number) => related.steps[index]!.time;
    return StartupProfile.#bounded({
      layers,
      runs: 1,
      entries: located.blocks.map(({ step, device, first, count }) => ({
        layer: device,
        first,
        count,
        time: timeOf(step),
        seen: 1,
      })),
      steps: located.steps.map(({ step, count }) => {
        const { kind, path, first, time } = related.steps[step]!;
        return { kind, path, first, count, time, seen: 1 };
      }),
    });
  }

  /** Throws CacheError INVALID_PROFILE. */
  static decode(encoded: Uint8Array): StartupProfile {
    return new StartupProfile(decodeProfile(encoded));
  }

  encode(): Uint8Array {
    return encodeProfile(this);
  }

  /** Blocks of all entries, and names and pages of all steps. */
  get size(): number {
    return [...this.entries, ...this.steps].reduce((sum, { count }) => sum + count, 0);
  }

  /** This profile and other runs of the same image. The earliest time of a block or a page counts. */
  merge(other: StartupProfile): StartupProfile {
    const layers = [...new Set([...this.layers, ...other.layers])].slice(0, MAX_LAYERS);
    const runs = Math.min(MAX_RUNS, this.runs + other.runs);
    const atMost = <T extends { seen: number }>(extents: T[]) =>
      extents.map((extent) => ({ ...extent, seen: Math.min(runs, extent.seen) }));
    const entries = [this, other].flatMap((profile) =>
      profile.entries
        .map((entry) => ({ ...entry, layer: layers.indexOf(profile.layers[entry.layer]!) }))
        .filter(({ layer }) => layer >= 0),
    );
    const steps = [...this.steps, ...other.steps];
    return StartupProfile.#bounded({
      layers,
      runs,
      entries: atMost(flatten(entries, layerOf, 'sum')),
      steps: atMost(flatten(steps, stepOf, 'sum')),
    });
  }

  /**
   * What is worth replaying: of three runs and more, what at least half of them have asked for. The rest is kept, since
   * what comes up in the third run for the first time may come up in all that follow.
   */
  usual(): StartupProfile {
    const { layers, runs } = this;
    if (runs < 3) return this;
    const [entries, steps] = [this.entries.filter(isUsual(runs)), this.steps.filter(isUsual(runs))];
    return new StartupProfile({ layers, runs, entries, steps });
  }

  /**
   * This run, in which the steps of `replayed` were walked ahead: nobody can tell which of them the container asked for
   * as well, so that they count as asked for.
   */
  withReplayed(replayed: StartupProfile): StartupProfile {
    const one = <T extends { seen: number }>(extents: readonly T[]) =>
      extents.map((extent) => ({ ...extent, seen: 1 }));
    const layers = [...new Set([...this.layers, ...replayed.layers])];
    const known = one(replayed.entries).map((entry) => ({
      ...entry,
      layer: layers.indexOf(replayed.layers[entry.layer]!),
    }));
    return StartupProfile.#bounded({
      layers,
      runs: 1,
      entries: flatten([...this.entries, ...known], layerOf, 'most'),
      steps: flatten([...this.steps, ...one(replayed.steps)], stepOf, 'most'),
    });
  }

  /** Where there is too much, what most runs have asked for stays, and of that what comes first. */
  static #bounded({ layers, runs, entries, steps }: ProfileParts): StartupProfile {
    const fitting = <T extends Extent>(extents: readonly T[], most: number): T[] => {
      const all = upTo(extents, most);
      return all.length === extents.length ? all : upTo(extents.filter(isUsual(runs)), most);
    };
    return new StartupProfile({
      layers,
      runs,
      entries: fitting(joined(entries, layerOf), MAX_BLOCKS),
      steps: fitting(joined(steps, stepOf), MAX_PAGES).slice(0, MAX_STEPS),
    });
  }
}
