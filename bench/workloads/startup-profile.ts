/**
 * A first start of Python with numpy from an encrypted share, on an empty cache: with the profile that earlier starts
 * have left against without one. On loopback, and over links of a rack and of a region.
 */
import { cp, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../test/system/command.js';
import { testImage } from '../../test/system/images.js';
import { Samba } from '../../test/system/samba.js';
import { overlayOver, pythonProcess, timeContainer, writeBundle } from '../bundle.js';
import { LINKS, Link } from '../link/link.js';
import { cpuSeconds, dropCaches, interleaved, median } from '../measure.js';
import { expandInto, mountedImage } from '../mounted-image.js';
import type { Figures, Workload } from '../workload.js';

const PLACES = { loopback: undefined, rack: LINKS.rack, region: LINKS.region };

/** One start. */
interface Start {
  /** Milliseconds from the start of the serving process to the end of the container. */
  total: number;
  /** Of these, after the mount was there. */
  run: number;
  /** READs that waited; bytes that came from the share; CPU seconds of the serving process. */
  misses: number;
  bytes: number;
  cpu: number;
}

export const workload: Workload = {
  figures: {
    cold_start_ms_with_profile: { meaning: 'first start with a startup profile, mount included, loopback' },
    cold_start_time_profile_vs_none: { meaning: 'the time ÷ that of a first start without profile' },
    cold_start_time_profile_vs_none_rack: { meaning: 'the same over 0.5 ms and 10 Gbit/s' },
    cold_run_time_profile_vs_none_rack: { meaning: 'of that, after the mount is there' },
    cold_start_time_profile_vs_none_region: { meaning: 'the same over 2 ms and 1 Gbit/s' },
    cold_run_time_profile_vs_none_region: { meaning: 'of that, after the mount is there' },
  },
  async run({ work, repetitions, defer, note }) {
    const { directory, tag, check } = await testImage('python');
    const store = join(work, 'store');
    await expandInto(store, directory, tag, 'python');
    const samba = await Samba.start({ shares: { store: { path: store } }, encryption: 'required' });
    defer(() => samba.stop());
    const env = { ORCA_SMB_USER: samba.username, ORCA_SMB_PASSWORD: samba.password };
    let starts = 0;

    const start = async (port: number, cache: string, profile: boolean): Promise<Start> => {
      const place = join(work, `start-${starts++}`);
      await mkdir(place);
      await dropCaches(3);
      const begun = performance.now();
      const orca = await mountedImage(
        {
          store: samba.url('store').replace(`:${samba.port}/`, `:${port}/`),
          image: 'python',
          cache,
          mountpoint: join(place, 'mnt'),
          profile,
        },
        env,
      );
      const mounted = performance.now();
      let merged: string | undefined;
      try {
        merged = await overlayOver(orca.mountpoint, join(place, 'overlay'));
        await writeBundle(join(place, 'bundle'), merged, pythonProcess);
        await timeContainer(join(place, 'bundle'), check.stdout!);
        const end = performance.now();
        const cpu = await cpuSeconds(orca.pid);
        const { session, bytesBySource } = await orca.stats();
        const bytes = Object.values(bytesBySource).reduce((sum, of) => sum + of, 0);
        return { total: end - begun, run: end - mounted, misses: session.readMisses, bytes, cpu };
      } finally {
        if (merged !== undefined) await run('umount', [merged]);
        await orca.unmount();
      }
    };
    const recorded = join(work, 'recorded');
    await start(samba.port, recorded, true);

    const figures: Figures = {};
    for (const [name, speed] of Object.entries(PLACES)) {
      const link = speed === undefined ? undefined : await Link.open(work, samba.port, speed);
      const all = { profile: [] as Start[], none: [] as Start[] };
      const side = (profile: boolean) => async (): Promise<number> => {
        const cache = join(work, `cache-${starts}`);
        await mkdir(cache);
        if (profile) await cp(join(recorded, 'profiles'), join(cache, 'profiles'), { recursive: true });
        const one = await start(link?.port ?? samba.port, cache, profile);
        await rm(cache, { recursive: true });
        all[profile ? 'profile' : 'none'].push(one);
        return one.total;
      };
      const rates = await interleaved({ profile: side(true), none: side(false) }, repetitions);
      await link?.close();
      const suffix = speed === undefined ? '' : `_${name}`;
      if (speed === undefined) figures['cold_start_ms_with_profile'] = rates.median.profile;
      figures[`cold_start_time_profile_vs_none${suffix}`] = rates.ratio('profile', 'none');
      const pairs = all.profile.slice(1).map((one, round) => one.run / all.none[round + 1]!.run);
      if (speed !== undefined) figures[`cold_run_time_profile_vs_none${suffix}`] = median(pairs);
      for (const [which, list] of Object.entries(all)) {
        const of = (key: keyof Start) => median(list.slice(1).map((one) => one[key]));
        note(
          `${name}, ${which === 'none' ? 'without' : 'with'} profile: ${of('total').toFixed(0)} ms, of these ${of('run').toFixed(0)} ` +
            `after the mount was there; ${of('misses')} READs waited, ${(of('bytes') / 1e6).toFixed(1)} MB fetched, ` +
            `${of('cpu').toFixed(2)} CPU seconds of the serving process`,
        );
      }
    }
    return figures;
  },
};
