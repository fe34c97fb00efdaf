/** The mounts of this process's mount namespace: proc_pid_mountinfo(5). */
import { readFile } from 'node:fs/promises';

export interface MountEntry {
  /** `major:minor` of the file system. */
  device: string;
  mountPoint: string;
  /** `ext4`, `fuse.orca`, … */
  type: string;
  /** What the mounter called it: a device, the name of an image, … */
  source: string;
  /** Of the file system, as its type has them. */
  options: string;
}

/** The file system type of every mount that Orca makes. */
export const ORCA_TYPE = 'fuse.orca';

/** In the order in which they were mounted: of several at one place, the last is on top. */
export async function readMountTable(): Promise<MountEntry[]> {
  return parseMountTable(await readFile('/proc/self/mountinfo', 'utf8'));
}

/** The mount on top at exactly this path, which is absolute and without symbolic links. */
export async function mountAt(path: string): Promise<MountEntry | undefined> {
  return (await readMountTable()).findLast((entry) => entry.mountPoint === path);
}

export function parseMountTable(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    // ID, parent, major:minor, root, mount point, options, optional fields, "-", type, source, super options.
    const fields = line.split(' ');
    const dash = fields.indexOf('-', 6);
    const [device, mountPoint] = [fields[2], fields[4]];
    const [type, source = '', options = ''] = fields.slice(dash + 1);
    if (dash < 0 || device === undefined || mountPoint === undefined || type === undefined) continue;
    entries.push({ device, mountPoint: unescape(mountPoint), type, source: unescape(source), options });
  }
  return entries;
}

/** The kernel writes space, tab, newline and backslash as three octal digits. */
function unescape(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
