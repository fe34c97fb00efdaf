#!/usr/bin/env node
/**
 * `mount.fuse.orca`: what mount(8) calls for `mount -t fuse.orca IMAGE DIRECTORY -o OPTIONS` and for lines of fstab(5)
 * of that type. Returns when the mount answers, with the exit codes of mount(8).
 */
import './process-title.js';
import { Command, CommanderError } from 'commander';
import { addon } from '../native/addon.js';
import { configureLogging, log, oneLine } from '../telemetry/logger.js';
import { reportFailure } from './failure.js';
import { addMountCommand, type MountCommandOptions, mountInBackground } from './mount.js';
import { type HelperOrder, HelperUsageError, parseHelperArguments } from './mount-helper-options.js';

/** mount(8), "Exit status". */
const EXIT = { usage: 1, system: 2, failure: 32 };
/** mount(2). */
const MS = { RDONLY: 1, NOSUID: 2, NODEV: 4, NOEXEC: 8, REMOUNT: 32, NOATIME: 1024, BIND: 4096 };

const program = new Command('mount.fuse.orca')
  .exitOverride()
  .configureOutput({ outputError: () => undefined });
const command = addMountCommand(program).copyInheritedSettings(program);

try {
  const order = parseHelperArguments(process.argv.slice(2), command.options);
  await configureLogging({ level: order.verbose ? 'info' : 'warn', format: 'text' });
  command.action((image: string, mountpoint: string, options: MountCommandOptions) =>
    mount(order, image, mountpoint, options),
  );
  await program.parseAsync(['mount', ...order.options, '--', order.source, order.target], { from: 'user' });
} catch (error) {
  process.exitCode = exitCodeOf(error);
}
process.exit();

async function mount(order: HelperOrder, image: string, mountpoint: string, options: MountCommandOptions) {
  const { isAutomounting, locate } = await import('../mount/mount-point.js');
  const place = await locate(mountpoint);
  const said = (text: string) => {
    if (order.verbose) process.stdout.write(`mount.fuse.orca: ${text}\n`);
  };
  if (order.remount) {
    if ((await mountedImage(place)) === undefined) throw new HelperUsageError(`${place} is no mount of orca`);
  } else if (await isMounted(image, place)) {
    // `mount -a` cannot know where fstab has other words for an image than the kernel, such as no tag.
    return said(`${image} is mounted at ${place} already`);
  } else {
    if (order.fake) return said(`${image} would be mounted at ${place}`);
    // What a mount unit of systemd starts ends with that unit; a daemon would take other mounts with it.
    const choice = (await isAutomounting(place)) ? { daemon: false } : { startDaemon: false };
    said(await mountInBackground(command, image, mountpoint, { ...options, ...choice }));
  }
  if (order.fake || !(order.noexec || order.remount)) return;
  setNoexec(place, order.noexec);
}

function setNoexec(place: string, noexec: boolean): void {
  const kept = MS.RDONLY | MS.NOSUID | MS.NODEV | MS.NOATIME;
  try {
    addon.mount('none', place, 'none', MS.REMOUNT | MS.BIND | kept | (noexec ? MS.NOEXEC : 0), '');
  } catch (error) {
    if (!noexec) throw error;
    // Better no mount than one that runs what it should not.
    addon.umount(place, 0);
    throw error;
  }
}

/** Name of the image on top at a place, if it is one of ours that answers. */
async function mountedImage(place: string): Promise<string | undefined> {
  const [{ mountAt, ORCA_TYPE }, { isDead }] = await Promise.all([
    import('../mount/mount-table.js'),
    import('../mount/mount-point.js'),
  ]);
  const there = await mountAt(place);
  if (there?.type !== ORCA_TYPE || (await isDead(place))) return undefined;
  return there.source;
}

async function isMounted(image: string, place: string): Promise<boolean> {
  const mounted = await mountedImage(place);
  if (mounted === undefined || mounted === image) return mounted !== undefined;
  const { familiarReference, parseReference, withDefaultTag } = await import('../oci/reference.js');
  try {
    return mounted === familiarReference(withDefaultTag(parseReference(image)));
  } catch {
    return false;
  }
}

function exitCodeOf(error: unknown): number {
  if (error instanceof HelperUsageError || error instanceof CommanderError) {
    log.error(`mount.fuse.orca: ${oneLine(error.message).replace(/^error: /, '')}`);
    return EXIT.usage;
  }
  const { code, syscall } = error as NodeJS.ErrnoException;
  const system = code === 'NO_FUSE' || code === 'NO_START' || typeof syscall === 'string';
  return reportFailure(error, system ? EXIT.system : EXIT.failure);
}
