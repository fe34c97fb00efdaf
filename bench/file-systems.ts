/**
 * The files of one image of one layer as several file systems give them: Orca's mount, the kernel's EROFS over a loop
 * device of the same layer VHD, overlayfs over the unpacked files on the local disk, and fuse-native over these.
 */
import { lstatSync } from 'node:fs';
import { copyFile, mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../test/system/command.js';
import { overlayOver } from './bundle.js';
import { ImageServer, registryData } from './image-server.js';
import type { BuiltImage } from './images/table-images.js';
import { LINKS } from './link/link.js';
import { mountFuseNative } from './peers/fuse-native.js';
import { bundle, ResidentDaemon } from './resident-daemon.js';
import type { WorkloadContext } from './workload.js';

/** Mount points. */
export interface FileSystems {
  orca: string;
  erofs: string;
  overlayfs: string;
  fuseNative: string;
}
export const fileSystemNames = ['orca', 'erofs', 'overlayfs', 'fuseNative'] as const;
export type FileSystemName = (typeof fileSystemNames)[number];

export interface ServedFileSystems extends FileSystems {
  daemon: ResidentDaemon;
  /** A mount of a host that has nothing of the image, from the share; `use` is given where. */
  onNewHost<T>(use: (mountpoint: string, daemon: ResidentDaemon) => Promise<T>): Promise<T>;
}

const MOUNT = 'measured';
const REPOSITORY = 'measured';

/** All end with the workload. */
export async function fileSystems(context: WorkloadContext, image: BuiltImage): Promise<ServedFileSystems> {
  const { work, defer, progress } = context;
  await bundle();
  const data = await registryData(image.tag, { [REPOSITORY]: image }, progress);
  const server = await ImageServer.start(work, data, LINKS.rack);
  defer(() => server.stop());
  const mounted = async (place: string) => {
    const daemon = await ResidentDaemon.start(place);
    const mountpoint = join(place, 'mnt');
    await mkdir(mountpoint);
    const order = {
      image: `${server.host}/${REPOSITORY}:${image.tag}`,
      mountpoint,
      transports: ['smb' as const],
    };
    await daemon.client.createMount(MOUNT, order);
    return { daemon, mountpoint };
  };
  const { daemon, mountpoint: orca } = await mounted(join(work, 'host'));
  defer(() => daemon.stop());

  progress('the peers');
  const erofs = join(work, 'erofs');
  await mkdir(erofs);
  // Its own copy, so that the page cache of what the server reads is none of its own.
  const vhd = join(work, 'layer.vhd');
  await copyFile(await largestVhd(data), vhd);
  await run('mount', ['-t', 'erofs', '-o', 'loop,ro', vhd, erofs]);
  defer(() => run('umount', [erofs]));
  const local = join(work, 'local');
  await run('cp', ['-a', `${erofs}/.`, local]);
  const overlayfs = await overlayOver(local, join(work, 'overlay'));
  defer(() => run('umount', [overlayfs]));
  const fuseNative = join(work, 'fuse-native');
  defer(await mountFuseNative(local, fuseNative));
  await raiseReadAhead(fuseNative);

  let hosts = 0;
  return {
    orca,
    erofs,
    overlayfs,
    fuseNative,
    daemon,
    async onNewHost(use) {
      const place = join(work, `host-${hosts++}`);
      const host = await mounted(place);
      try {
        return await use(host.mountpoint, host.daemon);
      } finally {
        await host.daemon.stop();
        await run('rm', ['-r', place]);
      }
    },
  };
}

/** The peer gets the read-ahead that Orca gives its own mounts. */
export async function raiseReadAhead(mountpoint: string): Promise<void> {
  const { dev } = lstatSync(mountpoint);
  await writeFile(`/sys/class/bdi/${dev >> 8}:${dev & 0xff}/read_ahead_kb`, '1024');
}

async function largestVhd(data: string): Promise<string> {
  const names = (await readdir(data, { recursive: true })).filter((name) => name.endsWith('.vhd'));
  const sized = await Promise.all(
    names.map(async (name) => ({ path: join(data, name), size: (await stat(join(data, name))).size })),
  );
  return sized.sort((a, b) => b.size - a.size)[0]!.path;
}
