/** Memory of the serving process while three layers of 1 GiB are expanded by the host, and while they come as streams. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../test/system/command.js';
import { blobMount, registryWith } from '../blob-mount.js';
import { largeFolders, largeImage, largeTag } from '../large-layers.js';
import { seconds } from '../measure.js';
import type { Workload } from '../workload.js';

export const workload: Workload = {
  figures: {
    blob_stream_peak_rss_mb: {
      meaning: 'MiB resident at most, three 1 GiB layers as streams at once',
      aim: '< 300',
    },
    blob_expand_peak_rss_mb: { meaning: 'MiB resident at most, the host expands them at once', aim: '< 300' },
  },
  async run({ work, defer, note }) {
    const registry = await registryWith(await largeImage(), largeTag, 'large');
    defer(() => registry.stop());
    const request = {
      reference: `127.0.0.1:${registry.port}/large:1`,
      image: 'large',
      cache: join(work, 'cache'),
      mountpoint: join(work, 'mnt'),
    };
    const peak = async (how: 'expand' | 'stream') => {
      let mount: Awaited<ReturnType<typeof blobMount>> | undefined;
      const time = await seconds(async () => {
        mount = await blobMount({ ...request, how });
        await Promise.all(
          largeFolders.map((folder) =>
            run('sh', ['-c', 'cat "$1"/* > /dev/null', 'sh', join(request.mountpoint, folder)]),
          ),
        );
      });
      const stats = await mount!.stats();
      await mount!.unmount();
      note(
        `${how}: ${time.toFixed(0)} s, ${stats.cpu.toFixed(0)} CPU seconds, ${(stats.bytes / 1e6).toFixed(0)} MB fetched by the source, ${stats.peak.toFixed(0)} MiB`,
      );
      return stats.peak;
    };
    const expanded = await peak('expand');
    await rm(join(request.cache, 'layers'), { recursive: true });
    return { blob_stream_peak_rss_mb: await peak('stream'), blob_expand_peak_rss_mb: expanded };
  },
};
