/**
 * The near side of the table: each way to get a container of an image running, from a name to the end of the
 * container, on a host that has never had the image, or has it. Every measurement checks what the container printed,
 * and leaves nothing behind.
 */
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DEFAULT_CAPABILITIES } from '../../src/runtime/defaults.js';
import { run } from '../../test/system/command.js';
import { ContainerdProcess } from '../../test/system/containerd-process.js';
import { freePort } from '../../test/system/free-port.js';
import { withOverlay } from '../bundle.js';
import { WARM_UP } from '../image-server.js';
import { withoutZstd } from '../images/plain-layout.js';
import type { BuiltImage } from '../images/table-images.js';
import { seconds } from '../measure.js';
import { untilReady } from '../readiness.js';
import { ORCA, ResidentDaemon } from '../resident-daemon.js';

/** Repository of the registry. */
export const MEASURED = 'measured';

export class HostSides {
  constructor(
    private readonly work: string,
    private readonly image: BuiltImage,
    private readonly warmUp: BuiltImage,
    /** Leaves nothing of the image in the kernel's caches. */
    private readonly cold: () => Promise<void>,
  ) {}

  /** skopeo copies the blobs, umoci unpacks them, runc runs. */
  async skopeoUmoci(host: string): Promise<number> {
    const { image } = this;
    return this.inPlace(async (place) => {
      const layout = `${join(place, 'layout')}:${image.tag}`;
      const bundle = join(place, 'bundle');
      const source = `docker://${host}/${MEASURED}:${image.tag}`;
      await this.cold();
      return seconds(async () => {
        await run('skopeo', ['copy', '--quiet', '--src-tls-verify=false', source, `oci:${layout}`]);
        await run('umoci', ['unpack', '--image', layout, bundle]);
        await runc(bundle, image);
      });
    });
  }

  /** containerd pulls and unpacks into overlayfs, and runs. */
  async containerd(host: string): Promise<number> {
    const { image } = this;
    return this.inPlace(async (place) => {
      const containerd = new ContainerdProcess(place);
      await containerd.start();
      try {
        const name = `${host}/${MEASURED}:${image.tag}`;
        await this.cold();
        return await seconds(async () => {
          await containerd.ctr('images', 'pull', '--plain-http', '--snapshotter', 'overlayfs', name);
          const stdout = await containerd.ctr('run', '--rm', '--snapshotter', 'overlayfs', name, 'measured');
          if (stdout !== image.check.stdout)
            throw new Error(`the container printed ${JSON.stringify(stdout)}`);
        });
      } finally {
        await containerd.stop();
      }
    });
  }

  /**
   * `orca run` with a daemon that has run something else before. The cache is empty but for the profiles of the
   * directory given; those of this run are returned in `keep`. `warm`: seconds of starting it again, once it is there.
   */
  async orca(
    host: string,
    options: { profiles?: string; keep?: string } = {},
  ): Promise<{ cold: number; warm: number }> {
    const { image, warmUp } = this;
    return this.inPlace(async (place) => {
      const daemon = await ResidentDaemon.start(place, { profiles: options.profiles });
      const start = async (repository: string, { tag, check }: BuiltImage) => {
        const port = await freePort();
        const options = ['run', '--rm', '--transports', 'smb', '--env', `PORT=${port}`];
        const args = [...options, `${host}/${repository}:${tag}`, ...check.command];
        return untilReady(ORCA, args, check, port, daemon.env);
      };
      try {
        await start(WARM_UP, warmUp);
        await this.cold();
        const cold = await start(MEASURED, image);
        const warm = await start(MEASURED, image);
        return { cold, warm };
      } finally {
        await daemon.stop();
        if (options.keep !== undefined) await daemon.keepProfiles(options.keep);
      }
    });
  }

  /** Unpacks the image once, for `local`. */
  async unpack(): Promise<string> {
    const bundle = join(this.work, 'local');
    const layout = await withoutZstd(this.image.directory, join(this.work, 'plain'));
    await run('umoci', ['unpack', '--image', `${layout}:${this.image.tag}`, bundle]);
    return bundle;
  }

  /** A container of the unpacked image, with a writable overlay over it, whose files are in the page cache or not. */
  async local(unpacked: string, state: 'cold' | 'warm'): Promise<number> {
    return this.inPlace(async (place) => {
      const bundle = join(place, 'bundle');
      await mkdir(bundle);
      await copyFile(join(unpacked, 'config.json'), join(bundle, 'config.json'));
      if (state === 'cold') await this.cold();
      const began = performance.now();
      return withOverlay(join(unpacked, 'rootfs'), join(place, 'overlay'), async (merged) => {
        const overlaid = (performance.now() - began) / 1000;
        return overlaid + (await runc(bundle, this.image, merged));
      });
    });
  }

  private async inPlace<T>(measure: (place: string) => Promise<T>): Promise<T> {
    const place = await mkdtemp(join(this.work, 'side-'));
    try {
      return await measure(place);
    } finally {
      await rm(place, { recursive: true, force: true });
    }
  }
}

let containers = 0;

/** Runs the container of a bundle that umoci made, with the rights, the network and the volumes that Orca gives it. */
async function runc(bundle: string, image: BuiltImage, root?: string): Promise<number> {
  const port = await freePort();
  const path = join(bundle, 'config.json');
  const spec = JSON.parse(await readFile(path, 'utf8'));
  if (root !== undefined) spec.root.path = root;
  spec.process.terminal = false;
  spec.process.env.push(`PORT=${port}`);
  const { command } = image.check;
  if (command.length > 0) spec.process.args = [...(await entrypointOf(image)), ...command];
  for (const set of Object.keys(spec.process.capabilities))
    spec.process.capabilities[set] = DEFAULT_CAPABILITIES;
  spec.linux.namespaces = spec.linux.namespaces.filter(({ type }: { type: string }) => type !== 'network');
  spec.mounts = spec.mounts.filter(
    ({ destination, type }: { destination: string; type: string }) =>
      type !== 'tmpfs' || destination.startsWith('/dev'),
  );
  await writeFile(path, JSON.stringify(spec));
  const id = `orca-bench-${process.pid}-${containers++}`;
  return untilReady('runc', ['run', '--bundle', bundle, id], image.check, port);
}

async function entrypointOf({ directory, tag }: BuiltImage): Promise<string[]> {
  const { config } = JSON.parse(await run('skopeo', ['inspect', '--config', `oci:${directory}:${tag}`]));
  return config.Entrypoint ?? [];
}
