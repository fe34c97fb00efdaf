/** What the kernel and its devices must have for mounts and containers. */
import { constants } from 'node:fs';
import { access, open, readdir, readFile } from 'node:fs/promises';
import { release } from 'node:os';
import { join } from 'node:path';
import { type Finding, ok, problem, warning } from './finding.js';

/** What runs everything that Orca asks of FUSE and overlayfs. */
const OLDEST: Version = [5, 4];
/** FUSE_NOTIFY_RESEND (fs/fuse/dev.c). */
const RESEND: Version = [6, 9];

type Version = readonly [major: number, minor: number];

/** `text` as uname(2) has it, such as `6.1.0-18-amd64`. */
export function checkKernel(text: string = release()): Finding {
  const name = 'kernel';
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(text) ?? [];
  const version: Version = [Number(major), Number(minor)];
  if (isBefore(version, OLDEST))
    return problem(name, `Linux ${text} is too old`, `use Linux ${OLDEST.join('.')} or later`);
  if (isBefore(version, RESEND)) {
    const text2 = `Linux ${text} cannot resend requests in flight (FUSE_NOTIFY_RESEND)`;
    return warning(name, `${text2}: a read that a dying daemon had in hand fails`, 'use Linux 6.9 or later');
  }
  return ok(name, `Linux ${text}; requests in flight survive a crash of the daemon`);
}

function isBefore([major, minor]: Version, [wantedMajor, wantedMinor]: Version): boolean {
  return major < wantedMajor || (major === wantedMajor && minor < wantedMinor);
}

/** `filesystems` as /proc/filesystems has it; `modules` are the lists of modules that can be loaded. */
export function checkFilesystem(type: 'fuse' | 'overlay', filesystems: string, modules: string): Finding {
  if (filesystems.split('\n').some((line) => line.split('\t')[1] === type))
    return ok(type, 'the kernel has it');
  if (new RegExp(`/${type}\\.ko\\b`).test(modules)) return ok(type, 'a module, loaded when it is needed');
  const use = type === 'fuse' ? 'mounts need it' : 'writable layers of containers need it';
  return problem(type, `the kernel does not have it, and ${use}`, `modprobe ${type}, or another kernel`);
}

export async function checkFilesystems(): Promise<Finding[]> {
  const modules = join('/lib/modules', release());
  const [filesystems, ...lists] = await Promise.all([
    readFile('/proc/filesystems', 'utf8'),
    ...['modules.dep', 'modules.builtin'].map((file) =>
      readFile(join(modules, file), 'utf8').catch(() => ''),
    ),
  ]);
  return (['fuse', 'overlay'] as const).map((type) => checkFilesystem(type, filesystems, lists.join('\n')));
}

export async function checkFuseDevice(path = '/dev/fuse'): Promise<Finding> {
  const name = 'fuse device';
  try {
    await (await open(path, constants.O_RDWR)).close();
    return ok(name, `${path} opens`);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const remedy =
      code === 'ENOENT'
        ? `modprobe fuse; in a container, give it the device (docker run --device ${path})`
        : 'allow this user, or in a container the container, to use it (docker run --device /dev/fuse)';
    return problem(name, `${path} cannot be opened (${code})`, remedy);
  }
}

/** Whether the read-ahead of mounts can be raised: more than a file for them alone is not to be had beforehand. */
export async function checkReadAhead(directory = '/sys/class/bdi'): Promise<Finding> {
  const name = 'read-ahead';
  const remedy = 'run as root; in a container, with a writable /sys (docker run -v /sys:/sys)';
  const [device] = await readdir(directory).catch(() => []);
  const reachable =
    device !== undefined &&
    (await access(join(directory, device, 'read_ahead_kb'), constants.W_OK).then(
      () => true,
      () => false,
    ));
  if (reachable) return ok(name, 'can be set');
  return warning(
    name,
    `${directory} cannot be written: sequential reads are up to four times slower`,
    remedy,
  );
}
