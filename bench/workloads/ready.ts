/**
 * Containers until they are ready: a shell and Python with numpy until they have printed and ended, Node, nginx and
 * Java until they answer over HTTP, PostgreSQL until initdb is done and a first query answered. `orca run` from a
 * share behind a link of 0.5 ms against runc and an overlay over the unpacked image on the local disk.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ImageServer, registryData } from '../image-server.js';
import { type ReadyImageName, readyImage, readyImageNames } from '../images/ready-images.js';
import { warmUpImage } from '../images/table-images.js';
import { LINKS } from '../link/link.js';
import { coldHost, median } from '../measure.js';
import { bundle } from '../resident-daemon.js';
import { HostSides, MEASURED } from '../table/host-sides.js';
import type { Figures, Workload, WorkloadContext } from '../workload.js';

export const workload: Workload = {
  figures: Object.assign(
    {},
    ...readyImageNames.map((name): Workload['figures'] => ({
      [`ready_cold_time_vs_local_cold_${name}`]: {
        meaning: `${name}: Orca cold ÷ local image, cold page cache`,
      },
      [`ready_cold_profile_time_vs_local_cold_${name}`]: { meaning: 'the same with a startup profile' },
      [`ready_warm_time_vs_local_warm_${name}`]: { meaning: 'Orca, run before ÷ local image, warm' },
    })),
  ),
  async run(context) {
    await bundle();
    const figures: Figures = {};
    for (const name of context.quick ? (['shell', 'python'] as const) : readyImageNames)
      Object.assign(figures, await measure(context, name));
    return figures;
  },
};

async function measure(context: WorkloadContext, name: ReadyImageName): Promise<Figures> {
  const { repetitions, progress, chart, note } = context;
  const work = join(context.work, name);
  await mkdir(work);
  const [image, warmUp] = [await readyImage(name, progress), await warmUpImage()];
  const data = await registryData(`ready-${name}`, { [MEASURED]: image }, progress);
  const sides = new HostSides(work, image, warmUp, () => coldHost(data));
  const unpacked = await sides.unpack();
  const server = await ImageServer.start(work, data, LINKS.rack);
  try {
    const profiles = join(work, 'profiles');
    await sides.orca(server.host, { keep: profiles });
    const rounds = Math.min(repetitions, 5);
    const took: Record<'cold' | 'profile' | 'warm' | 'localCold' | 'localWarm', number[]> = {
      cold: [],
      profile: [],
      warm: [],
      localCold: [],
      localWarm: [],
    };
    for (let round = 0; round < rounds; round++) {
      progress(`${name}: round ${round + 1} of ${rounds}`);
      const { cold, warm } = await sides.orca(server.host);
      took.cold.push(cold);
      took.warm.push(warm);
      took.profile.push((await sides.orca(server.host, { profiles })).cold);
      took.localCold.push(await sides.local(unpacked, 'cold'));
      took.localWarm.push(await sides.local(unpacked, 'warm'));
    }
    const ratio = (of: number[], to: number[]) => median(of.map((time, round) => time / to[round]!));
    const rows = [
      { label: 'Orca, cold', value: median(took.cold), orca: true },
      { label: 'Orca, cold, with a profile', value: median(took.profile), orca: true },
      { label: 'Orca, run before', value: median(took.warm), orca: true },
      { label: 'local image, cold page cache', value: median(took.localCold) },
      { label: 'local image, warm', value: median(took.localWarm) },
    ];
    chart({ title: `${name}: until ready`, unit: 's', rows });
    note(`${name}, seconds: ${rows.map(({ label, value }) => `${label} ${value.toFixed(2)}`).join('; ')}`);
    return {
      [`ready_cold_time_vs_local_cold_${name}`]: ratio(took.cold, took.localCold),
      [`ready_cold_profile_time_vs_local_cold_${name}`]: ratio(took.profile, took.localCold),
      [`ready_warm_time_vs_local_warm_${name}`]: ratio(took.warm, took.localWarm),
    };
  } finally {
    await server.stop();
  }
}
