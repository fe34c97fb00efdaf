/** What a hundred mounts cost that nobody reads: CPU of the daemon while they are idle, each with its share open. */
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { addImage, content } from '../../test/source/store-fixture.js';
import { Samba } from '../../test/system/samba.js';
import { cpuSeconds } from '../measure.js';
import { bundle, ResidentDaemon } from '../resident-daemon.js';
import type { Workload } from '../workload.js';

const MOUNTS = 100;
/** Until what starts are recorded for is over. */
const SETTLE_MS = 20_000;

export const workload: Workload = {
  figures: {
    idle_cpu_percent_100_mounts: {
      meaning: `CPU of the daemon with ${MOUNTS} idle mounts, percent of one processor`,
      aim: '< 1',
    },
  },
  async run({ work, quick, defer, progress, note }) {
    await bundle();
    const store = join(work, 'store');
    const names = Array.from({ length: MOUNTS }, (_, i) => `small:${i}`);
    for (const name of names) await addImage(store, name, [{ file: content(name, 200_000) }]);
    const samba = await Samba.start({ shares: { store: { path: store } }, encryption: 'required' });
    defer(() => samba.stop());
    const environment = { ORCA_SMB_USER: samba.username, ORCA_SMB_PASSWORD: samba.password };
    const daemon = await ResidentDaemon.start(join(work, 'host'));
    defer(() => daemon.stop());
    progress(`${MOUNTS} mounts`);
    for (const [i, image] of names.entries()) {
      const mountpoint = join(work, 'mounts', String(i));
      await mkdir(mountpoint, { recursive: true });
      const order = { image, store: samba.url('store'), environment, mountpoint };
      await daemon.client.createMount(`idle-${i}`, order);
      await readFile(join(mountpoint, 'file'));
    }
    const pid = await daemon.pid();
    await sleep(SETTLE_MS);
    const measured = quick ? 20 : 60;
    progress(`${measured} s without a request`);
    const [before, began] = [await cpuSeconds(pid), performance.now()];
    await sleep(measured * 1000);
    const used = (await cpuSeconds(pid)) - before;
    const elapsed = (performance.now() - began) / 1000;
    note(`${used.toFixed(2)} CPU seconds in ${elapsed.toFixed(0)} s`);
    return { idle_cpu_percent_100_mounts: (used / elapsed) * 100 };
  },
};
