/**
 * A first start of Python with numpy: from an encrypted share by a host daemon that has run a container of another image,
 * nothing of this one in its cache, with and without startup profile and preload, with that of an earlier version whose
 * layers are all others, and with that of another program on the same layers; against the same image unpacked on the local
 * disk. Before each the kernel's caches are dropped, and the programs of the host and the files of the server read again
 * (coldHost); every side is an overlay and `runc run` of one bundle.
 */
import { cp, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../test/system/command.js';
import { testImage } from '../../test/system/images.js';
import { Samba } from '../../test/system/samba.js';
import {
  type BundleProcess,
  overlayOver,
  pythonProcess,
  timeContainer,
  withOverlay,
  writeBundle,
} from '../bundle.js';
import { splitImage } from '../images/split-image.js';
import { LINKS, Link } from '../link/link.js';
import { coldHost, cpuSeconds, interleaved, median } from '../measure.js';
import { expandInto } from '../mounted-image.js';
import { bundle, ResidentDaemon } from '../resident-daemon.js';
import type { Figures, Workload } from '../workload.js';

/** The same files in as many layers, none of which has what one of the image has. */
const EARLIER = 'python:earlier';
const LAYERS = 3;
/** The same layers with another config. */
const RELATED = 'service';
const PLACES = { rack: LINKS.rack, region: LINKS.region };
/** The image that the host has a profile of, and what of that is used. */
const SIDES = {
  preload: { profile: 'python', preload: true },
  profile: { profile: 'python', preload: false },
  next: { profile: EARLIER, preload: true },
  related: { profile: RELATED, preload: true },
  none: { profile: undefined, preload: false },
} as const;

/** Of the image that the host has run before. */
const otherProcess: BundleProcess = {
  args: ['/usr/bin/perl', '-MPOSIX', '-e', 'print "other"'],
  env: ['PATH=/usr/bin:/bin'],
  cwd: '/',
  uid: 0,
};

/** What the related image is for. */
const serviceProcess: BundleProcess = {
  ...pythonProcess,
  args: ['python3', '-c', 'import http.server, json, ssl; print("service")'],
};

interface Start {
  /** Milliseconds: until the mount was there, until the overlay was, and until the container had ended. */
  mounted: number;
  overlaid: number;
  total: number;
  /** Of the daemon, from the order to the end of the container. */
  cpu: number;
  misses: number;
  lookups: number;
  fetched: number;
}

export const workload: Workload = {
  figures: {
    cold_start_local_ms: {
      meaning: 'first start of Python+numpy from the local disk, unpacked, cold page cache',
    },
    ...Object.fromEntries(
      Object.keys(PLACES).flatMap((place) => {
        const suffix = place === 'rack' ? '' : `_${place}`;
        const over = place === 'rack' ? '0.5 ms and 10 Gbit/s' : '2 ms and 1 Gbit/s';
        return [
          [
            `cold_profile_time_vs_local_cold${suffix}`,
            {
              meaning: `first start from the share with profile, over ${over} ÷ local`,
              ...(place === 'rack' && { aim: '≤ 0.95' }),
            },
          ],
          [
            `cold_noprofile_time_vs_local_cold${suffix}`,
            { meaning: 'the same without profile', ...(place === 'rack' && { aim: '≤ 1.3' }) },
          ],
          [
            `cold_start_time_preload_vs_none${suffix}`,
            { meaning: 'with profile and preload ÷ without profile' },
          ],
          [
            `cold_start_time_preload_vs_profile${suffix}`,
            { meaning: 'with ÷ without preload, both with profile' },
          ],
          [
            `cold_next_version_time_vs_noprofile${suffix}`,
            {
              meaning:
                'with the profile of an earlier version of other layers, and preload ÷ without profile',
            },
          ],
          [
            `cold_related_time_vs_noprofile${suffix}`,
            {
              meaning:
                'with the profile of another program on the same layers, which is only fetched ÷ without profile',
            },
          ],
          [
            `cold_next_version_time_vs_profile${suffix}`,
            { meaning: 'the same ÷ with the profile of the image itself, and preload' },
          ],
        ];
      }),
    ),
  },
  async run({ work, repetitions, defer, note }) {
    await bundle();
    const python = await testImage('python');
    const { directory, tag, check } = python;
    const store = join(work, 'store');
    await expandInto(store, directory, tag, 'python');
    const earlier = await splitImage(python, LAYERS);
    await expandInto(store, earlier.directory, earlier.tag, EARLIER);
    const related = join(work, 'related');
    await cp(directory, related, { recursive: true });
    await run('umoci', ['config', '--image', `${related}:${tag}`, '--config.label', 'program=service']);
    await expandInto(store, related, tag, RELATED);
    const other = await testImage('nginx');
    await expandInto(store, other.directory, other.tag, 'nginx');
    const unpacked = join(work, 'unpacked');
    await run('umoci', ['unpack', '--image', `${directory}:${tag}`, unpacked]);
    const samba = await Samba.start({ shares: { store: { path: store } }, encryption: 'required' });
    defer(() => samba.stop());
    const environment = { ORCA_SMB_USER: samba.username, ORCA_SMB_PASSWORD: samba.password };
    let starts = 0;

    const programs = {
      python: { process: pythonProcess, stdout: check.stdout! },
      service: { process: serviceProcess, stdout: 'service\n' },
    };
    const startOver = async (
      lower: string,
      place: string,
      mounted: number,
      begun: number,
      { process, stdout } = programs.python,
    ) => {
      const merged = await overlayOver(lower, join(place, 'overlay'));
      try {
        const overlaid = performance.now();
        await writeBundle(join(place, 'bundle'), merged, process);
        await timeContainer(join(place, 'bundle'), stdout);
        const ended = performance.now();
        return { mounted: mounted - begun, overlaid: overlaid - begun, total: ended - begun };
      } finally {
        await run('umount', [merged]);
      }
    };
    const local = async (): Promise<number> => {
      const place = join(work, `local-${starts++}`);
      await mkdir(place);
      await coldHost(store);
      const begun = performance.now();
      return (await startOver(join(unpacked, 'rootfs'), place, begun, begun)).total;
    };
    const orca = async (
      port: number,
      {
        preload,
        image = 'python',
        program,
      }: { preload: boolean; image?: string; program?: (typeof programs)['python'] },
      recorded?: { profiles: string; inventory: string },
    ): Promise<Start & { cache: string; place: string }> => {
      const place = join(work, `start-${starts++}`);
      await mkdir(join(place, 'mnt'), { recursive: true });
      const daemon = await ResidentDaemon.start(place, recorded);
      const { client } = daemon;
      const order = { store: samba.url('store').replace(`:${samba.port}/`, `:${port}/`), environment };
      // As on a host with other containers: the daemon reads from the store already, and has for a while.
      const mounted = join(place, 'other');
      await mkdir(mounted);
      await client.createMount('other', { ...order, image: 'nginx', mountpoint: mounted });
      await withOverlay(mounted, join(place, 'other-overlay'), async (merged) => {
        await writeBundle(join(place, 'other-bundle'), merged, otherProcess);
        await timeContainer(join(place, 'other-bundle'), 'other');
      });
      const pid = await daemon.pid();
      try {
        await coldHost(store);
        const cpu = await cpuSeconds(pid);
        const before = (await client.cache()).bytesFetched;
        const begun = performance.now();
        await client.createMount('start', {
          ...order,
          image,
          mountpoint: join(place, 'mnt'),
          preload,
        });
        const times = await startOver(join(place, 'mnt'), place, performance.now(), begun, program);
        const used = (await cpuSeconds(pid)) - cpu;
        const { requests } = await client.mount('start');
        const fetched = (await client.cache()).bytesFetched - before;
        const metrics = {
          cpu: used,
          misses: requests['READ'] ?? 0,
          lookups: requests['LOOKUP'] ?? 0,
          fetched,
        };
        await client.removeMount('start');
        return { ...times, ...metrics, cache: daemon.cache, place };
      } finally {
        await daemon.stop();
      }
    };
    /** What a host has that has run this image, besides its blocks. */
    const record = async (image: string, program = programs.python) => {
      const { cache } = await orca(samba.port, { preload: false, image, program });
      return { profiles: join(cache, 'profiles'), inventory: join(cache, 'inventory') };
    };
    const recorded = {
      python: await record('python'),
      [EARLIER]: await record(EARLIER),
      [RELATED]: await record(RELATED, programs.service),
    };

    const figures: Figures = {};
    for (const [name, speed] of Object.entries(PLACES)) {
      const link = await Link.open(work, samba.port, speed);
      defer(() => link.close());
      const all: Record<string, Start[]> = {};
      const side = (which: keyof typeof SIDES) => async (): Promise<number> => {
        const { profile, preload } = SIDES[which];
        const one = await orca(link.port, { preload }, profile && recorded[profile]);
        await rm(one.place, { recursive: true });
        all[which] = [...(all[which] ?? []), one];
        return one.total;
      };
      const took = await interleaved(
        {
          ...{ local, preload: side('preload'), profile: side('profile') },
          ...{ next: side('next'), related: side('related'), none: side('none') },
        },
        repetitions,
      );
      await link.close();
      const suffix = name === 'rack' ? '' : `_${name}`;
      figures['cold_start_local_ms'] ??= took.median.local;
      figures[`cold_profile_time_vs_local_cold${suffix}`] = took.ratio('preload', 'local');
      figures[`cold_noprofile_time_vs_local_cold${suffix}`] = took.ratio('none', 'local');
      figures[`cold_start_time_preload_vs_none${suffix}`] = took.ratio('preload', 'none');
      figures[`cold_start_time_preload_vs_profile${suffix}`] = took.ratio('preload', 'profile');
      figures[`cold_next_version_time_vs_noprofile${suffix}`] = took.ratio('next', 'none');
      figures[`cold_related_time_vs_noprofile${suffix}`] = took.ratio('related', 'none');
      figures[`cold_next_version_time_vs_profile${suffix}`] = took.ratio('next', 'preload');
      note(`${name}, local disk: ${took.median.local.toFixed(0)} ms`);
      for (const [which, list] of Object.entries(all)) {
        const of = (key: keyof Start) => median(list.slice(1).map((one) => one[key]));
        note(
          `${name}, ${which}: ${of('total').toFixed(0)} ms (mount ${of('mounted').toFixed(0)}, with overlay ` +
            `${of('overlaid').toFixed(0)}); ${of('lookups')} LOOKUPs, ${of('misses')} READs, ` +
            `${(of('fetched') / 1e6).toFixed(1)} MB fetched, ${of('cpu').toFixed(2)} CPU seconds of the daemon`,
        );
      }
    }
    return figures;
  },
};
