/** What `orca top` shows of two looks at the daemon. */
import type { MountDetails } from '../daemon/api.js';
import { Histogram } from '../telemetry/histogram.js';
import { formatBytes } from './progress.js';
import { formatTable } from './table.js';
import { formatPercent } from './units.js';

export interface Look {
  /** Milliseconds since 1970. */
  time: number;
  mounts: MountDetails[];
}

export interface TopRow {
  id: string;
  image: string;
  mountpoint: string;
  /** Bytes per second that programs read. */
  readRate: number;
  /** Bytes per second by kind of source, of the layers of the mount; mounts that share layers share these. */
  fetchRate: Record<string, number>;
  /** Of all READs since the mount began. */
  hitRatio: number;
  readsWaiting: number;
  /** Milliseconds below which half and 99 % of the waits between the two looks were; absent when there were none. */
  waitMedian?: number;
  wait99?: number;
}

/** Mounts of the later look; one that is new, or whose counters began anew, counts from zero. */
export function rowsOf(before: Look, now: Look): TopRow[] {
  const seconds = Math.max(1, now.time - before.time) / 1000;
  const former = new Map(before.mounts.map((mount) => [mount.id, mount]));
  return now.mounts.map((mount) => {
    const earlier = former.get(mount.id);
    const fetchRate: Record<string, number> = {};
    const bytesBefore = bytesByKind(earlier);
    for (const [kind, bytes] of Object.entries(bytesByKind(mount)))
      fetchRate[kind] = grown(bytesBefore[kind], bytes) / seconds;
    const waits = waitsBetween(earlier, mount);
    const [waitMedian, wait99] = [waits.quantile(0.5), waits.quantile(0.99)];
    return {
      id: mount.id,
      image: mount.image,
      mountpoint: mount.mountpoint,
      readRate: grown(earlier?.bytesRead, mount.bytesRead) / seconds,
      fetchRate,
      hitRatio: mount.hitRatio,
      readsWaiting: mount.readsWaiting,
      ...(waitMedian !== undefined && { waitMedian }),
      ...(wait99 !== undefined && { wait99 }),
    };
  });
}

export function formatFrame(rows: readonly TopRow[]): string {
  const cells = rows.map((row) => [
    row.id.slice(0, 12),
    row.image,
    `${formatBytes(row.readRate)}/s`,
    Object.entries(row.fetchRate)
      .map(([kind, rate]) => `${kind} ${formatBytes(rate)}/s`)
      .join(', '),
    formatPercent(row.hitRatio),
    String(row.readsWaiting),
    row.waitMedian === undefined ? '' : `< ${row.waitMedian} ms`,
    row.wait99 === undefined ? '' : `< ${row.wait99} ms`,
  ]);
  return formatTable([
    ['ID', 'IMAGE', 'READ', 'FETCHED', 'HITS', 'WAITING', 'WAIT 50 %', 'WAIT 99 %'],
    ...cells,
  ]);
}

function bytesByKind(mount: MountDetails | undefined): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { kind, bytes } of mount?.perLayer.flatMap(({ sources }) => sources) ?? [])
    sums[kind] = (sums[kind] ?? 0) + bytes;
  return sums;
}

function waitsOf(mount: MountDetails | undefined): Histogram {
  const all = new Histogram();
  for (const { waits } of mount?.perLayer.flatMap(({ sources }) => sources) ?? [])
    all.merge(Object.assign(new Histogram(), waits));
  return all;
}

function waitsBetween(before: MountDetails | undefined, now: MountDetails): Histogram {
  const [earlier, later] = [waitsOf(before), waitsOf(now)];
  const between = new Histogram();
  if (later.count < earlier.count) return later;
  for (const [index, count] of later.counts.entries())
    between.counts[index] = Math.max(0, count - (earlier.counts[index] ?? 0));
  between.count = between.counts.reduce((sum, count) => sum + count, 0);
  between.sum = later.sum - earlier.sum;
  return between;
}

function grown(before = 0, now: number): number {
  return now < before ? now : now - before;
}
