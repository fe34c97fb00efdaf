/**
 * The tree of one layer, built from its tar entries in order.
 *
 * It is what extracting the tar into an empty directory gives, as container engines do it: the last entry of a
 * name wins, a directory over a directory keeps what is in it, symbolic links on the way to a name are followed
 * within the layer. Beyond that, hard links may point forward, and whiteouts hide the layers below only, wherever
 * in the tar they stand: a name that is an entry of the same layer stays, as an opaque directory if it is one.
 */
import { getHeapStatistics } from 'node:v8';
import { resourceLimits } from 'node:worker_threads';
import { TARGET_MAX } from '../erofs/format.js';
import {
  type ByteString,
  type Directory,
  HARDLINK_XATTR,
  IMPLICIT_XATTR,
  type Inode,
  type InodeAttributes,
  OPAQUE_XATTR,
  type RegularFile,
} from '../erofs/tree.js';
import { quoteName, type TarEntry } from '../tar/tar.js';
import { checkComponent, pathComponents, pathMeaning } from './entry-path.js';
import { LayerError } from './layer-error.js';
import { layerXattrs } from './layer-xattrs.js';

/**
 * Entries of one layer: some ten times the largest in use, and no more than the heap of this thread holds, in which an
 * entry with its metadata takes about 600 bytes. What V8 says of a worker's heap counts its young generation as well,
 * where nothing can stay.
 */
const HEAP_BYTES =
  resourceLimits.maxOldGenerationSizeMb === undefined
    ? getHeapStatistics().heap_size_limit
    : resourceLimits.maxOldGenerationSizeMb * 2 ** 20;
const MAX_ENTRIES = Math.min(4 << 20, Math.floor(HEAP_BYTES / 1024));

/** Bytes of names, link targets and xattrs of one layer, which are in memory until the layer is complete. */
const MAX_NAME_BYTES = 512 << 20;

/** Directories above an inode; more than a path of 4096 bytes has. */
const MAX_DEPTH = 2048;

/** Symbolic links on the way to one name (MAXSYMLINKS of Linux). */
const MAX_SYMLINKS = 40;

const MAJOR_MAX = 0xfff;
const MINOR_MAX = 0xfffff;

const NO_EXTENTS: RegularFile['extents'] = [];

const OPAQUE_VALUE = Buffer.from('y');
const IMPLICIT: ReadonlyMap<ByteString, Uint8Array> = new Map([[IMPLICIT_XATTR, new Uint8Array()]]);

/** A name that a hard link entry gave, to be looked at again when the tar is complete. */
interface LinkedName {
  directory: Directory;
  name: ByteString;
  /** Stands for the inode that the link could not find. */
  placeholder: RegularFile;
}

interface Target {
  components: readonly ByteString[];
  entry: ByteString;
}

export class LayerTree {
  readonly root: Directory = newDirectory();
  readonly #whiteouts = new Map<Directory, Set<ByteString>>();
  readonly #opaque = new Set<Directory>();
  readonly #linkedNames: LinkedName[] = [];
  readonly #targets = new Map<Inode, Target>();
  readonly #resolved = new Map<Inode, Inode>();
  #entries = 0;
  #nameBytes = 0;

  constructor(readonly warn: (message: string) => void) {}

  /**
   * Adds an entry. Returns the inode when it is a regular file, whose extents are then the caller's business, and
   * undefined otherwise. Throws LayerError.
   */
  add(entry: TarEntry): RegularFile | undefined {
    this.#count(entry);
    const components = pathComponents(entry.name, entry.name);
    const meaning = pathMeaning(components, entry.name);
    if (meaning.kind === 'litter') return undefined;
    const name = components.pop();
    if (name === undefined) {
      if (entry.type !== 'directory') throw invalid(entry.name, 'replaces the root directory');
      Object.assign(this.root, this.#attributes(entry));
      return undefined;
    }
    const parent = this.#directory(components, entry.name, true) as Directory;
    if (meaning.kind === 'opaque') this.#opaque.add(parent);
    else if (meaning.kind === 'whiteout') this.#addWhiteout(parent, meaning.name);
    else return this.#addInode(parent, name, entry);
    return undefined;
  }

  #count(entry: TarEntry): void {
    this.#entries++;
    this.#nameBytes += entry.name.length + entry.linkname.length;
    for (const [name, value] of entry.xattrs) this.#nameBytes += name.length + value.length;
    if (this.#entries > MAX_ENTRIES || this.#nameBytes > MAX_NAME_BYTES) {
      throw new LayerError(
        'TOO_LARGE',
        `layer: more than ${MAX_ENTRIES} entries, or more than ${MAX_NAME_BYTES} bytes of names and xattrs`,
      );
    }
  }

  #addWhiteout(directory: Directory, name: ByteString): void {
    const names = this.#whiteouts.get(directory) ?? new Set();
    names.add(name);
    this.#whiteouts.set(directory, names);
  }

  #addInode(parent: Directory, name: ByteString, entry: TarEntry): RegularFile | undefined {
    if (entry.type === 'hardlink') {
      this.#addLink(parent, name, entry);
      return undefined;
    }
    const existing = parent.children.get(name);
    if (entry.type === 'directory' && existing?.kind === 'directory') {
      Object.assign(existing, this.#attributes(entry));
      return undefined;
    }
    const inode = this.#inode(entry, entry.type);
    parent.children.set(name, inode);
    return inode.kind === 'file' ? inode : undefined;
  }

  #attributes(entry: TarEntry): InodeAttributes {
    const { mode, uid, gid, mtime } = entry;
    return { mode, uid, gid, mtime, xattrs: layerXattrs(entry.xattrs, entry.name, this.warn) };
  }

  #inode(entry: TarEntry, type: Exclude<TarEntry['type'], 'hardlink'>): Inode {
    // Field by field, as there are many: objects of a spread take more memory and time.
    const { mode, uid, gid, mtime, xattrs } = this.#attributes(entry);
    switch (type) {
      case 'file':
        return { kind: 'file', mode, uid, gid, mtime, xattrs, size: entry.size, extents: NO_EXTENTS };
      case 'directory':
        return { kind: 'directory', mode, uid, gid, mtime, xattrs, children: new Map() };
      case 'symlink':
        if (entry.linkname.length < 1 || entry.linkname.length > TARGET_MAX) {
          throw invalid(entry.name, `is a symbolic link with a target of ${entry.linkname.length} bytes`);
        }
        return { kind: 'symlink', mode, uid, gid, mtime, xattrs, target: entry.linkname };
      case 'fifo':
        return { kind: 'fifo', mode, uid, gid, mtime, xattrs, major: 0, minor: 0 };
      default: {
        const { major, minor } = entry;
        if (major < 0 || major > MAJOR_MAX || minor < 0 || minor > MINOR_MAX) {
          throw invalid(entry.name, `is a device ${major}/${minor}, which Linux does not have`);
        }
        return { kind: type, mode, uid, gid, mtime, xattrs, major, minor };
      }
    }
  }

  #addLink(parent: Directory, name: ByteString, entry: TarEntry): void {
    if (entry.linkname.startsWith('/')) {
      const target = quoteName(entry.linkname);
      throw new LayerError(
        'HOSTILE_PATH',
        `layer: ${quoteName(entry.name)} is a hard link to the absolute path ${target}; build the image with relative ones`,
      );
    }
    const components = pathComponents(entry.linkname, entry.name);
    const found = this.#lookup(components, entry.name);
    if (components.length === 0 || found?.kind === 'directory') {
      throw invalid(entry.name, 'is a hard link to a directory');
    }
    const inode = found ?? this.#placeholder(components, entry);
    parent.children.set(name, inode);
    if (this.#targets.has(inode)) {
      this.#linkedNames.push({ directory: parent, name, placeholder: inode as RegularFile });
    }
  }

  #placeholder(components: readonly ByteString[], entry: TarEntry): RegularFile {
    const { xattrs, ...attributes } = this.#attributes(entry);
    const target = Buffer.from(components.join('/'), 'latin1');
    const placeholder: RegularFile = {
      kind: 'file',
      ...attributes,
      size: 0,
      extents: [],
      xattrs: new Map([...xattrs, [HARDLINK_XATTR, target]]),
    };
    this.#targets.set(placeholder, { components, entry: entry.name });
    return placeholder;
  }

  #lookup(components: readonly ByteString[], entry: ByteString): Inode | undefined {
    const name = components.at(-1);
    if (name === undefined) return this.root;
    return this.#directory(components.slice(0, -1), entry, false)?.children.get(name);
  }

  /** The directory at a path; a missing one is made when `create` is set, or else undefined returned. */
  #directory(components: readonly ByteString[], entry: ByteString, create: boolean): Directory | undefined {
    const path = [this.root];
    const todo = components.toReversed();
    let symlinks = 0;
    for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
      const directory = path.at(-1) as Directory;
      if (name === '' || name === '.') continue;
      if (name === '..') {
        if (path.length > 1) path.pop();
        continue;
      }
      const child = directory.children.get(name);
      if (child?.kind === 'symlink') {
        if (++symlinks > MAX_SYMLINKS) throw invalid(entry, 'lies behind too many symbolic links');
        if (child.target.startsWith('/')) path.length = 1;
        todo.push(...child.target.split('/').reverse());
        continue;
      }
      if (child === undefined && !create) return undefined;
      if (child !== undefined && child.kind !== 'directory') {
        if (!create) return undefined;
        throw new LayerError(
          'NOT_A_DIRECTORY',
          `layer: ${quoteName(entry)} lies in ${quoteName(name)}, which is no directory`,
        );
      }
      path.push(child ?? makeDirectory(directory, name, entry));
      if (path.length > MAX_DEPTH) throw invalid(entry, `lies more than ${MAX_DEPTH} directories deep`);
    }
    return path.at(-1);
  }

  /** Settles hard links and whiteouts; nothing may be added any more. */
  finish(): Directory {
    for (const { directory, name, placeholder } of this.#linkedNames) {
      if (directory.children.get(name) === placeholder)
        directory.children.set(name, this.#resolve(placeholder));
    }
    for (const [directory, names] of this.#whiteouts) {
      for (const name of names) {
        const inode = directory.children.get(name);
        if (inode === undefined) directory.children.set(name, newWhiteout());
        else if (inode.kind === 'directory') this.#opaque.add(inode);
      }
    }
    for (const directory of this.#opaque) {
      directory.xattrs = new Map([...directory.xattrs, [OPAQUE_XATTR, OPAQUE_VALUE]]);
    }
    return this.root;
  }

  /** The inode that a placeholder stands for; the placeholder itself when its target is not in the layer. */
  #resolve(placeholder: RegularFile): Inode {
    const chain = new Set<Inode>();
    let inode: Inode = placeholder;
    for (let next = this.#next(inode); next !== undefined; next = this.#next(inode)) {
      chain.add(inode);
      if (chain.has(next)) {
        const entry = this.#targets.get(inode)?.entry ?? '';
        throw new LayerError('LINK_CYCLE', `layer: ${quoteName(entry)} is one of hard links in a circle`);
      }
      inode = next;
    }
    for (const link of chain) this.#resolved.set(link, inode);
    return inode;
  }

  /** What a placeholder's target is now; undefined when that is nothing, or `inode` is no placeholder. */
  #next(inode: Inode): Inode | undefined {
    const target = this.#targets.get(inode);
    if (target === undefined) return undefined;
    const found = this.#resolved.get(inode) ?? this.#lookup(target.components, target.entry);
    if (found?.kind === 'directory') throw invalid(target.entry, 'is a hard link to a directory');
    return found === inode ? undefined : found;
  }
}

/** A directory that no entry has described yet. */
function newDirectory(): Directory {
  return {
    kind: 'directory',
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtime: 0n,
    xattrs: IMPLICIT,
    children: new Map(),
  };
}

function makeDirectory(parent: Directory, name: ByteString, entry: ByteString): Directory {
  checkComponent(name, entry);
  const directory = newDirectory();
  parent.children.set(name, directory);
  return directory;
}

function newWhiteout(): Inode {
  return { kind: 'chardev', mode: 0, uid: 0, gid: 0, mtime: 0n, xattrs: new Map(), major: 0, minor: 0 };
}

function invalid(entry: ByteString, what: string): LayerError {
  return new LayerError('INVALID_ENTRY', `layer: ${quoteName(entry)} ${what}`);
}
