/** Makes what the page shows (page-view.ts) of what the daemon knows. */
import { type NamedFile, readFileNames } from '../mount/file-names.js';
import type { LayerStats, MountStats } from '../mount/mount.js';
import type { Touch } from '../native/addon.js';
import { Histogram, LATENCY_BOUNDS } from '../telemetry/histogram.js';
import { log } from '../telemetry/logger.js';
import type { ListedMount } from './container-use.js';
import type { Daemon } from './daemon.js';
import type {
  ActivityView,
  FilesView,
  LayerView,
  MountSummary,
  MountsView,
  MountView,
  SourceView,
} from './page-view.js';

/** Parts that a layer is drawn in. */
const CELLS = 240;
/** Of each kind: as many as a browser draws within a frame. */
const MOST_RUNS = 4000;
const MOST_FILES = 1000;
const MOST_TIMES = 2000;
/** Names are forgotten when nobody has looked for so long. */
const NAMES_KEPT_MS = 60_000;

export class Views {
  readonly #daemon: Daemon;
  /** By digest of the image index. */
  readonly #names = new Map<
    string,
    { files: Promise<ReadonlyMap<number, NamedFile>>; timer: NodeJS.Timeout }
  >();

  constructor(daemon: Daemon) {
    this.#daemon = daemon;
  }

  mounts(): MountsView {
    const { version, startedAt } = this.#daemon.ping();
    const { used, limit } = this.#daemon.cacheInfo();
    return {
      version,
      now: Date.now(),
      startedAt,
      cache: { used, limit },
      mounts: this.#daemon.mounts.all().map((served) => summaryOf(served, served.mount.stats())),
    };
  }

  /** Throws DaemonError NOT_FOUND. */
  async mount(id: string): Promise<MountView> {
    const served = this.#daemon.mounts.get(id);
    const names = await this.#namesOf(served);
    const { mount } = served;
    const stats = mount.stats();
    const { session, layers } = stats;
    const { served: why, passedOver, manifestDigest } = served.info();
    const touches = mount.touched();
    return {
      ...summaryOf(served, stats),
      manifestDigest,
      now: Date.now(),
      served: why,
      passedOver: passedOver.map(({ kind, reason }) => ({ kind, reason })),
      sources: sourcesOf(layers),
      reads: { hits: session.readHits, misses: session.readMisses },
      requests: session.requests,
      errors: session.errors,
      latencyBounds: LATENCY_BOUNDS,
      perLayer: layersOf(served, touches),
      files: filesOf(served, names),
      activity: activityOf(served, touches),
    };
  }

  #namesOf({ record }: ListedMount): Promise<ReadonlyMap<number, NamedFile>> {
    const { digest } = record.image.index;
    const known = this.#names.get(digest);
    if (known !== undefined) {
      known.timer.refresh();
      return known.files;
    }
    const files = readFileNames(this.#daemon.indexPath(digest)).catch((error: Error) => {
      log.warn(`the files of ${record.image.name} cannot be named: ${error.message}`);
      return new Map<number, NamedFile>();
    });
    const timer = setTimeout(() => this.#names.delete(digest), NAMES_KEPT_MS).unref();
    this.#names.set(digest, { files, timer });
    return files;
  }
}

function summaryOf(served: ListedMount, { session, layers }: MountStats): MountSummary {
  const { id, image, mountpoint, bytesRead, hitRatio, problem } = served.info();
  const fetched: Record<string, number> = {};
  for (const { kind, bytes } of layers.flatMap(({ sources }) => sources))
    fetched[kind] = (fetched[kind] ?? 0) + bytes;
  return {
    ...{ id, image, mountpoint, layers: layers.length, bytesRead, hitRatio, fetched },
    since: sinceOf(served),
    readsWaiting: session.readsWaiting,
    ...(problem !== undefined && { problem }),
  };
}

function sinceOf({ mount }: ListedMount): number {
  return Math.round(Date.now() - performance.now() + mount.begunAt);
}

/** The same source of several layers is one. */
function sourcesOf(layers: readonly LayerStats[]): SourceView[] {
  const merged = new Map<string, SourceView & { all: Histogram }>();
  for (const { kind, location, bytes, healthy, problem, waits } of layers.flatMap(({ sources }) => sources)) {
    const known = merged.get(location) ?? {
      kind,
      location,
      bytes: 0,
      healthy,
      waits: [],
      all: new Histogram(),
    };
    merged.set(location, known);
    known.bytes += bytes;
    known.healthy &&= healthy;
    known.all.merge(waits);
    if (problem !== undefined) known.problem = problem;
  }
  return [...merged.values()].map(({ all, ...source }) => {
    const [waitMedian, wait99] = [all.quantile(0.5), all.quantile(0.99)];
    return {
      ...source,
      waits: all.counts,
      ...(waitMedian !== undefined && { waitMedian }),
      ...(wait99 !== undefined && { wait99 }),
    };
  });
}

function layersOf({ mount }: ListedMount, touches: readonly Touch[]): LayerView[] {
  const read = mount.layers.map(() => new Set<number>());
  for (const { device, block } of touches) read[device]?.add(block);
  return mount.layers.map(({ digests, blockFile }, device) => {
    const { diffID, size, blockSize, count } = digests;
    const own = read[device] ?? new Set();
    return {
      ...{ diffID, size, blockSize, blocks: count, blocksCached: blockFile.count(), blocksRead: own.size },
      read: inCells(count, (block) => own.has(block)),
      cached: inCells(count, (block) => blockFile.has(block)),
    };
  });
}

/** Tenths, rounded up, of the blocks of each cell for which it is true. */
function inCells(blocks: number, is: (block: number) => boolean): number[] {
  const cells = Math.min(CELLS, blocks);
  return Array.from({ length: cells }, (_, cell) => {
    const [from, until] = [Math.floor((cell * blocks) / cells), Math.floor(((cell + 1) * blocks) / cells)];
    let count = 0;
    for (let block = from; block < until; block++) if (is(block)) count += 1;
    return Math.ceil((10 * count) / (until - from));
  });
}

function filesOf({ mount }: ListedMount, names: ReadonlyMap<number, NamedFile>): FilesView {
  const reads = mount.filesRead();
  const step = Math.max(1, Math.ceil(reads.length / MOST_TIMES));
  return {
    total: reads.length,
    first: reads.slice(0, MOST_FILES).map(({ nid, time }) => {
      const { path, size } = names.get(nid) ?? { path: `(inode ${nid})`, size: 0 };
      return { time, path, size };
    }),
    times: reads.filter((_, index) => index % step === 0).map(({ time }) => time),
    step,
  };
}

function activityOf({ mount }: ListedMount, touches: readonly Touch[]): ActivityView {
  const offsets: number[] = [];
  let blocks = 0;
  for (const { digests } of mount.layers) {
    offsets.push(blocks);
    blocks += digests.count;
  }
  const reads: ActivityView['reads'] = [];
  for (const { time, device, block } of touches) {
    const at = (offsets[device] ?? 0) + block;
    const last = reads.at(-1);
    if (last !== undefined && last[1] + last[2] === at && time - last[0] < 5) last[2] += 1;
    else reads.push([time, at, 1]);
  }
  const fetches = mount.layers
    .flatMap(({ history }, device) =>
      history.runs.map(({ time, first, count, kind, demanded }): ActivityView['fetches'][number] => [
        Math.round(time - mount.begunAt),
        (offsets[device] ?? 0) + first,
        ...([count, kind, demanded] as const),
      ]),
    )
    .sort((a, b) => a[0] - b[0]);
  const truncated = reads.length > MOST_RUNS || fetches.length > MOST_RUNS;
  return { blocks, reads: reads.slice(0, MOST_RUNS), fetches: fetches.slice(-MOST_RUNS), truncated };
}
