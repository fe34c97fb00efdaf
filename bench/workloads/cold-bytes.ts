/**
 * What a cold start of Python with numpy fetches from the share: against the bytes that the kernel asked for with READ
 * (read-ahead included), and against the bytes that the container touched, which a second mount counts with
 * read-ahead off.
 */
import { join } from 'node:path';
import { run } from '../../test/system/command.js';
import { testImage } from '../../test/system/images.js';
import { Samba } from '../../test/system/samba.js';
import { overlayOver, pythonProcess, timeContainer, writeBundle } from '../bundle.js';
import { dropCaches } from '../measure.js';
import { expandInto, type MountRequest, mountedImage } from '../mounted-image.js';
import type { Workload } from '../workload.js';

export const workload: Workload = {
  figures: {
    cold_bytes_fetched_vs_read: {
      meaning: 'bytes fetched from the share ÷ bytes in replies to READ',
      aim: '≤ 1.5',
    },
    cold_bytes_fetched_vs_touched: { meaning: 'bytes fetched ÷ bytes of pages that the container touched' },
    cold_bytes_fetched_vs_image: { meaning: 'bytes fetched ÷ bytes of all layers' },
  },
  async run({ work, defer, note }) {
    const { directory, tag, check } = await testImage('python');
    const store = join(work, 'store');
    await expandInto(store, directory, tag, 'python');
    const samba = await Samba.start({ shares: { store: { path: store } } });
    defer(() => samba.stop());
    const env = { ORCA_SMB_USER: samba.username, ORCA_SMB_PASSWORD: samba.password };

    const start = async (name: string, readAhead?: number) => {
      const request: MountRequest = {
        store: samba.url('store'),
        image: 'python',
        cache: join(work, 'cache'),
        mountpoint: join(work, name),
        ...(readAhead === undefined ? {} : { readAhead }),
      };
      const orca = await mountedImage(request, env);
      let merged: string | undefined;
      try {
        merged = await overlayOver(orca.mountpoint, join(work, `${name}-overlay`));
        await writeBundle(join(work, `${name}-bundle`), merged, pythonProcess);
        await dropCaches(3);
        await timeContainer(join(work, `${name}-bundle`), check.stdout!);
        return await orca.stats();
      } finally {
        if (merged !== undefined) await run('umount', [merged]);
        await orca.unmount();
      }
    };
    const cold = await start('cold');
    const fetched = Object.values(cold.bytesBySource).reduce((sum, bytes) => sum + bytes, 0);
    const read = cold.session.bytesRead;
    const touched = (await start('touched', 0)).session.bytesRead;
    const image = Number((await run('du', ['-cb', join(store, 'layers')])).trim().split(/\s+/).at(-2));
    const MB = (bytes: number) => (bytes / 1e6).toFixed(1);
    note(`MB: fetched ${MB(fetched)}, READ ${MB(read)}, touched ${MB(touched)}, image ${MB(image)}`);
    return {
      cold_bytes_fetched_vs_read: fetched / read,
      cold_bytes_fetched_vs_touched: fetched / touched,
      cold_bytes_fetched_vs_image: fetched / image,
    };
  },
};
