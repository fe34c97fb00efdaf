/**
 * The mount against a FUSE server on fuse-native that serves the same tree: lookups with cold dentries, and
 * sequential reads of a fully cached file with none of its pages in the page cache (the file that backs it is).
 */

import { join } from 'node:path';
import { run } from '../../test/system/command.js';
import { bulk, bulkImage, bulkPaths } from '../bulk-image.js';
import { timeLookups, timeRead } from '../clients.js';
import { raiseReadAhead } from '../file-systems.js';
import { dropCaches, interleaved } from '../measure.js';
import { expandInto, mountedImage } from '../mounted-image.js';
import { mountFuseNative } from '../peers/fuse-native.js';
import type { Workload } from '../workload.js';

export const workload: Workload = {
  figures: {
    lookups_per_s: { meaning: 'lstat of 20,000 files, cold dentries, one thread' },
    lookup_rate_vs_fuse_native: { meaning: 'lookups per second ÷ those of fuse-native', aim: '≥ 3' },
    cached_read_gb_per_s: { meaning: 'sequential read, cached blocks, cold page cache' },
    cached_read_rate_vs_fuse_native: { meaning: 'the rate ÷ that of fuse-native', aim: '≥ 5' },
  },
  async run({ work, repetitions, defer, note }) {
    const store = join(work, 'store');
    await expandInto(store, await bulkImage(), bulk.tag, 'bulk');
    const orca = await mountedImage({
      store,
      image: 'bulk',
      cache: join(work, 'cache'),
      mountpoint: join(work, 'orca'),
    });
    defer(() => orca.unmount());
    const local = join(work, 'local');
    await run('cp', ['-a', `${orca.mountpoint}/.`, local]); // also fills the cache
    const peer = join(work, 'fuse-native');
    defer(await mountFuseNative(local, peer));
    await raiseReadAhead(peer);

    const lookups = async (root: string) => {
      await dropCaches(2);
      const paths = bulkPaths().map((path) => join(root, path));
      return paths.length / (await timeLookups(paths));
    };
    const lookupRates = await interleaved(
      { orca: () => lookups(orca.mountpoint), fuseNative: () => lookups(peer) },
      repetitions,
    );
    note(
      `lookups per second: Orca ${lookupRates.median.orca.toFixed(0)}, fuse-native ${lookupRates.median.fuseNative.toFixed(0)}`,
    );

    // Dropping caches above has dropped the files behind the mounts, too.
    await run('sh', ['-c', 'cat "$@" > /dev/null', 'sh', join(local, bulk.bigFile)]);
    await run('sh', ['-c', 'cat "$1"/layers/*.data > /dev/null', 'sh', join(work, 'cache')]);
    const reads = async (root: string) =>
      bulk.bigFileBytes / 1e9 / (await timeRead(join(root, bulk.bigFile)));
    const readRates = await interleaved(
      { orca: () => reads(orca.mountpoint), fuseNative: () => reads(peer) },
      repetitions,
    );
    note(
      `GB per second: Orca ${readRates.median.orca.toFixed(2)}, fuse-native ${readRates.median.fuseNative.toFixed(2)}`,
    );
    return {
      lookups_per_s: lookupRates.median.orca,
      lookup_rate_vs_fuse_native: lookupRates.ratio('orca', 'fuseNative'),
      cached_read_gb_per_s: readRates.median.orca,
      cached_read_rate_vs_fuse_native: readRates.ratio('orca', 'fuseNative'),
    };
  },
};
