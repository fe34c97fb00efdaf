/**
 * What Prometheus gets of the daemon. Counters begin anew with each daemon; those of a mount go on until it ends or
 * the daemon is replaced, and those of an image are the sum over its mounts.
 */
import { Histogram } from '../telemetry/histogram.js';
import { Metrics } from '../telemetry/metrics.js';
import type { ListedMount } from './container-use.js';
import type { Daemon } from './daemon.js';
import type { Mounts } from './mounts.js';

export function daemonMetrics(daemon: Daemon): string {
  const metrics = new Metrics();
  const ping = daemon.ping();
  metrics.gauge('orca_build_info', 'Always 1; the version is the label.', 1, { version: ping.version });
  metrics.gauge('orca_start_time_seconds', 'When the daemon started.', ping.startedAt / 1000);
  metrics.gauge('orca_resident_memory_bytes', 'Memory of the daemon.', ping.residentBytes);
  metrics.gauge('orca_supervised', '1 when mounts outlive a crash of the daemon.', ping.supervised ? 1 : 0);
  metrics.gauge('orca_mounts', 'Mounts that are served or being made.', ping.mounts);
  addCache(metrics, daemon);
  addImages(metrics, daemon.mounts);
  return metrics.toString();
}

function addCache(metrics: Metrics, daemon: Daemon): void {
  const cache = daemon.cacheInfo();
  metrics.gauge('orca_cache_used_bytes', 'Disk that cached blocks take.', cache.used);
  metrics.gauge('orca_cache_limit_bytes', 'Disk that they may take.', cache.limit);
  metrics.counter('orca_cache_evicted_bytes_total', 'Bytes of blocks that made room.', cache.bytesEvicted);
  const blocks = {
    wanted: cache.blocksWanted,
    fetched: cache.blocksFetched,
    recovered: cache.blocksRecovered,
    corrupt: cache.blocksCorrupt,
    failed: cache.blocksFailed,
    uncached: cache.blocksUncached,
  };
  for (const [outcome, count] of Object.entries(blocks)) {
    const help =
      'Blocks: wanted by readers, fetched, recovered from the cache file, corrupt as they came, failed, not cached.';
    metrics.counter('orca_blocks_total', help, count, { outcome });
  }
  const { meter, readsOutstanding } = daemon.fetches;
  metrics.gauge('orca_source_reads_in_flight', 'Reads from sources that are under way.', readsOutstanding);
  for (const [source, { bytes, waits }] of meter.kinds) {
    metrics.counter('orca_fetched_bytes_total', 'Verified bytes by kind of source.', bytes, { source });
    const help = 'From the demand of a block that was absent until it was put, by kind of source.';
    metrics.histogram('orca_miss_seconds', help, waits, { source });
  }
}

function addImages(metrics: Metrics, mounts: Mounts): void {
  const listed = byImage(mounts.all());
  for (const [image, group] of byImage(mounts.sessions())) {
    const stats = group.map(({ mount }) => mount.stats());
    const sum = (pick: (index: (typeof stats)[number]) => number) =>
      stats.reduce((total, each) => total + pick(each), 0);
    const hits = sum(({ session }) => session.readHits);
    const misses = sum(({ session }) => session.readMisses);
    metrics.gauge('orca_image_mounts', 'Mounts of the image.', listed.get(image)?.length ?? 0, {
      image,
    });
    const readsHelp = 'READs by whether they were answered at once (hit) or waited for a block (miss).';
    metrics.counter('orca_reads_total', readsHelp, hits, { image, result: 'hit' });
    metrics.counter('orca_reads_total', readsHelp, misses, { image, result: 'miss' });
    const ratio = hits + misses === 0 ? 1 : hits / (hits + misses);
    metrics.gauge('orca_hit_ratio', 'Part of the READs that were answered at once.', ratio, { image });
    const waiting = sum(({ session }) => session.readsWaiting);
    metrics.gauge('orca_reads_in_flight', 'READs that wait for blocks now.', waiting, { image });
    const read = sum(({ session }) => session.bytesRead);
    metrics.counter('orca_read_bytes_total', 'Bytes sent in answers to READ.', read, { image });
    for (const [opcode, count] of total(stats.map(({ session }) => session.requests))) {
      metrics.counter('orca_fuse_requests_total', 'Answers to the kernel, by opcode.', count, {
        image,
        opcode,
      });
    }
    for (const [errno, count] of total(stats.map(({ session }) => session.errors))) {
      metrics.counter('orca_fuse_errors_total', 'Answers that were an error.', count, { image, errno });
    }
    // Mounts of one image share its layers.
    const shared = new Map(
      stats.flatMap(({ layers }) =>
        layers.flatMap(({ diffID, sources }) =>
          sources.map((source) => [`${diffID} ${source.location}`, source] as const),
        ),
      ),
    );
    const bytes = new Map<string, number>();
    const waits = new Map<string, Histogram>();
    for (const source of shared.values()) {
      bytes.set(source.kind, (bytes.get(source.kind) ?? 0) + source.bytes);
      const merged = waits.get(source.kind) ?? new Histogram();
      merged.merge(source.waits);
      waits.set(source.kind, merged);
    }
    for (const [source, count] of bytes) {
      const help =
        'Verified bytes of the layers of the image, by kind of source; shared layers count for each image.';
      metrics.counter('orca_image_fetched_bytes_total', help, count, { image, source });
    }
    for (const [source, merged] of waits) {
      const help = 'As orca_miss_seconds, of the layers of the image.';
      metrics.histogram('orca_image_miss_seconds', help, merged, { image, source });
    }
  }
}

function byImage<T extends ListedMount>(mounts: readonly T[]): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const served of mounts) {
    const { name } = served.record.image;
    groups.set(name, [...(groups.get(name) ?? []), served]);
  }
  return groups;
}

function total(records: readonly Readonly<Record<string, number>>[]): Map<string, number> {
  const sums = new Map<string, number>();
  for (const record of records)
    for (const [name, count] of Object.entries(record)) sums.set(name, (sums.get(name) ?? 0) + count);
  return sums;
}
