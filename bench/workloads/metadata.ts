/**
 * Metadata of 50,000 files in 500 directories: find, ls -lR, du, and a storm of stat(2) such as an interpreter with a
 * long search path makes; right after the kernel's caches were dropped, and again.
 */
import { join } from 'node:path';
import { run } from '../../test/system/command.js';
import { type FileSystemName, fileSystemNames, fileSystems } from '../file-systems.js';
import { TREE, treeImage } from '../images/bulk-images.js';
import { dropCaches, interleaved, median, seconds } from '../measure.js';
import type { Figures, Workload } from '../workload.js';

const storm = new URL('../../../bench/clients/stat-storm.py', import.meta.url).pathname;

const operations: Record<string, { meaning: string; time: (tree: string) => Promise<number> }> = {
  find: { meaning: 'find -type f', time: (tree) => timed('find', tree, '-type', 'f') },
  ls: { meaning: 'ls -lR', time: (tree) => timed('ls', '-lR', tree) },
  du: { meaning: 'du -s', time: (tree) => timed('du', '-s', tree) },
  storm: {
    meaning: '30,000 stat(2), most of names that are not there',
    time: async (tree) => Number(await run('python3', [storm, tree])),
  },
};
const peers = { erofs: 'erofs', overlayfs: 'overlayfs', fuseNative: 'fuse_native' } as const;
const labels = { orca: 'Orca', erofs: 'EROFS over loop', overlayfs: 'overlayfs', fuseNative: 'fuse-native' };

export const workload: Workload = {
  figures: Object.fromEntries(
    Object.entries(operations).flatMap(([name, { meaning }]) =>
      Object.values(peers).flatMap((peer) => [
        [`metadata_${name}_time_vs_${peer}`, { meaning: `${meaning}, nothing in the kernel's caches` }],
        [`metadata_${name}_again_time_vs_${peer}`, { meaning: `${meaning}, again` }],
      ]),
    ),
  ),
  async run(context) {
    const { repetitions, progress, chart, note } = context;
    const systems = await fileSystems(context, await treeImage());
    const figures: Figures = {};
    for (const [name, { meaning, time }] of Object.entries(operations)) {
      progress(meaning);
      const again = Object.fromEntries(fileSystemNames.map((system) => [system, [] as number[]])) as Record<
        FileSystemName,
        number[]
      >;
      const side = (system: FileSystemName) => async () => {
        const tree = join(systems[system], TREE.directory);
        await dropCaches(3);
        const first = await time(tree);
        again[system].push(await time(tree));
        return first;
      };
      const sides = Object.fromEntries(fileSystemNames.map((system) => [system, side(system)]));
      const took = await interleaved(
        sides as Record<FileSystemName, () => Promise<number>>,
        Math.min(repetitions, 5),
      );
      for (const [system, peer] of Object.entries(peers) as [keyof typeof peers, string][]) {
        figures[`metadata_${name}_time_vs_${peer}`] = took.ratio('orca', system);
        const ratios = again.orca.map((value, round) => value / again[system][round]!);
        figures[`metadata_${name}_again_time_vs_${peer}`] = median(ratios.slice(1));
      }
      const rows = (values: (system: FileSystemName) => number) =>
        fileSystemNames.map((system) => ({
          label: labels[system],
          value: values(system) * 1000,
          orca: system === 'orca',
        }));
      const cold = rows((system) => took.median[system]);
      const warm = rows((system) => median(again[system].slice(1)));
      chart({ title: `${meaning}, nothing in the kernel's caches`, unit: 'ms', rows: cold });
      chart({ title: `${meaning}, again`, unit: 'ms', rows: warm });
      const text = (list: typeof cold) =>
        list.map(({ label, value }) => `${label} ${value.toFixed(0)}`).join(', ');
      note(`${meaning}, milliseconds: ${text(cold)}; again: ${text(warm)}`);
    }
    return figures;
  },
};

function timed(program: string, ...args: string[]): Promise<number> {
  return seconds(() => run('sh', ['-c', '"$@" > /dev/null', 'sh', program, ...args]));
}
