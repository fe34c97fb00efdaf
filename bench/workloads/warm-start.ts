/**
 * Warm `runc run` of Python with numpy: from the mount with an overlay over it, against the same root file system
 * unpacked on the local disk (used directly, and under an overlay), with one runc configuration.
 */
import { join } from 'node:path';
import { run } from '../../test/system/command.js';
import { testImage } from '../../test/system/images.js';
import { overlayOver, pythonProcess, timeContainer, writeBundle } from '../bundle.js';
import { interleaved } from '../measure.js';
import { expandInto, mountedImage } from '../mounted-image.js';
import type { Workload } from '../workload.js';

export const workload: Workload = {
  figures: {
    warm_start_ms: { meaning: 'runc run of Python+numpy, warm' },
    warm_start_time_vs_ext4: {
      meaning: 'the time ÷ that of the root file system on the local disk',
      aim: '≤ 1.03',
    },
    warm_start_time_vs_overlayfs: {
      meaning: 'the time ÷ that of an overlay over the local disk',
      aim: '≤ 1.03',
    },
  },
  async run({ work, repetitions, defer, note }) {
    const { directory, tag, check } = await testImage('python');
    const store = join(work, 'store');
    await expandInto(store, directory, tag, 'python');
    const orca = await mountedImage({
      store,
      image: 'python',
      cache: join(work, 'cache'),
      mountpoint: join(work, 'orca'),
    });
    defer(() => orca.unmount());
    const unpacked = join(work, 'unpacked');
    await run('umoci', ['unpack', '--image', `${directory}:${tag}`, unpacked]);
    const local = join(unpacked, 'rootfs');
    const roots = {
      orca: await overlayOver(orca.mountpoint, join(work, 'orca-overlay')),
      local,
      overlay: await overlayOver(local, join(work, 'local-overlay')),
    };
    for (const merged of [roots.orca, roots.overlay]) defer(() => run('umount', [merged]));
    const start = async (side: keyof typeof roots) => {
      const bundle = join(work, `bundle-${side}`);
      await writeBundle(bundle, roots[side], pythonProcess);
      return () => timeContainer(bundle, check.stdout!);
    };
    const took = await interleaved(
      { orca: await start('orca'), local: await start('local'), overlay: await start('overlay') },
      repetitions * 3,
    );
    const ms = (time: number) => (time * 1000).toFixed(0);
    note(
      `milliseconds: Orca ${ms(took.median.orca)}, local disk ${ms(took.median.local)}, overlay ${ms(took.median.overlay)}`,
    );
    return {
      warm_start_ms: took.median.orca * 1000,
      warm_start_time_vs_ext4: took.ratio('orca', 'local'),
      warm_start_time_vs_overlayfs: took.ratio('orca', 'overlay'),
    };
  },
};
