/**
 * The near side of the table: each way to get a container of an image running, from a name to the end of the
 * container, on a host that has never had the image, or has it. Every measurement checks what the container printed,
 * and leaves nothing behind.
 */
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packageFile } from '../../src/installation.js';
import { run } from '../../test/system/command.js';
import { ContainerdProcess } from '../../test/system/containerd-process.js';
import { timeContainer, withOverlay } from '../bundle.js';
import type { BuiltImage } from '../images/table-images.js';
import { seconds } from '../measure.js';
import { MEASURED, WARM_UP } from './image-server.js';

const ORCA = packageFile('dist/bin/orca.js');

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
        await withoutTerminal(bundle);
        await timeContainer(bundle, image.stdout);
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
          if (stdout !== image.stdout) throw new Error(`the container printed ${JSON.stringify(stdout)}`);
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
      const cache = join(place, 'cache');
      const env = {
        ...process.env,
        ORCA_CACHE: cache,
        ORCA_RUN_DIR: join(place, 'run'),
        ORCA_CONFIG: '/dev/null',
      };
      const orca = (...args: string[]) => run(process.execPath, [ORCA, ...args], { env });
      const start = async (repository: string, { tag, stdout: expected }: BuiltImage) => {
        const stdout = await orca('run', '--rm', '--transports', 'smb', `${host}/${repository}:${tag}`);
        if (stdout !== expected) throw new Error(`the container printed ${JSON.stringify(stdout)}`);
      };
      await mkdir(cache);
      if (options.profiles !== undefined)
        await cp(options.profiles, join(cache, 'profiles'), { recursive: true });
      await orca('daemon', '--detach');
      try {
        await start(WARM_UP, warmUp);
        await this.cold();
        const cold = await seconds(() => start(MEASURED, image));
        const warm = await seconds(() => start(MEASURED, image));
        return { cold, warm };
      } finally {
        await orca('daemon', '--stop', '--force');
        if (options.keep !== undefined) await cp(join(cache, 'profiles'), options.keep, { recursive: true });
      }
    });
  }

  /** Unpacks the image once, for `local`. */
  async unpack(): Promise<string> {
    const bundle = join(this.work, 'local');
    await run('umoci', ['unpack', '--image', `${this.image.directory}:${this.image.tag}`, bundle]);
    await withoutTerminal(bundle);
    return bundle;
  }

  /** A container of the unpacked image, with a writable overlay over it, whose files are in the page cache or not. */
  async local(unpacked: string, state: 'cold' | 'warm'): Promise<number> {
    return this.inPlace(async (place) => {
      const bundle = join(place, 'bundle');
      await mkdir(bundle);
      const spec = JSON.parse(await readFile(join(unpacked, 'config.json'), 'utf8'));
      const overlay = join(place, 'overlay');
      if (state === 'cold') await this.cold();
      return seconds(() =>
        withOverlay(join(unpacked, 'rootfs'), overlay, async (merged) => {
          spec.root.path = merged;
          await writeFile(join(bundle, 'config.json'), JSON.stringify(spec));
          await timeContainer(bundle, this.image.stdout);
        }),
      );
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

async function withoutTerminal(bundle: string): Promise<void> {
  const path = join(bundle, 'config.json');
  const spec = JSON.parse(await readFile(path, 'utf8'));
  spec.process.terminal = false;
  await writeFile(path, JSON.stringify(spec));
}
