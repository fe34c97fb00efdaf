/** The writable root file system of a container: overlayfs over the read-only image mount. */
import { chmod, chown, mkdir, rmdir, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { addon } from '../native/addon.js';
import { RuntimeError } from './runtime-error.js';

/** linux/magic.h */
const OVERLAYFS_MAGIC = 0x794c7630;

/** linux/mount.h */
const MNT_DETACH = 2;

/**
 * Mounts `DIR/rootfs` from `lower` and fresh `DIR/upper` and `DIR/work`. Paths contain none of `:`, `,` and `\`.
 *
 * `volatile` makes fsync of the writable layer a no-op: the layer does not outlive the container, so there is
 * nothing that it could save. Kernels before 5.10 do not know it and get the mount without.
 */
export async function mountOverlay(directory: string, lower: string): Promise<string> {
  const [upper, work, rootfs] = [
    join(directory, 'upper'),
    join(directory, 'work'),
    join(directory, 'rootfs'),
  ];
  await Promise.all([upper, work, rootfs].map((path) => mkdir(path, { mode: 0o755 })));
  // The merged root has the attributes of the upper one.
  const root = await stat(lower);
  await chown(upper, root.uid, root.gid);
  await chmod(upper, root.mode & 0o7777);
  const data = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
  try {
    try {
      addon.mount('overlay', rootfs, 'overlay', 0, `${data},volatile`);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
      addon.mount('overlay', rootfs, 'overlay', 0, data);
    }
  } catch (cause) {
    throw await explain(cause as NodeJS.ErrnoException, directory);
  }
  return rootfs;
}

async function explain(cause: NodeJS.ErrnoException, directory: string): Promise<RuntimeError> {
  const { type } = await statfs(directory);
  const reason =
    type === OVERLAYFS_MAGIC
      ? `${directory} is itself on overlayfs, which cannot hold a writable layer: give --run-dir on a disk file system`
      : `${cause.code ?? cause.message}: give --run-dir on ext4, xfs, btrfs or tmpfs`;
  return new RuntimeError('OVERLAY', `cannot mount the writable layer: ${reason}`, { cause });
}

/** Unmounts and removes a mount point if it is there; a busy one is detached, so that nothing new gets in. */
export async function unmountPoint(path: string): Promise<void> {
  try {
    addon.umount(path, 0);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EBUSY') addon.umount(path, MNT_DETACH);
    else if (code !== 'EINVAL' && code !== 'ENOENT') throw error;
  }
  try {
    await rmdir(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
