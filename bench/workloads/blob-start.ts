/**
 * A cold start of Python with numpy from ranges of the unmodified gzip blobs, against the same start from the share: on
 * loopback, and both over a link as to another region.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../test/system/command.js';
import { testImage } from '../../test/system/images.js';
import { Samba } from '../../test/system/samba.js';
import { blobMount, registryWith } from '../blob-mount.js';
import { overlayOver, pythonProcess, timeContainer, writeBundle } from '../bundle.js';
import { LINKS, Link } from '../link/link.js';
import { dropCaches, interleaved, median, seconds } from '../measure.js';
import { expandInto, mountedImage } from '../mounted-image.js';
import type { Workload } from '../workload.js';

export const workload: Workload = {
  figures: {
    blob_start_time_vs_share: { meaning: 'cold start from ranges of blobs ÷ from the share, whole time' },
    blob_start_time_remote_vs_share: { meaning: 'the same over 30 ms and 200 Mbit/s' },
    blob_start_bytes_vs_share: {
      meaning: 'compressed bytes fetched ÷ bytes fetched from the share',
      aim: '≤ 1.5',
    },
    blob_start_cpu_seconds: { meaning: 'CPU seconds of the serving process, its own start included' },
  },
  async run({ work, defer, note, repetitions }) {
    const { directory, tag, check } = await testImage('python');
    const store = join(work, 'store');
    await expandInto(store, directory, tag, 'python');
    const samba = await Samba.start({ shares: { store: { path: store } } });
    defer(() => samba.stop());
    const registry = await registryWith(directory, tag, 'python');
    defer(() => registry.stop());
    const env = { ORCA_SMB_USER: samba.username, ORCA_SMB_PASSWORD: samba.password };
    const links = async () => {
      const ports = { share: 0, blobs: 0 };
      for (const side of ['share', 'blobs'] as const) {
        const link = await Link.open(
          join(work, side),
          side === 'share' ? samba.port : registry.port,
          LINKS.remote,
        );
        defer(() => link.close());
        ports[side] = link.port;
      }
      return ports;
    };
    let starts = 0;
    const start = async (mountpoint: string) => {
      const place = join(work, `start-${starts++}`);
      await mkdir(place);
      const merged = await overlayOver(mountpoint, place);
      try {
        await writeBundle(join(place, 'bundle'), merged, pythonProcess);
        await timeContainer(join(place, 'bundle'), check.stdout!);
      } finally {
        await run('umount', [merged]);
      }
    };
    const bytes = { share: 0, blobs: 0 };
    const cpu: number[] = [];
    const places = { loopback: { share: samba.port, blobs: registry.port }, remote: await links() };
    const fresh = () => {
      const place = join(work, `mount-${starts}`);
      return { cache: join(place, 'cache'), mountpoint: join(place, 'mnt'), image: 'python' };
    };
    const timed = (side: string, time: number) => {
      note(`${side}: ${time.toFixed(2)} s`);
      return time;
    };
    const sides = ({ share, blobs }: { share: number; blobs: number }) => ({
      share: async () => {
        await dropCaches(3);
        const at = fresh();
        let mounted: Awaited<ReturnType<typeof mountedImage>> | undefined;
        const time = await seconds(async () => {
          mounted = await mountedImage(
            { ...at, store: samba.url('store').replace(`:${samba.port}/`, `:${share}/`), profile: false },
            env,
          );
          await start(at.mountpoint);
        });
        const stats = await mounted!.stats();
        bytes.share = Object.values(stats.bytesBySource).reduce((sum, part) => sum + part, 0);
        await mounted!.unmount();
        return timed('share', time);
      },
      blobs: async () => {
        await dropCaches(3);
        const at = fresh();
        const reference = `127.0.0.1:${blobs}/python:1`;
        let mounted: Awaited<ReturnType<typeof blobMount>> | undefined;
        const time = await seconds(async () => {
          mounted = await blobMount({ ...at, store, reference, how: 'ranges' });
          await start(at.mountpoint);
        });
        const stats = await mounted!.stats();
        bytes.blobs = stats.bytes;
        cpu.push(stats.cpu);
        await mounted!.unmount();
        return timed('blobs', time);
      },
    });
    const loopback = await interleaved(sides(places.loopback), repetitions);
    note('remote');
    const remote = await interleaved(sides(places.remote), repetitions);
    note(`MB: share ${(bytes.share / 1e6).toFixed(1)}, blobs ${(bytes.blobs / 1e6).toFixed(1)}`);
    return {
      blob_start_time_vs_share: loopback.ratio('blobs', 'share'),
      blob_start_time_remote_vs_share: remote.ratio('blobs', 'share'),
      blob_start_bytes_vs_share: bytes.blobs / bytes.share,
      blob_start_cpu_seconds: median(cpu),
    };
  },
};
