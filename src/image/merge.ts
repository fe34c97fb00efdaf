/**
 * The merge of layer trees into one, with the semantics of the kernel's overlayfs (Documentation/filesystems/
 * overlayfs.rst): a whiteout deletes what the layers below have, an opaque directory hides it, a directory over a
 * directory is merged and has the attributes of the topmost, anything else replaces. Three things differ, all on
 * purpose: an opaque root hides what is below (OCI image-spec layer.md; overlayfs looks at no mark on a root), hard
 * links to files of lower layers (HARDLINK_XATTR) are resolved, and a directory that its layer does not describe
 * (IMPLICIT_XATTR) has the attributes of the layers below.
 *
 * Nothing recurses, so the depth of a tree is no limit; layers are read, never changed.
 */
import {
  type ByteString,
  type Directory,
  HARDLINK_XATTR,
  IMPLICIT_XATTR,
  type Inode,
  isWhiteout,
  OPAQUE_XATTR,
  type RegularFile,
} from '../erofs/tree.js';
import { ImageError } from './image-error.js';

export interface MergeLayer {
  root: Directory;
  /** The device that the layer's extents get in the merged tree. */
  device: number;
  /** For messages: the diffID. */
  name: string;
}

/** A directory of one layer; `level` counts the layers from 0, the lowest. */
interface Source {
  directory: Directory;
  level: number;
}

/** What a name stands for: directories to be merged, topmost first, or one inode that is no directory. */
type Found =
  | { sources: Source[]; leaf?: undefined }
  | { sources?: undefined; leaf: Exclude<Inode, Directory>; level: number };

const OVERLAY_PREFIX = 'trusted.overlay.';
/** As many symbolic links as the kernel follows in one path (path_resolution(7)). */
const MAX_SYMLINKS = 40;

/** Merges layers, lowest first. Hard links stay one object. Throws ImageError BAD_HARD_LINK. */
export function mergeLayers(layers: readonly MergeLayer[]): Directory {
  return new Merge(layers).run();
}

class Merge {
  /** What an inode of a layer has become, so that all its names share one inode. */
  private readonly copies = new Map<Inode, Inode>();

  constructor(private readonly layers: readonly MergeLayer[]) {}

  run(): Directory {
    const sources = this.rootSources(this.layers.length - 1);
    if (sources.length === 0) throw new ImageError('INVALID_INPUT', 'an image needs at least one layer');
    const root = emptyCopy(sources);
    const work = [{ sources, target: root }];
    for (let next = work.pop(); next !== undefined; next = work.pop()) {
      const { sources, target } = next;
      const deleted = new Set<ByteString>();
      for (const [i, { directory, level }] of sources.entries()) {
        for (const [name, inode] of directory.children) {
          if (i > 0 && (target.children.has(name) || deleted.has(name))) continue;
          if (inode.kind === 'directory') {
            const merged = directoriesOf(sources, name, i);
            const directory = emptyCopy(merged);
            target.children.set(name, directory);
            work.push({ sources: merged, target: directory });
          } else if (isWhiteout(inode)) {
            deleted.add(name);
          } else {
            target.children.set(name, this.copyLeaf(inode, level));
          }
        }
      }
    }
    return root;
  }

  /** The roots of the layers up to `level`, down to one that is opaque. */
  private rootSources(level: number): Source[] {
    const sources: Source[] = [];
    for (let i = level; i >= 0; i--) {
      const directory = (this.layers[i] as MergeLayer).root;
      sources.push({ directory, level: i });
      if (isOpaque(directory)) break;
    }
    return sources;
  }

  private copyLeaf(inode: Exclude<Inode, Directory>, level: number): Inode {
    const known = this.copies.get(inode);
    if (known !== undefined) return known;
    const [origin, originLevel] = this.linkOrigin(inode, level);
    let copy = this.copies.get(origin);
    if (copy === undefined) {
      copy = withoutMarks(origin);
      if (copy.kind === 'file') copy = onDevice(copy, (this.layers[originLevel] as MergeLayer).device);
      this.copies.set(origin, copy);
    }
    if (origin !== inode) this.copies.set(inode, copy);
    return copy;
  }

  /**
   * The inode that a hard link stands for, which is the inode itself unless its target is in another layer. It is
   * looked up in the layers below; when it is not there, in this layer as well, since a path that goes through a
   * symbolic link of a lower layer may lead back into this one.
   */
  private linkOrigin(
    link: Exclude<Inode, Directory>,
    linkLevel: number,
  ): [origin: Exclude<Inode, Directory>, level: number] {
    let inode = link;
    let level = linkLevel;
    const passed = new Set<Inode>();
    for (;;) {
      const target = inode.kind === 'file' && inode.size === 0 ? inode.xattrs.get(HARDLINK_XATTR) : undefined;
      if (target === undefined) return [inode, level];
      passed.add(inode);
      const path = Buffer.from(target).toString('latin1');
      const found =
        this.lookUpPath(this.rootSources(level - 1), path) ?? this.lookUpPath(this.rootSources(level), path);
      if (found?.leaf === undefined || passed.has(found.leaf)) {
        throw new ImageError(
          'BAD_HARD_LINK',
          `layer ${this.layers[level]?.name}: hard link to ${printablePath(path)}, which ${found?.sources ? 'is a directory' : 'no layer below has'}; build the image again`,
        );
      }
      inode = found.leaf;
      level = found.level;
    }
  }

  /** Follows symbolic links in all components but the last, as link(2) does. */
  private lookUpPath(root: Source[], path: ByteString): Found | undefined {
    if (root.length === 0) return undefined;
    const parents: Source[][] = [root];
    const pending = path.split('/').reverse();
    let links = 0;
    for (;;) {
      const name = pending.pop();
      if (name === undefined) return { sources: parents.at(-1) as Source[] };
      if (name === '' || name === '.') continue;
      if (name === '..') {
        if (parents.length > 1) parents.pop();
        continue;
      }
      const found = lookUp(parents.at(-1) as Source[], name);
      if (found === undefined) return undefined;
      if (found.sources !== undefined) {
        parents.push(found.sources);
        continue;
      }
      if (pending.length === 0) return found;
      if (found.leaf.kind !== 'symlink' || ++links > MAX_SYMLINKS) return undefined;
      if (found.leaf.target.startsWith('/')) parents.length = 1;
      pending.push(...found.leaf.target.split('/').reverse());
    }
  }
}

/** Looks a name up in merged directories; undefined if it is absent or deleted. */
function lookUp(sources: readonly Source[], name: ByteString): Found | undefined {
  for (const [i, { directory, level }] of sources.entries()) {
    const inode = directory.children.get(name);
    if (inode === undefined) continue;
    if (inode.kind === 'directory') return { sources: directoriesOf(sources, name, i) };
    return isWhiteout(inode) ? undefined : { leaf: inode, level };
  }
  return undefined;
}

/** The directories that are merged under a name which is one in the `first`-th source. */
function directoriesOf(sources: readonly Source[], name: ByteString, first: number): Source[] {
  const directories: Source[] = [];
  for (let i = first; i < sources.length; i++) {
    const { directory, level } = sources[i] as Source;
    const inode = directory.children.get(name);
    if (inode === undefined) continue;
    if (inode.kind !== 'directory') break;
    directories.push({ directory: inode, level });
    if (isOpaque(inode)) break;
  }
  return directories;
}

function isOpaque(directory: Directory): boolean {
  const value = directory.xattrs.get(OPAQUE_XATTR);
  return value?.length === 1 && value[0] === 0x79;
}

/** The attributes of the topmost directory that its layer describes, without children. `sources` is not empty. */
function emptyCopy(sources: readonly Source[]): Directory {
  const described = sources.find(({ directory }) => !directory.xattrs.has(IMPLICIT_XATTR)) ?? sources[0];
  const { kind, mode, uid, gid, mtime, xattrs } = withoutMarks((described as Source).directory);
  return { kind, mode, uid, gid, mtime, xattrs, children: new Map() };
}

function withoutMarks<T extends Inode>(inode: T): T {
  let marked = false;
  for (const name of inode.xattrs.keys()) marked ||= isMark(name);
  if (!marked) return inode;
  return { ...inode, xattrs: new Map([...inode.xattrs].filter(([name]) => !isMark(name))) };
}

function isMark(name: ByteString): boolean {
  return name.startsWith(OVERLAY_PREFIX) || name === IMPLICIT_XATTR;
}

/** Field by field, as layer trees have them: the writer is compiled for objects of one shape. */
function onDevice(file: RegularFile, device: number): RegularFile {
  const { kind, mode, uid, gid, mtime, xattrs, size } = file;
  const extents = file.extents.map(({ fileOffset, block, blocks }) => ({
    fileOffset,
    device,
    block,
    blocks,
  }));
  return { kind, mode, uid, gid, mtime, xattrs, size, extents };
}

function printablePath(path: ByteString): string {
  return JSON.stringify(Buffer.from(path, 'latin1').toString());
}
