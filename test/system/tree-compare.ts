/**
 * Walks a mounted tree and compares two of them in everything that a container can see: type, mode, owner, size,
 * mtime in nanoseconds, device numbers, link targets, xattrs, content and which names are hard links of each other.
 *
 * The walk is a process of its own (`node tree-compare.js DIRECTORY`), so that a tree can be one that this process
 * serves. It takes names as bytes, one per character.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, lstatSync, openSync, readdirSync, readlinkSync, readSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** What is known of one name; numbers that need more than 53 bits are decimal strings. */
export interface TreeEntry {
  type: 'file' | 'directory' | 'symlink' | 'chardev' | 'blockdev' | 'fifo' | 'socket';
  /** Octal, permission bits only. */
  mode: string;
  uid: number;
  gid: number;
  /** Bytes; 0 for directories, whose size says nothing. */
  size: number;
  mtimeNs: string;
  rdev: string;
  target: string;
  /** `name=hex`, sorted. */
  xattrs: string[];
  /** sha256 of a regular file. */
  content: string;
  /** The first name, in byte order, of the same inode; of directories their own. */
  firstLink: string;
}

export type Tree = Map<string, TreeEntry>;

export interface WalkOptions {
  /**
   * Leaves out names that readdir gives but lstat does not know: overlayfs lists whiteouts in directories that only
   * one layer has.
   */
  ignoreGhosts?: boolean;
  /** Leaves these xattrs out, such as those of a security module of the host. */
  ignoreXattrs?: readonly string[];
}

/** Walks the tree below `root`; paths are relative to it, the root's is empty. */
export async function walkTree(root: string, options: WalkOptions = {}): Promise<Tree> {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), root, JSON.stringify(options)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise<unknown>((resolve) =>
    child.once('close', (code, signal) => resolve(signal ?? code)),
  );
  const tree: Tree = new Map();
  for await (const line of createInterface({ input: child.stdout, crlfDelay: Number.POSITIVE_INFINITY })) {
    const [path, entry] = JSON.parse(line) as [string, TreeEntry];
    tree.set(path, entry);
  }
  const status = await ended;
  if (status !== 0) throw new Error(`the walk of ${root} ended with ${status}`);
  return tree;
}

/** One line per difference, `limit` at most; empty when the trees are equal. */
export function differences(a: Tree, b: Tree, limit = 20): string[] {
  const lines: string[] = [];
  for (const path of [...new Set([...a.keys(), ...b.keys()])].sort()) {
    const left = a.get(path);
    const right = b.get(path);
    if (left === undefined || right === undefined) {
      lines.push(`${JSON.stringify(path)}: only in the ${left === undefined ? 'second' : 'first'} tree`);
    } else {
      for (const key of Object.keys(left) as (keyof TreeEntry)[]) {
        const [was, is] = [JSON.stringify(left[key]), JSON.stringify(right[key])];
        if (was !== is) lines.push(`${JSON.stringify(path)}: ${key} ${was} and ${is}`);
      }
    }
    if (lines.length >= limit) break;
  }
  return lines.slice(0, limit);
}

const TYPES: Record<number, TreeEntry['type']> = {
  0o1: 'fifo',
  0o2: 'chardev',
  0o4: 'directory',
  0o6: 'blockdev',
  0o10: 'file',
  0o12: 'symlink',
  0o14: 'socket',
};

function walk(root: string, options: WalkOptions): Tree {
  const tree: Tree = new Map();
  const contents = new Map<string, string>();
  const inodes = new Map<string, string[]>();
  const xattrs = readXattrs(root, options);
  const pending = [''];
  for (let path = pending.pop(); path !== undefined; path = pending.pop()) {
    const full = Buffer.from(path === '' ? root : `${root}/${path}`, path === '' ? 'utf8' : 'latin1');
    const status = lstatSync(full, { bigint: true, throwIfNoEntry: false });
    if (status === undefined) {
      if (options.ignoreGhosts) continue;
      throw new Error(`${full} is listed, but it is not there`);
    }
    const type = TYPES[Number(status.mode >> 12n)] ?? 'socket';
    const inode = `${status.dev}:${status.ino}`;
    if (type === 'directory') {
      const prefix = path === '' ? '' : `${path}/`;
      for (const name of readdirSync(full, { encoding: 'buffer' }))
        pending.push(prefix + name.toString('latin1'));
    } else {
      inodes.set(inode, [...(inodes.get(inode) ?? []), path]);
    }
    if (type === 'file' && !contents.has(inode)) contents.set(inode, hashFile(full));
    tree.set(path, {
      type,
      mode: (status.mode & 0o7777n).toString(8),
      uid: Number(status.uid),
      gid: Number(status.gid),
      size: type === 'directory' ? 0 : Number(status.size),
      mtimeNs: String(status.mtimeNs),
      rdev: type === 'chardev' || type === 'blockdev' ? String(status.rdev) : '',
      target: type === 'symlink' ? readlinkSync(full, { encoding: 'buffer' }).toString('latin1') : '',
      xattrs: xattrs.get(path) ?? [],
      content: (type === 'file' && contents.get(inode)) || '',
      firstLink: path,
    });
  }
  for (const paths of inodes.values()) {
    const [first] = paths.sort();
    for (const path of paths) Object.assign(tree.get(path) as TreeEntry, { firstLink: first });
  }
  return tree;
}

const buffer = Buffer.alloc(1 << 20);

function hashFile(path: Buffer): string {
  const hash = createHash('sha256');
  const fd = openSync(path, 'r');
  try {
    for (;;) {
      const length = readSync(fd, buffer, 0, buffer.length, null);
      if (length === 0) return hash.digest('hex');
      hash.update(buffer.subarray(0, length));
    }
  } finally {
    closeSync(fd);
  }
}

/** All xattrs below `root` with one getfattr(1), which writes odd bytes of names as `\ooo`. */
function readXattrs(root: string, { ignoreGhosts, ignoreXattrs = [] }: WalkOptions): Map<string, string[]> {
  const { stdout, stderr, status, error } = spawnSync(
    'getfattr',
    ['--recursive', '--physical', '--no-dereference', '--match=-', '--dump', '--encoding=hex', '.'],
    { cwd: root, maxBuffer: 1 << 30, env: { ...process.env, LC_ALL: 'C' } },
  );
  if (error !== undefined) throw error;
  // A mount of an image without xattrs says so of every name.
  const without = /^(getfattr: .*: Operation not supported\n)*$/.test(stderr.toString('latin1'));
  if (status !== 0 && !ignoreGhosts && !without) throw new Error(`getfattr in ${root}: ${stderr}`);
  const text = (quoted: string) =>
    quoted.replace(/\\([0-7]{3})/g, (_, octal) => String.fromCharCode(Number.parseInt(octal, 8)));
  const found = new Map<string, string[]>();
  for (const section of stdout.toString('latin1').split('\n\n')) {
    const [heading = '', ...lines] = section.split('\n').filter((line) => line !== '');
    const path = text(heading.replace(/^# file: /, '')).replace(/^\.(\/|$)/, '');
    const values = lines.map((line) => {
      const [, name = '', hex = ''] = /^([^=]*)(?:=(?:0x)?(.*))?$/.exec(line) ?? [];
      return `${text(name)}=${hex}`;
    });
    found.set(
      path,
      values.filter((value) => !ignoreXattrs.some((name) => value.startsWith(`${name}=`))).sort(),
    );
  }
  return found;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , root = '.', options = '{}'] = process.argv;
  const lines = [...walk(root, JSON.parse(options))].map((line) => JSON.stringify(line));
  process.stdout.write(`${lines.join('\n')}\n`);
}
