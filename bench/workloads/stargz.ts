/**
 * The stargz snapshotter, where it is on the PATH, beside `orca snapshotter` and overlayfs: Python with numpy by
 * containerd, on hosts that have nothing yet, over a link. And what a container sees when a snapshotter is killed.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DaemonClient } from '../../src/daemon/client.js';
import { socketOf } from '../../src/daemon/start.js';
import { run } from '../../test/system/command.js';
import { DockerRegistry } from '../../test/system/docker-registry.js';
import { testImage } from '../../test/system/images.js';
import type { SnapshotterHost } from '../../test/system/snapshotter-host.js';
import { ImageServer, registryData } from '../image-server.js';
import { estargzImage } from '../images/estargz-image.js';
import { READER_COMMAND, readThrough } from '../kill-reader.js';
import { LINKS, Link } from '../link/link.js';
import { interleaved, median } from '../measure.js';
import { STARGZ, StargzHost } from '../peers/stargz-host.js';
import { bundle } from '../resident-daemon.js';
import { type Server, SnapshotterSide, type Started } from '../snapshotter-sides.js';
import type { Figures, Workload, WorkloadContext } from '../workload.js';

const COMMAND = ['python3', '-c', 'import numpy; print("done")'];
const PLACES = { '': 'rack', _region: 'region' } as const;
const REPOSITORY = 'python';
/** For the next container after a kill: containerd dials a plugin anew only after a while. */
const RETRY_MS = 60_000;

const SIDES = {
  stargz: 'stargz snapshotter, eStargz',
  orca_blob: 'orca snapshotter, the same eStargz',
  orca_share: 'orca snapshotter, share',
  orca_share_profile: 'orca snapshotter, share, with a profile',
  overlayfs: 'overlayfs, pulled',
} as const;
type Side = keyof typeof SIDES;
const PEERS = Object.keys(SIDES).filter((side) => side !== 'stargz') as Side[];

const meanings: Workload['figures'] = {};
for (const place of Object.keys(PLACES))
  for (const peer of PEERS) {
    const of = `stargz ÷ ${SIDES[peer]}`;
    meanings[`stargz_cold_time_vs_${peer}${place}`] = { meaning: `pull and run on an empty host: ${of}` };
    meanings[`stargz_warm_time_vs_${peer}${place}`] = { meaning: `a second container: ${of}` };
    meanings[`stargz_bytes_vs_${peer}${place}`] = { meaning: `bytes over the link of the first: ${of}` };
  }

export const workload: Workload = {
  figures: meanings,
  async unavailable() {
    const found = await run(STARGZ, ['--version']).catch(() => undefined);
    return found === undefined ? `${STARGZ} is not on the PATH` : undefined;
  },
  async run(context) {
    const { work, defer, progress, quick, note } = context;
    note(`${(await run(STARGZ, ['--version'])).trim()}, ${(await run('containerd', ['--version'])).trim()}`);
    await bundle();
    const image = await testImage('python');
    progress('converting to eStargz');
    const layouts = { esgz: await estargzImage(COMMAND), plain: `${image.directory}:${image.tag}` };
    const registry = await DockerRegistry.start();
    defer(() => registry.stop());
    for (const [tag, layout] of Object.entries(layouts)) {
      const options = ['--preserve-digests', '--dest-tls-verify=false'];
      await run('skopeo', [
        'copy',
        ...options,
        `oci:${layout}`,
        `docker://${registry.host}/${REPOSITORY}:${tag}`,
      ]);
    }
    const data = await registryData('python', { [REPOSITORY]: image }, progress);
    const figures: Figures = {};
    for (const [place, name] of Object.entries(PLACES).slice(0, quick ? 1 : 2)) {
      const link = await Link.open(work, registry.port, LINKS[name]);
      const share = await ImageServer.start(work, data, LINKS[name]);
      const blobs = (tag: string): Server => ({
        reference: `127.0.0.1:${link.port}/${REPOSITORY}:${tag}`,
        files: registry.directory,
        bytes: () => link.bytes(),
      });
      try {
        const expanded = {
          reference: `${share.host}/${REPOSITORY}:${image.tag}`,
          files: data,
          bytes: () => share.bytes(),
        };
        Object.assign(figures, await startTimes(context, place, blobs, expanded));
        if (place === '') await kills(context, blobs('esgz').reference);
      } finally {
        await share.stop();
        await link.close();
      }
    }
    return figures;
  },
};

async function startTimes(
  { work, repetitions, note, chart, progress }: WorkloadContext,
  place: keyof typeof PLACES | string,
  blobs: (tag: string) => Server,
  expanded: Server,
): Promise<Figures> {
  const profiles = join(work, `profiles${place}`);
  const args = ['--transports', 'smb'];
  const share = new SnapshotterSide('orca', expanded, COMMAND, { args });
  progress(`a run that records a profile${place}`);
  await share.record(profiles);
  const sides: Record<Side, SnapshotterSide> = {
    stargz: new SnapshotterSide('stargz', blobs('esgz'), COMMAND),
    orca_blob: new SnapshotterSide('orca', blobs('esgz'), COMMAND),
    orca_share: share,
    orca_share_profile: new SnapshotterSide('orca', expanded, COMMAND, { args, profiles }),
    overlayfs: new SnapshotterSide('overlayfs', blobs('plain'), COMMAND),
  };
  const seen = {} as Record<Side, Started[]>;
  const measures = Object.entries(sides).map(([name, side]) => {
    seen[name as Side] = [];
    return [
      name,
      async () => {
        const started = await side.start({ settle: seen[name as Side].length === 0 });
        seen[name as Side].push(started);
        return started.cold;
      },
    ];
  });
  const { ratio } = await interleaved<Side>(Object.fromEntries(measures), Math.min(repetitions, 5));
  const figures: Figures = {};
  // The first round does not count.
  const middle = (side: Side, what: 'cold' | 'pull' | 'warm' | 'bytes') =>
    median(seen[side].slice(1).map((started) => started[what]));
  for (const peer of PEERS) {
    figures[`stargz_cold_time_vs_${peer}${place}`] = ratio('stargz', peer);
    const pairs = seen.stargz.slice(1).map((one, index) => one.warm / seen[peer][index + 1]!.warm);
    figures[`stargz_warm_time_vs_${peer}${place}`] = median(pairs);
    figures[`stargz_bytes_vs_${peer}${place}`] = middle('stargz', 'bytes') / middle(peer, 'bytes');
  }
  for (const [side, label] of Object.entries(SIDES) as [Side, string][]) {
    const [cold, pull, warm] = [middle(side, 'cold'), middle(side, 'pull'), middle(side, 'warm')];
    const rounds = seen[side].slice(1).map((one) => one.cold.toFixed(2));
    note(
      `${PLACES[place as keyof typeof PLACES]}, ${label}: cold ${cold.toFixed(2)} s (${rounds.join(', ')}), ` +
        `of which the pull ${pull.toFixed(2)} s, warm ${warm.toFixed(2)} s, ` +
        `${(middle(side, 'bytes') / 1e6).toFixed(1)} MB over the link, ` +
        `${((seen[side][0]?.settled ?? 0) / 1e6).toFixed(1)} when nothing more comes`,
    );
  }
  chart({
    title: `containerd, ${PLACES[place as keyof typeof PLACES]}: pull and run of Python with numpy`,
    unit: 's',
    rows: (Object.entries(SIDES) as [Side, string][]).map(([side, label]) => ({
      label,
      value: middle(side, 'cold'),
      orca: side.startsWith('orca'),
    })),
  });
  return figures;
}

/** Of Orca both are killed, the snapshotter and the daemon, which is what serves the mounts. */
async function kills({ note, progress }: WorkloadContext, reference: string): Promise<void> {
  progress('a reader while the snapshotter is killed');
  const orca = new SnapshotterSide('orca', { reference, files: '', bytes: async () => 0 }, COMMAND);
  const hosts = {
    stargz: () => StargzHost.start(),
    orca: () => orca.orcaHost(),
  };
  for (const [snapshotter, start] of Object.entries(hosts)) {
    const host: StargzHost | SnapshotterHost = await start();
    const runOf = (id: string, command: readonly string[]) => [
      ...['--address', host.containerd.socket, 'run', '--rm', '--snapshotter', snapshotter, reference],
      ...[`orca-bench-${process.pid}-${id}`, ...command],
    ];
    const kill = async () => {
      const daemon = new DaemonClient(socketOf(join(host.directory, 'run')));
      const pid = snapshotter === 'orca' ? (await daemon.ping())?.pid : undefined;
      await host.stopSnapshotter('SIGKILL');
      if (pid !== undefined) process.kill(pid, 'SIGKILL');
    };
    try {
      await host.pull(reference);
      const seen = await readThrough(runOf('reader', READER_COMMAND), kill, () => host.startSnapshotter());
      const began = performance.now();
      let next = 'does not run';
      for (let attempt = 0; performance.now() - began < RETRY_MS; attempt++) {
        const stdout = await run('ctr', runOf(`next-${attempt}`, COMMAND)).catch(() => undefined);
        if (stdout === 'done\n') {
          next = `runs after ${attempt} that failed`;
          break;
        }
        await sleep(500);
      }
      note(`${snapshotter} killed under a reader: ${seen}; the next container ${next}`);
    } finally {
      await host.stop();
    }
  }
}
