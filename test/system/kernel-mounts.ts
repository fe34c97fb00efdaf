/** The kernel's own mounts of what Orca writes: the references that ours is compared with. */
import { mkdirSync, mkdtempSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { addon } from '../../src/native/addon.js';
import { run } from './command.js';

const MS_RDONLY = 1;
const MNT_DETACH = 2;

/** Mounts below a directory of its own, all of which `close` removes. */
export class KernelMounts {
  /** Short, since a mount's options must fit into one page and name every layer. */
  readonly dir = mkdtempSync(join(tmpdir(), 'k'));
  private readonly mounted: string[] = [];

  private newMountPoint(): string {
    const path = join(this.dir, String(this.mounted.length));
    mkdirSync(path);
    return path;
  }

  /** A layer VHD, through a loop device. */
  async layer(vhd: string): Promise<string> {
    const path = this.newMountPoint();
    await run('mount', ['-t', 'erofs', '-o', 'ro,loop', vhd, path]);
    this.mounted.push(path);
    return path;
  }

  /** Directories, lowest first, with overlayfs. */
  overlay(layers: readonly string[]): string {
    const lowerdir = [...layers].reverse().join(':');
    return this.mount('overlay', 'overlay', `lowerdir=${lowerdir}`);
  }

  /** An image index with its layer VHDs as devices, in order; all of them files, without a loop device. */
  imageIndex(index: string, layers: readonly string[]): string {
    return this.mount(index, 'erofs', layers.map((layer) => `device=${layer}`).join(','));
  }

  private mount(source: string, type: string, options: string): string {
    const path = this.newMountPoint();
    addon.mount(source, path, type, MS_RDONLY, options);
    this.mounted.push(path);
    return path;
  }

  close(): void {
    for (const path of this.mounted.reverse()) {
      addon.umount(path, MNT_DETACH);
      rmdirSync(path);
    }
    rmSync(this.dir, { recursive: true });
  }
}
