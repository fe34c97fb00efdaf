/**
 * A first start of Python with numpy from an encrypted share, on an empty cache: with the profile that earlier starts
 * have left against without one.
 */
import { cp, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../test/system/command.js';
import { testImage } from '../../test/system/images.js';
import { Samba } from '../../test/system/samba.js';
import { overlayOver, pythonProcess, timeContainer, writeBundle } from '../bundle.js';
import { dropCaches, interleaved } from '../measure.js';
import { expandInto, mountedImage } from '../mounted-image.js';
import type { Workload } from '../workload.js';

export const workload: Workload = {
  figures: {
    cold_start_ms_with_profile: { meaning: 'first start with a startup profile, mount included' },
    cold_start_time_profile_vs_none: { meaning: 'the time ÷ that of a first start without profile' },
  },
  async run({ work, repetitions, defer, note }) {
    const { directory, tag, check } = await testImage('python');
    const store = join(work, 'store');
    await expandInto(store, directory, tag, 'python');
    const samba = await Samba.start({ shares: { store: { path: store } }, encryption: 'required' });
    defer(() => samba.stop());
    const env = { ORCA_SMB_USER: samba.username, ORCA_SMB_PASSWORD: samba.password };
    const profiles = join(work, 'recorded', 'profiles');
    let starts = 0;

    /** Milliseconds of mount and start. */
    const start = async (cache: string, profile: boolean): Promise<number> => {
      const place = join(work, `start-${starts++}`);
      await mkdir(place);
      await dropCaches(3);
      const begun = performance.now();
      const orca = await mountedImage(
        { store: samba.url('store'), image: 'python', cache, mountpoint: join(place, 'mnt'), profile },
        env,
      );
      let merged: string | undefined;
      try {
        merged = await overlayOver(orca.mountpoint, join(place, 'overlay'));
        await writeBundle(join(place, 'bundle'), merged, pythonProcess);
        await timeContainer(join(place, 'bundle'), check.stdout!);
        return performance.now() - begun;
      } finally {
        if (merged !== undefined) await run('umount', [merged]);
        await orca.unmount();
      }
    };
    await start(join(work, 'recorded'), true);
    const rates = await interleaved(
      {
        async profile() {
          const cache = join(work, `cache-${starts}`);
          await mkdir(cache);
          await cp(profiles, join(cache, 'profiles'), { recursive: true });
          return start(cache, true);
        },
        none: () => start(join(work, `cache-${starts}`), false),
      },
      repetitions,
    );
    note(
      `ms: with profile ${rates.median.profile.toFixed(0)}, without ${rates.median.none.toFixed(0)} (the server process starts in both)`,
    );
    return {
      cold_start_ms_with_profile: rates.median.profile,
      cold_start_time_profile_vs_none: rates.ratio('profile', 'none'),
    };
  },
};
