/**
 * Expansion of the package layer of the PostgreSQL image, which ends with an fsync, against unpacking the same blob
 * with gunzip and tar, which leaves the writing to the kernel.
 */
import { createReadStream } from 'node:fs';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { expandLayer } from '../../src/layer/expand.js';
import { run } from '../../test/system/command.js';
import { testImage } from '../../test/system/images.js';
import { interleaved, seconds } from '../measure.js';
import type { Workload } from '../workload.js';

export const workload: Workload = {
  figures: {
    expand_mb_per_s: { meaning: 'bytes of the expanded layer per second' },
    expand_rate_vs_gunzip_tar: { meaning: 'its rate ÷ that of gunzip | tar -x' },
  },
  async run({ work, repetitions, note }) {
    const blob = await largestBlob((await testImage('postgres')).directory);
    const output = join(work, 'layer.vhd');
    const unpacked = join(work, 'unpacked');
    let bytes = 0;
    const took = await interleaved(
      {
        async orca() {
          const time = await seconds(async () => {
            bytes = (await expandLayer(createReadStream(blob), { output })).size;
          });
          await rm(output);
          return time;
        },
        async tar() {
          await mkdir(unpacked);
          const script = 'gunzip -c "$1" | tar -x -C "$2"';
          const time = await seconds(() => run('sh', ['-c', script, 'sh', blob, unpacked]));
          await rm(unpacked, { recursive: true });
          return time;
        },
      },
      Math.min(repetitions, 5),
    );
    note(
      `${(bytes / 1e6).toFixed(0)} MB: Orca ${took.median.orca.toFixed(2)} s, gunzip | tar ${took.median.tar.toFixed(2)} s`,
    );
    return {
      expand_mb_per_s: bytes / 1e6 / took.median.orca,
      expand_rate_vs_gunzip_tar: took.ratio('tar', 'orca'),
    };
  },
};

async function largestBlob(layout: string): Promise<string> {
  const directory = join(layout, 'blobs', 'sha256');
  const paths = (await readdir(directory)).map((name) => join(directory, name));
  const sized = await Promise.all(paths.map(async (path) => ({ path, size: (await stat(path)).size })));
  return sized.sort((a, b) => b.size - a.size)[0]!.path;
}
