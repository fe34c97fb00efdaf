/**
 * One image of Project Teleport's published table: from its name to the end of a container that imports numpy and adds
 * (or, the tiny one, prints a line), by pulling and unpacking, from the share, and from the local disk.
 */
import { join } from 'node:path';
import { run } from '../../test/system/command.js';
import { ImageServer, registryData } from '../image-server.js';
import { type TableImageName, tableImage, warmUpImage } from '../images/table-images.js';
import { LINKS } from '../link/link.js';
import { coldHost, median } from '../measure.js';
import { bundle } from '../resident-daemon.js';
import { numberText } from '../results.js';
import type { Figures, Workload, WorkloadContext } from '../workload.js';
import { HostSides, MEASURED } from './host-sides.js';

export interface TableRow {
  /** Of pull_time_vs_cold_NAME. */
  aim: string;
  /** Bytes are many: that often it is pulled, at most. */
  pulls: number;
}

type LinkName = keyof typeof LINKS;

/** Seconds, one for each round. */
type Sides = Record<'skopeo' | 'containerd' | 'orca' | 'profile' | 'warm', number[]>;

export function tableWorkload(name: TableImageName, { aim, pulls }: TableRow): Workload {
  const suffix = (link: LinkName) => (link === 'rack' ? name : `${name}_${link}`);
  const figuresOf = (link: LinkName): Workload['figures'] => {
    const where = `${name}, link of ${LINKS[link].roundTrip} ms and ${LINKS[link].bandwidth} Mbit/s`;
    return {
      [`pull_time_vs_cold_${suffix(link)}`]: {
        meaning: `pull + unpack + run by whoever is faster, skopeo + umoci or containerd ÷ Orca cold; ${where}`,
        ...(link === 'rack' ? { aim } : {}),
      },
      [`pull_time_vs_cold_profile_${suffix(link)}`]: { meaning: 'the same with a startup profile' },
      [`cold_time_vs_local_cold_${suffix(link)}`]: {
        meaning: 'Orca cold ÷ the unpacked image with cold page cache',
      },
      [`cold_profile_time_vs_local_cold_${suffix(link)}`]: { meaning: 'the same with a startup profile' },
    };
  };
  const links: LinkName[] = ['rack', 'region', 'remote'];
  return {
    figures: Object.assign({}, ...links.map(figuresOf)),
    async run(context) {
      const { work, repetitions, quick, progress, note } = context;
      await bundle();
      const [image, warmUp] = [await tableImage(name, progress), await warmUpImage()];
      const data = await registryData(image.tag, { [MEASURED]: image }, progress);
      const cold = () => coldHost(data);
      const sides = new HostSides(work, image, warmUp, cold);
      progress('unpacking the local image');
      const unpacked = await sides.unpack();
      note(`files of the image: ${numberText((await fileBytes(join(unpacked, 'rootfs'))) / 1e6)} MB`);
      const figures: Figures = {};
      for (const link of quick ? links.slice(0, 1) : links) {
        const server = await ImageServer.start(work, data, LINKS[link]);
        try {
          const profiles = join(work, `profiles-${link}`);
          progress(`${link}: a run that records a profile`);
          await sides.orca(server.host, { keep: profiles });
          const took: Sides = { skopeo: [], containerd: [], orca: [], profile: [], warm: [] };
          const local = { cold: [] as number[], warm: [] as number[] };
          for (let round = 0; round < Math.min(repetitions, 5); round++) {
            progress(`${link}: round ${round + 1}`);
            const { cold, warm } = await sides.orca(server.host);
            took.orca.push(cold);
            took.warm.push(warm);
            took.profile.push((await sides.orca(server.host, { profiles })).cold);
            local.cold.push(await sides.local(unpacked, 'cold'));
            local.warm.push(await sides.local(unpacked, 'warm'));
            if (round >= pulls) continue;
            took.skopeo.push(await sides.skopeoUmoci(server.host));
            took.containerd.push(await sides.containerd(server.host));
          }
          report(context, name, link, took, local);
          const [orca, profile, localCold] = [took.orca, took.profile, local.cold].map(median);
          const pull = Math.min(median(took.skopeo), median(took.containerd));
          figures[`pull_time_vs_cold_${suffix(link)}`] = pull / orca!;
          figures[`pull_time_vs_cold_profile_${suffix(link)}`] = pull / profile!;
          figures[`cold_time_vs_local_cold_${suffix(link)}`] = orca! / localCold!;
          figures[`cold_profile_time_vs_local_cold_${suffix(link)}`] = profile! / localCold!;
        } finally {
          await server.stop();
        }
      }
      return figures;
    },
  };
}

function report(
  { chart, note }: WorkloadContext,
  name: string,
  link: LinkName,
  took: Sides,
  local: { cold: number[]; warm: number[] },
): void {
  const rows = [
    { label: 'pull, unpack, run: skopeo, umoci', value: median(took.skopeo) },
    { label: 'pull, unpack, run: containerd', value: median(took.containerd) },
    { label: 'Orca, cold', value: median(took.orca), orca: true },
    { label: 'Orca, cold, with a profile', value: median(took.profile), orca: true },
    { label: 'Orca, warm', value: median(took.warm), orca: true },
    { label: 'local image, cold page cache', value: median(local.cold) },
    { label: 'local image, warm', value: median(local.warm) },
  ];
  chart({ title: `${name}, ${link}: from a name to the end of a container`, unit: 's', rows });
  note(`${link}, seconds: ${rows.map(({ label, value }) => `${label} ${value.toFixed(2)}`).join('; ')}`);
}

async function fileBytes(directory: string): Promise<number> {
  const sizes = await run('find', [directory, '-type', 'f', '-printf', '%s\n']);
  return sizes.split('\n').reduce((sum, size) => sum + Number(size), 0);
}
