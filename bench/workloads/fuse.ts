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
    cached_read_gb_per_s: { meaning: 'sequential read, cached blocks, cold page cache', aim: '≥ 3' },
    cached_read_rate_vs_fuse_native: { meaning: 'the rate ÷ that of fuse-native', aim: '≥ 5' },
    lookups_per_s_without_poll: { meaning: 'lookups, ORCA_SESSION_POLL=0' },
    lookup_rate_poll_vs_none: { meaning: 'lookups per second ÷ those without polling' },
    cached_read_gb_per_s_without_splice: { meaning: 'cached read, ORCA_SESSION_SPLICE=off' },
    cached_read_rate_splice_vs_none: { meaning: 'the rate ÷ that without splice' },
  },
  async run({ work, repetitions, defer, note }) {
    const store = join(work, 'store');
    await expandInto(store, await bulkImage(), bulk.tag, 'bulk');
    const mounted = async (name: string, env: NodeJS.ProcessEnv = {}) => {
      const mountpoint = join(work, name);
      const mount = await mountedImage(
        { store, image: 'bulk', cache: join(work, 'cache'), mountpoint, profile: false },
        env,
      );
      defer(() => mount.unmount());
      return mountpoint;
    };
    const orca = await mounted('orca');
    const local = join(work, 'local');
    await run('cp', ['-a', `${orca}/.`, local]); // also fills the cache
    const peer = join(work, 'fuse-native');
    defer(await mountFuseNative(local, peer));
    await raiseReadAhead(peer);
    const withoutPoll = await mounted('without-poll', { ORCA_SESSION_POLL: '0' });
    const withoutSplice = await mounted('without-splice', { ORCA_SESSION_SPLICE: 'off' });

    const lookups = async (root: string) => {
      await dropCaches(2);
      const paths = bulkPaths().map((path) => join(root, path));
      return paths.length / (await timeLookups(paths));
    };
    const lookupRates = await interleaved(
      {
        orca: () => lookups(orca),
        fuseNative: () => lookups(peer),
        withoutPoll: () => lookups(withoutPoll),
      },
      repetitions,
    );
    note(
      `lookups per second: Orca ${lookupRates.median.orca.toFixed(0)}, fuse-native ${lookupRates.median.fuseNative.toFixed(0)}, without polling ${lookupRates.median.withoutPoll.toFixed(0)}`,
    );

    // Dropping caches above has dropped the files behind the mounts, too.
    await run('sh', ['-c', 'cat "$@" > /dev/null', 'sh', join(local, bulk.bigFile)]);
    await run('sh', ['-c', 'cat "$1"/layers/*.data > /dev/null', 'sh', join(work, 'cache')]);
    const reads = async (root: string) =>
      bulk.bigFileBytes / 1e9 / (await timeRead(join(root, bulk.bigFile)));
    const readRates = await interleaved(
      { orca: () => reads(orca), fuseNative: () => reads(peer), withoutSplice: () => reads(withoutSplice) },
      repetitions,
    );
    note(
      `GB per second: Orca ${readRates.median.orca.toFixed(2)}, fuse-native ${readRates.median.fuseNative.toFixed(2)}, without splice ${readRates.median.withoutSplice.toFixed(2)}`,
    );
    return {
      lookups_per_s: lookupRates.median.orca,
      lookup_rate_vs_fuse_native: lookupRates.ratio('orca', 'fuseNative'),
      cached_read_gb_per_s: readRates.median.orca,
      cached_read_rate_vs_fuse_native: readRates.ratio('orca', 'fuseNative'),
      lookups_per_s_without_poll: lookupRates.median.withoutPoll,
      lookup_rate_poll_vs_none: lookupRates.ratio('orca', 'withoutPoll'),
      cached_read_gb_per_s_without_splice: readRates.median.withoutSplice,
      cached_read_rate_splice_vs_none: readRates.ratio('orca', 'withoutSplice'),
    };
  },
};
