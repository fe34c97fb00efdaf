/**
 * The host daemon: what `orca run` adds to `runc run` of the same bundle, how long a reader waits when the daemon is
 * killed, and what a hundred mounts cost. The daemon is the bundle of dist/bin.
 */
import { constants } from 'node:fs';
import { mkdir, open, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { PingAnswer } from '../../src/daemon/api.js';
import { DaemonClient } from '../../src/daemon/client.js';
import { socketOf } from '../../src/daemon/start.js';
import { packageFile } from '../../src/installation.js';
import { startOrca } from '../../test/cli/orca.js';
import { addImage, content } from '../../test/source/store-fixture.js';
import { busyboxImage } from '../../test/system/busybox-image.js';
import { run } from '../../test/system/command.js';
import { overlayOver } from '../bundle.js';
import { interleaved, median, seconds } from '../measure.js';
import { expandInto } from '../mounted-image.js';
import type { Figures, Workload, WorkloadContext } from '../workload.js';

const MOUNTS = 100;
/** Mounts at either end of the hundred whose median counts as the time of the first and the last. */
const ENDS = 10;
const COMMAND = ['/bin/busybox', 'true'];
/** Not from the page cache: the answer is the daemon's. */
const DIRECT = constants.O_RDONLY | constants.O_DIRECT;

export const workload: Workload = {
  figures: {
    daemon_run_added_ms: {
      meaning: 'orca run through the daemon − runc run of the same bundle',
      aim: '≤ 60',
    },
    daemon_run_added_by_node_ms: { meaning: 'the same without the launcher, by dist/bin/orca.js' },
    node_start_ms: { meaning: 'of which: node that runs nothing' },
    daemon_kill_to_read_ms: { meaning: 'SIGKILL of the daemon until a read is answered', aim: '< 300' },
    daemon_adoption_ms: { meaning: 'of which: start of the process until its mount is served' },
    daemon_mounts_resident_mb: { meaning: `memory of the daemon with ${MOUNTS} mounts`, aim: '< 150' },
    daemon_last_mount_time_vs_first: {
      meaning: `the last ${ENDS} of ${MOUNTS} mounts ÷ the first`,
      aim: '≤ 1.5',
    },
  },
  async run(context) {
    const { work, defer } = context;
    await run(process.execPath, [packageFile('bundle.js')]);
    const env = {
      ...process.env,
      ORCA_RUN_DIR: join(work, 'run'),
      ORCA_CACHE: join(work, 'cache'),
      ORCA_STORE: join(work, 'store'),
    };
    const orca = packageFile('dist/bin/orca.js');
    await busyboxImage(work, 'busybox', { applets: [], config: { Cmd: COMMAND } });
    await expandInto(env.ORCA_STORE, join(work, 'busybox'), 'busybox', 'busybox');
    await run(process.execPath, [orca, 'daemon', '--detach'], { env });
    defer(() => run(process.execPath, [orca, 'daemon', '--stop', '--force'], { env }));
    const client = new DaemonClient(socketOf(env.ORCA_RUN_DIR));
    return {
      ...(await startOfContainer(context, orca, env)),
      ...(await killed(context, client, env.ORCA_STORE)),
      ...(await manyMounts(context, client)),
    };
  },
};

async function startOfContainer(
  { work, repetitions, defer }: WorkloadContext,
  orca: string,
  env: NodeJS.ProcessEnv & { ORCA_RUN_DIR: string },
): Promise<Figures> {
  // A container that stays lends its bundle: its mount, and the files that its bundle names, stay with it.
  const running = startOrca(['run', '--daemon', 'busybox', '/bin/busybox', 'sleep', '3600'], { env });
  // Its third signal ends it in any case.
  const stop = async () => {
    for (let i = 0; i < 3; i++) running.process.kill('SIGTERM');
    await running.ended;
  };
  defer(stop);
  const containers = join(env.ORCA_RUN_DIR, 'containers');
  let own: string | undefined;
  for (let tries = 0; own === undefined && tries < 1000; tries++) {
    await sleep(20);
    const names = await readdir(containers).catch(() => []);
    for (const name of names)
      if ((await readdir(join(containers, name))).includes('config.json')) own = join(containers, name);
  }
  if (own === undefined) throw new Error('the container does not start');
  await sleep(1000);
  const spec = JSON.parse(await readFile(join(own, 'config.json'), 'utf8'));
  spec.root.path = await overlayOver(join(own, 'image'), join(work, 'overlay'));
  spec.process.args = COMMAND;
  const bundle = join(work, 'bundle');
  await mkdir(bundle);
  let containersMade = 0;
  const runc = async () => {
    const id = `orca-bench-${process.pid}-${containersMade++}`;
    spec.linux.cgroupsPath = `/orca/${id}`;
    await writeFile(join(bundle, 'config.json'), JSON.stringify(spec));
    return seconds(() => run('runc', ['run', '--bundle', bundle, id]));
  };
  const command =
    (...program: [string, ...string[]]) =>
    () =>
      seconds(() => run(program[0], [...program.slice(1), 'run', '--rm', 'busybox', ...COMMAND], { env }));
  const took = await interleaved(
    {
      runc,
      launcher: command(packageFile('native/build/orca')),
      script: command(process.execPath, orca),
      node: () => seconds(() => run(process.execPath, ['-e', '0'])),
    },
    repetitions * 3,
  );
  await run('umount', [spec.root.path]);
  await stop();
  return {
    daemon_run_added_ms: (took.median.launcher - took.median.runc) * 1000,
    daemon_run_added_by_node_ms: (took.median.script - took.median.runc) * 1000,
    node_start_ms: took.median.node * 1000,
  };
}

async function killed(
  { work, repetitions }: WorkloadContext,
  client: DaemonClient,
  store: string,
): Promise<Figures> {
  const mountpoint = join(work, 'killed');
  await mkdir(mountpoint);
  await client.createMount('killed', { image: 'busybox', store, mountpoint });
  const file = join(mountpoint, 'bin/busybox');
  await readFile(file);
  const away: number[] = [];
  const adoptions: number[] = [];
  for (let kill = 0; kill < repetitions; kill++) {
    const before = await answerOf(client);
    const handle = await open(file, DIRECT);
    const time = await seconds(async () => {
      process.kill(before.pid, 'SIGKILL');
      await handle.read(Buffer.alloc(4096), 0, 4096, 0);
    });
    await handle.close();
    away.push(time * 1000);
    let after = await answerOf(client);
    for (; after.startedAt === before.startedAt; after = await answerOf(client)) await sleep(5);
    adoptions.push(after.adoption.milliseconds);
  }
  await client.removeMount('killed');
  return { daemon_kill_to_read_ms: median(away), daemon_adoption_ms: median(adoptions) };
}

async function answerOf(client: DaemonClient): Promise<PingAnswer> {
  for (;;) {
    const answer = await client.ping();
    if (answer !== undefined) return answer;
    await sleep(5);
  }
}

async function manyMounts({ work, note }: WorkloadContext, client: DaemonClient): Promise<Figures> {
  const store = join(work, 'small-store');
  const names = Array.from({ length: MOUNTS + 1 }, (_, i) => `small:${i}`);
  for (const name of names) await addImage(store, name, [{ file: content(name, 200_000) }]);
  const times: number[] = [];
  for (const [i, image] of names.entries()) {
    const mountpoint = join(work, 'small', String(i));
    await mkdir(mountpoint, { recursive: true });
    times.push(await seconds(() => client.createMount(`small-${i}`, { image, store, mountpoint })));
    await readFile(join(mountpoint, 'file'));
  }
  // The very first one loads what the daemon had not needed yet.
  const counted = times.slice(1);
  const [first, last] = [median(counted.slice(0, ENDS)), median(counted.slice(-ENDS))];
  note(`milliseconds of a mount: first ${(first * 1000).toFixed(1)}, last ${(last * 1000).toFixed(1)}`);
  const { residentBytes } = await answerOf(client);
  for (const { id } of await client.mounts()) await client.removeMount(id, { force: true });
  return {
    daemon_mounts_resident_mb: residentBytes / 1e6,
    daemon_last_mount_time_vs_first: last / first,
  };
}
