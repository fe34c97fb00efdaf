/** How a mount goes: when nobody uses it, when nobody uses it any more, or at once. */
import type { Mount } from '../mount/mount.js';
import { MountError } from '../mount/mount-error.js';
import { isDead, MNT_DETACH } from '../mount/mount-point.js';
import { mountAt, ORCA_TYPE } from '../mount/mount-table.js';
import { addon } from '../native/addon.js';
import { log } from '../telemetry/logger.js';
import type { HeldMounts } from './held-mounts.js';
import type { ServedMount } from './served-mount.js';

export interface Removal {
  /** The mount goes when nobody uses it any more. */
  lazy?: boolean;
  /** At once, and its users get errors. */
  force?: boolean;
}

/** After umount(2) the kernel ends a mount at once, unless another mount namespace has a copy of it, as new ones do. */
const ELSEWHERE_MS = { force: 2000, otherwise: 10_000 };

/** Throws MountError BUSY, and FAILED for what the kernel refuses. */
export async function removeMount(
  held: HeldMounts,
  { mount, record }: ServedMount,
  { lazy = false, force = false }: Removal = {},
): Promise<void> {
  try {
    mount.detach({ lazy });
  } catch (error) {
    if (!force || !(error instanceof MountError) || error.code !== 'BUSY') throw error;
    log.warn(`${mount.mountpoint} is still in use, and what uses it gets errors from now on`);
    mount.detach({ lazy: true });
    return await endSession(held, record.id, mount);
  }
  if (lazy || (await isSettledWithin(mount.ended, ELSEWHERE_MS[force ? 'force' : 'otherwise']))) return;
  const elsewhere = `${mount.mountpoint} is unmounted, and lives on in another mount namespace`;
  if (!force) {
    log.warn(`${elsewhere} until that ends`);
    record.isElsewhere = true;
    return await held.save();
  }
  log.warn(`${elsewhere}, which gets errors from now on`);
  await endSession(held, record.id, mount);
}

/** For the end of the daemon: what cannot be unmounted is no longer served. Never rejects. */
export async function endMount(held: HeldMounts, served: ServedMount): Promise<void> {
  try {
    await removeMount(held, served, { force: true });
  } catch (error) {
    log.error(`${served.mount.mountpoint} is given up`, { error: error as Error });
    await endSession(held, served.record.id, served.mount);
  }
}

/** Takes a mount of ours whose server has gone out of the file tree. */
export async function removeDead(mountpoint: string): Promise<void> {
  if ((await mountAt(mountpoint))?.type !== ORCA_TYPE || !(await isDead(mountpoint))) return;
  addon.umount(mountpoint, MNT_DETACH);
}

/** Ends a session that somebody still uses. */
async function endSession(held: HeldMounts, id: string, mount: Mount): Promise<void> {
  held.release(id);
  await mount.close();
}

async function isSettledWithin(promise: Promise<unknown>, milliseconds: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), milliseconds);
  });
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
