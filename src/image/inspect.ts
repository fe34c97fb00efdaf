/** What `orca inspect` shows of an image index: pure functions over its bytes, wherever those come from. */
import type { ErofsImage, ErofsInode } from '../erofs/reader.js';
import { BLOCK_SIZE, type Inode } from '../erofs/tree.js';
import { printable } from '../oci/digest.js';
import { ImageError } from './image-error.js';

export interface DeviceUsage {
  diffID: string;
  /** Bytes of the layer VHD's payload. */
  size: number;
  /** Bytes of it that files of the merged image use; what higher layers hide is not counted, nor are metadata. */
  visible: number;
  /** Regular files of the merged image that have data in it. */
  files: number;
}

export interface IndexSummary {
  /** Inodes of the merged image, by kind. */
  inodes: Record<Inode['kind'], number>;
  /** In device order. */
  devices: DeviceUsage[];
}

/** A run of bytes of a file. */
export interface PathExtent {
  /** Bytes from the start of the file. */
  fileOffset: number;
  length: number;
  /** Absent for a hole. */
  layer?: { diffID: string; offset: number };
}

export interface PathDescription {
  /** UTF-8 where it is, replacement characters elsewhere. */
  path: string;
  kind: Inode['kind'];
  mode: number;
  uid: number;
  gid: number;
  /** Nanoseconds since 1970. */
  mtime: bigint;
  nlink: number;
  /** Bytes. */
  size: number;
  target?: string;
  xattrs: { name: string; value: Uint8Array }[];
  /** Of a regular file; covers all of its bytes in order. */
  extents: PathExtent[];
}

function diffIDOf(image: ErofsImage, device: number): string {
  return `sha256:${image.devices[device - 1]?.tag ?? ''}`;
}

/** Walks the whole index once. Throws ErofsError. */
export function summarizeIndex(image: ErofsImage): IndexSummary {
  const inodes = { file: 0, directory: 0, symlink: 0, chardev: 0, blockdev: 0, fifo: 0, socket: 0 };
  const devices = image.devices.map(({ blocks }, i) => ({
    diffID: diffIDOf(image, i + 1),
    size: blocks * BLOCK_SIZE,
    visible: 0,
    files: 0,
  }));
  const seen = new Set([image.rootNid]);
  const pending = [image.rootNid];
  for (let nid = pending.pop(); nid !== undefined; nid = pending.pop()) {
    const inode = image.inode(nid);
    inodes[inode.kind]++;
    if (inode.kind === 'directory') {
      for (const entry of image.entries(inode)) {
        if (seen.has(entry.nid)) continue;
        seen.add(entry.nid);
        pending.push(entry.nid);
      }
    } else if (inode.kind === 'file') {
      const used = new Set<number>();
      for (const { device, blocks, fileOffset } of image.extents(inode)) {
        const usage = devices[device - 1];
        if (usage === undefined) continue;
        usage.visible += Math.min(blocks * BLOCK_SIZE, inode.size - fileOffset);
        if (!used.has(device)) usage.files++;
        used.add(device);
      }
    }
  }
  return { inodes, devices };
}

/** Describes one path, which starts at the root; its last component is not followed. Throws ImageError NOT_FOUND. */
export function describePath(image: ErofsImage, path: string): PathDescription {
  const inode = findInode(image, path);
  const description = {
    path: `/${components(path).join('/')}`,
    kind: inode.kind,
    mode: inode.mode,
    uid: inode.uid,
    gid: inode.gid,
    mtime: inode.mtime,
    nlink: inode.nlink,
    size: inode.size,
    xattrs: [...image.xattrs(inode)].map(([name, value]) => ({ name: asText(name), value })),
    extents: inode.kind === 'file' ? coverExtents(image, inode) : [],
  };
  return inode.kind === 'symlink' ? { ...description, target: asText(image.readlink(inode)) } : description;
}

function components(path: string): string[] {
  return path.split('/').filter((name) => name !== '' && name !== '.');
}

function findInode(image: ErofsImage, path: string): ErofsInode {
  let inode = image.inode(image.rootNid);
  for (const [i, text] of components(path).entries()) {
    const name = Buffer.from(text).toString('latin1');
    const entry =
      inode.kind === 'directory' ? image.entries(inode).find((entry) => entry.name === name) : undefined;
    if (entry === undefined) {
      const parent = `/${components(path).slice(0, i).join('/')}`;
      const why =
        inode.kind === 'directory' ? `${parent} has no ${printable(text)}` : `${parent} is a ${inode.kind}`;
      throw new ImageError('NOT_FOUND', `${printable(path)} is not in the image: ${why}`);
    }
    inode = image.inode(entry.nid);
  }
  return inode;
}

function coverExtents(image: ErofsImage, inode: ErofsInode): PathExtent[] {
  const covered: PathExtent[] = [];
  let end = 0;
  const hole = (until: number) => {
    if (until > end) covered.push({ fileOffset: end, length: until - end });
  };
  for (const { fileOffset, device, block, blocks } of image.extents(inode)) {
    hole(fileOffset);
    end = Math.min(fileOffset + blocks * BLOCK_SIZE, inode.size);
    covered.push({
      fileOffset,
      length: end - fileOffset,
      layer: { diffID: diffIDOf(image, device), offset: block * BLOCK_SIZE },
    });
  }
  hole(inode.size);
  return covered;
}

function asText(bytes: string): string {
  return Buffer.from(bytes, 'latin1').toString();
}
