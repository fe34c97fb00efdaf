/**
 * 1, 10 and 50 containers at once, of one image and of as many different ones that share their lower layers: Python
 * that imports numpy. The daemon has cached nothing and the share is behind a link of 0.5 ms; the peer is the same
 * number of containers on overlays over the unpacked layers, with cold page cache.
 */
import { copyFile, link, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../test/system/command.js';
import { type PackedLayer, packLayer, writeLayout } from '../../test/system/layout-writer.js';
import { Samba } from '../../test/system/samba.js';
import { withOverlay, writeBundle } from '../bundle.js';
import { type BuiltImage, tableImage } from '../images/table-images.js';
import { LINKS, Link } from '../link/link.js';
import { coldHost, cpuSeconds, median, peakMemory, seconds } from '../measure.js';
import { expandInto } from '../mounted-image.js';
import { untilReady } from '../readiness.js';
import { bundle, ResidentDaemon } from '../resident-daemon.js';
import type { Figures, Workload, WorkloadContext } from '../workload.js';

const COUNTS = [1, 10, 50];
const MOST = Math.max(...COUNTS);
const KINDS = { same: 'one image', different: 'different images' } as const;
type Kind = keyof typeof KINDS;

const python = {
  args: ['python3', '/app/main.py'],
  env: ['PATH=/usr/local/bin:/usr/bin:/bin', 'LANG=C.UTF-8'],
  cwd: '/app',
  uid: 0,
};

export const workload: Workload = {
  figures: Object.fromEntries(
    Object.entries(KINDS).flatMap(([kind, meaning]) =>
      COUNTS.flatMap((count) => {
        const name = `many_${kind}_${count}`;
        const what = `${count} containers at once, ${meaning}`;
        return [
          [
            `${name}_time_vs_local_cold`,
            { meaning: `${what}: time until all have ended ÷ local, cold page cache` },
          ],
          [
            `${name}_bytes_fetched_vs_read`,
            { meaning: 'of that: bytes fetched from the share ÷ bytes read from mounts' },
          ],
          [`${name}_daemon_cpu_seconds`, { meaning: 'of that: CPU seconds of the daemon' }],
          [`${name}_daemon_peak_mb`, { meaning: 'of that: peak memory of the daemon' }],
        ];
      }),
    ),
  ),
  async run(context) {
    await bundle();
    const host = await Host.start(context);
    const figures: Figures = {};
    const rounds = Math.min(context.repetitions, 3);
    for (const kind of Object.keys(KINDS) as Kind[]) {
      for (const count of context.quick ? COUNTS.slice(0, 2) : COUNTS) {
        const took: Measured[] = [];
        const local: number[] = [];
        for (let round = 0; round < rounds; round++) {
          context.progress(`${count} of ${KINDS[kind]}, round ${round + 1} of ${rounds}`);
          took.push(await host.orca(kind, count));
          local.push(await host.local(kind, count));
        }
        const of = (key: keyof Measured) => median(took.map((one) => one[key]));
        const name = `many_${kind}_${count}`;
        figures[`${name}_time_vs_local_cold`] = median(took.map((one, round) => one.time / local[round]!));
        figures[`${name}_bytes_fetched_vs_read`] = of('fetched') / of('read');
        figures[`${name}_daemon_cpu_seconds`] = of('cpu');
        figures[`${name}_daemon_peak_mb`] = of('memory') / 1e6;
        context.note(
          `${count} of ${KINDS[kind]}: Orca ${of('time').toFixed(2)} s, local ${median(local).toFixed(2)} s; ` +
            `${(of('fetched') / 1e6).toFixed(0)} MB fetched, ${(of('read') / 1e6).toFixed(0)} MB read`,
        );
        context.chart({
          title: `${count} containers at once, ${KINDS[kind]}`,
          unit: 's until all have ended',
          rows: [
            { label: 'Orca, nothing cached', value: of('time'), orca: true },
            { label: 'local, cold page cache', value: median(local) },
          ],
        });
      }
    }
    return figures;
  },
};

interface Measured {
  time: number;
  fetched: number;
  read: number;
  cpu: number;
  memory: number;
}

class Host {
  #places = 0;

  private constructor(
    private readonly work: string,
    private readonly stdout: string,
    private readonly store: string,
    private readonly url: string,
    private readonly env: Record<string, string>,
    /** Unpacked lower layers; the top layer of each image is beside them. */
    private readonly unpacked: string,
  ) {}

  static async start({ work, defer, progress }: WorkloadContext): Promise<Host> {
    const whole = await tableImage('182mb', progress);
    const store = join(work, 'store');
    progress(`${MOST} images`);
    for (let i = 0; i < MOST; i++) {
      const image = await imageOfOwn(whole, join(work, 'images', String(i)), i);
      await expandInto(store, image.directory, image.tag, imageName('different', i));
    }
    const samba = await Samba.start({ shares: { store: { path: store } }, encryption: 'required' });
    defer(() => samba.stop());
    const rack = await Link.open(work, samba.port, LINKS.rack);
    defer(() => rack.close());
    const unpacked = join(work, 'unpacked');
    await run('umoci', ['unpack', '--image', `${whole.directory}:${whole.tag}`, unpacked]);
    const env = { ORCA_SMB_USER: samba.username, ORCA_SMB_PASSWORD: samba.password };
    const url = samba.url('store').replace(`:${samba.port}/`, `:${rack.port}/`);
    return new Host(work, whole.check.stdout ?? '', store, url, env, unpacked);
  }

  async orca(kind: Kind, count: number): Promise<Measured> {
    return this.inPlace(async (place) => {
      const daemon = await ResidentDaemon.start(place);
      try {
        const pid = await daemon.pid();
        await coldHost(this.store);
        const before = await cpuSeconds(pid);
        const mounts = Array.from({ length: count }, (_, i) => ({
          id: `many-${i}`,
          at: join(place, `mnt-${i}`),
        }));
        const time = await seconds(() =>
          allEnded(
            mounts.map(async ({ id, at }, i) => {
              await mkdir(at);
              const order = {
                image: imageName(kind, i),
                store: this.url,
                environment: this.env,
                mountpoint: at,
                // As `orca run` asks for it: containers of one image share a mount.
                container: join(place, `container-${i}`),
              };
              await daemon.client.createMount(id, order);
              await this.container(order.container, at);
            }),
          ),
        );
        const cpu = (await cpuSeconds(pid)) - before;
        // Of what is shared each tells all.
        const listed = await daemon.client.mounts();
        const reads = new Map(listed.map(({ manifestDigest, bytesRead }) => [manifestDigest, bytesRead]));
        const read = [...reads.values()].reduce((sum, bytes) => sum + bytes, 0);
        const fetched = (await daemon.client.cache()).bytesFetched;
        return { time, fetched, read, cpu, memory: await peakMemory(pid) };
      } finally {
        await daemon.stop();
      }
    });
  }

  local(kind: Kind, count: number): Promise<number> {
    return this.inPlace(async (place) => {
      await coldHost(this.store);
      const lower = join(this.unpacked, 'rootfs');
      return seconds(() =>
        allEnded(
          Array.from({ length: count }, (_, i) => {
            const own = join(this.work, 'images', String(kind === 'same' ? 0 : i), 'root');
            return this.container(join(place, `container-${i}`), `${own}:${lower}`);
          }),
        ),
      );
    });
  }

  private container(place: string, lower: string): Promise<void> {
    return withOverlay(lower, join(place, 'overlay'), async (merged) => {
      const bundleDirectory = join(place, 'bundle');
      await writeBundle(bundleDirectory, merged, python);
      const id = `orca-bench-${process.pid}-${place.replaceAll('/', '-').slice(-40)}`;
      await untilReady(
        'runc',
        ['run', '--bundle', bundleDirectory, id],
        { command: [], stdout: this.stdout },
        0,
      );
    });
  }

  private async inPlace<T>(measure: (place: string) => Promise<T>): Promise<T> {
    const place = join(this.work, `host-${this.#places++}`);
    await mkdir(place);
    try {
      return await measure(place);
    } finally {
      await rm(place, { recursive: true });
    }
  }
}

/** Waits for all, also when one fails: what is left running would hold its mounts. */
async function allEnded(actions: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(actions))
    if (result.status === 'rejected') throw result.reason;
}

function imageName(kind: Kind, number: number): string {
  return `many:${kind === 'same' ? 0 : number}`;
}

/** The image with one more layer, of a file of its own; DIRECTORY/root has that. */
async function imageOfOwn(whole: BuiltImage, directory: string, number: number): Promise<BuiltImage> {
  const [root, layout] = [join(directory, 'root'), join(directory, 'layout')];
  const blobs = join(layout, 'blobs/sha256');
  for (const path of [join(root, 'app'), blobs]) await mkdir(path, { recursive: true });
  await writeFile(join(root, 'app/number'), `${number}\n`);
  const from = join(whole.directory, 'blobs/sha256');
  for (const name of await readdir(from))
    await link(join(from, name), join(blobs, name)).catch(() =>
      copyFile(join(from, name), join(blobs, name)),
    );
  const read = async (digest: string) =>
    JSON.parse(await readFile(join(from, digest.slice('sha256:'.length)), 'utf8'));
  const index = JSON.parse(await readFile(join(whole.directory, 'index.json'), 'utf8'));
  const manifest = await read(index.manifests[0].digest);
  const { rootfs, config } = await read(manifest.config.digest);
  const layers = (manifest.layers as PackedLayer[]).map((layer, i) => ({
    ...layer,
    diffID: rootfs.diff_ids[i],
    createdBy: `layer ${i}`,
  }));
  await writeLayout(layout, whole.tag, config, [
    ...layers,
    await packLayer(root, blobs, 'gzip', `image ${number}`),
  ]);
  return { ...whole, directory: layout };
}
