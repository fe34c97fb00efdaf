/**
 * An image that nobody has expanded, under containerd: pulled and run through `orca snapshotter`, which reads it from its
 * blobs, beside the same by overlayfs. Each round begins with an empty containerd and an empty block cache.
 */
import { packageFile } from '../../src/installation.js';
import { run } from '../../test/system/command.js';
import { DockerRegistry } from '../../test/system/docker-registry.js';
import { testImage } from '../../test/system/images.js';
import { SnapshotterHost } from '../../test/system/snapshotter-host.js';
import { interleaved, seconds } from '../measure.js';
import type { Workload } from '../workload.js';

const COMMAND = ['python3', '-c', 'import numpy; print("done")'];

export const workload: Workload = {
  figures: {
    containerd_unexpanded_time_vs_overlayfs: {
      meaning:
        'ctr-remote images rpull and ctr run by orca, of blobs ÷ ctr images pull and ctr run by overlayfs',
      aim: '≤ 1',
    },
  },
  async run({ repetitions, defer, note }) {
    await run(process.execPath, [packageFile('bundle.js')]);
    const registry = await DockerRegistry.start();
    defer(() => registry.stop());
    const { directory, tag } = await testImage('python');
    const reference = `${registry.host}/python:1`;
    const target = `docker://${reference}`;
    await run('skopeo', ['copy', '--dest-tls-verify=false', `oci:${directory}:${tag}`, target]);
    const pulls = {
      orca: (host: SnapshotterHost) => host.pull(reference),
      overlayfs: (host: SnapshotterHost) => host.ctr('images', 'pull', '--plain-http', reference),
    };
    const side = (snapshotter: keyof typeof pulls) => async () => {
      const host = await SnapshotterHost.start([], { script: packageFile('dist/bin/orca.js') });
      try {
        return await seconds(async () => {
          await pulls[snapshotter](host);
          const id = `orca-bench-${process.pid}`;
          await host.ctr('run', '--rm', '--snapshotter', snapshotter, reference, id, ...COMMAND);
        });
      } finally {
        await host.stop();
      }
    };
    const { median, ratio } = await interleaved(
      { orca: side('orca'), overlayfs: side('overlayfs') },
      repetitions,
    );
    note(`orca ${median.orca.toFixed(2)} s, overlayfs ${median.overlayfs.toFixed(2)} s`);
    return { containerd_unexpanded_time_vs_overlayfs: ratio('orca', 'overlayfs') };
  },
};
