/**
 * The shape of machine learning: a file of 1.5 GB that one process reads whole, or 1 % of at random in pieces of
 * 64 KiB. From the share for the first time, and with everything on the host and cold page caches, against the kernel's
 * EROFS over a loop device, overlayfs on the local disk, and fuse-native.
 */
import { join } from 'node:path';
import { timeRandomReads, timeRead } from '../clients.js';
import { type FileSystemName, fileSystemNames, fileSystems } from '../file-systems.js';
import { DATASET, datasetImage } from '../images/bulk-images.js';
import { dropCaches, interleaved, median } from '../measure.js';
import type { Figures, Workload } from '../workload.js';

const PIECE = 64 << 10;
const PIECES = Math.round(DATASET.bytes / 100 / PIECE);

const peers = { erofs: 'erofs', overlayfs: 'overlayfs', fuseNative: 'fuse_native' } as const;

export const workload: Workload = {
  figures: {
    ml_whole_rate_vs_erofs: {
      meaning: '1.5 GB read whole, on the host, page cache cold: rate ÷ EROFS over loop',
    },
    ml_whole_rate_vs_overlayfs: { meaning: 'the same ÷ overlayfs' },
    ml_whole_rate_vs_fuse_native: { meaning: 'the same ÷ fuse-native' },
    ml_whole_from_share_rate_vs_overlayfs: {
      meaning: 'read whole for the first time, from the share ÷ overlayfs',
    },
    ml_random_time_vs_erofs: {
      meaning: '1 % at random, on the host, page cache cold: time ÷ EROFS over loop',
    },
    ml_random_time_vs_overlayfs: { meaning: 'the same ÷ overlayfs' },
    ml_random_time_vs_fuse_native: { meaning: 'the same ÷ fuse-native' },
    ml_random_from_share_time_vs_overlayfs: { meaning: 'for the first time, from the share ÷ overlayfs' },
    ml_random_bytes_fetched_vs_read: {
      meaning: 'of that: bytes fetched from the share ÷ bytes that were read',
    },
  },
  async run(context) {
    const { repetitions, note, chart, progress } = context;
    const systems = await fileSystems(context, await datasetImage());
    const file = (name: FileSystemName) => join(systems[name], DATASET.file);
    progress('filling the cache');
    await timeRead(file('orca'));
    const rounds = Math.min(repetitions, 5);
    const fetched: number[] = [];
    const whole = (path: string) => timeRead(path);
    const random = async (path: string) => timeRandomReads(path, PIECES, PIECE);
    const sides = (time: (path: string) => Promise<number>) => {
      const onHost = fileSystemNames.map((name) => [
        name,
        async () => {
          await dropCaches(3);
          return time(file(name));
        },
      ]);
      const share = () =>
        systems.onNewHost(async (mountpoint, daemon) => {
          const took = await time(join(mountpoint, DATASET.file));
          fetched.push((await daemon.client.cache()).bytesFetched);
          return took;
        });
      return Object.fromEntries([...onHost, ['share', share]]) as Record<
        FileSystemName | 'share',
        () => Promise<number>
      >;
    };
    const figures: Figures = {};
    progress('reading whole');
    const wholes = await interleaved(sides(whole), rounds);
    fetched.length = 0;
    progress('reading at random');
    const randoms = await interleaved(sides(random), rounds);
    for (const [name, peer] of Object.entries(peers) as [keyof typeof peers, string][]) {
      figures[`ml_whole_rate_vs_${peer}`] = wholes.ratio(name, 'orca');
      figures[`ml_random_time_vs_${peer}`] = randoms.ratio('orca', name);
    }
    figures['ml_whole_from_share_rate_vs_overlayfs'] = wholes.ratio('overlayfs', 'share');
    figures['ml_random_from_share_time_vs_overlayfs'] = randoms.ratio('share', 'overlayfs');
    figures['ml_random_bytes_fetched_vs_read'] = median(fetched) / (PIECES * PIECE);
    const label = (name: FileSystemName | 'share') =>
      ({
        orca: 'Orca',
        erofs: 'EROFS over loop',
        overlayfs: 'overlayfs',
        fuseNative: 'fuse-native',
        share: 'Orca, from the share',
      })[name];
    const names = [...fileSystemNames, 'share'] as const;
    const rows = (took: typeof wholes, value: (seconds: number) => number) =>
      names.map((name) => ({
        label: label(name),
        value: value(took.median[name]),
        orca: name === 'orca' || name === 'share',
      }));
    const rates = rows(wholes, (time) => DATASET.bytes / 1e6 / time);
    const times = rows(randoms, (time) => time * 1000);
    chart({ title: '1.5 GB read whole, cold page cache', unit: 'MB/s', rows: rates });
    chart({ title: `${PIECES} pieces of 64 KiB at random, cold page cache`, unit: 'ms', rows: times });
    note(`MB/s: ${rates.map(({ label, value }) => `${label} ${value.toFixed(0)}`).join('; ')}`);
    note(
      `milliseconds at random: ${times.map(({ label, value }) => `${label} ${value.toFixed(0)}`).join('; ')}`,
    );
    return figures;
  },
};
