/** What the kernel and erofs-utils make of our images, and what we make of theirs. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  fstatSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { ErofsImage, readTree } from '../../src/erofs/reader.js';
import {
  BLOCK_SIZE,
  type ByteString,
  type Directory,
  type Inode,
  type RegularFile,
} from '../../src/erofs/tree.js';
import { addon } from '../../src/native/addon.js';
import { fileReader, fixedFooter, openVhd } from '../../src/vhd/vhd.js';
import { DEVICES, imageOf, sampleTree, treeArbitrary } from '../erofs/tree-arbitrary.js';
import { run } from './command.js';

const MS_RDONLY = 1;
/** Larger files are compared at their ends and in the middle. */
const WHOLE_MAX = 1 << 20;

function workDirectory(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'orca-erofs-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Byte `offset` of a block is the same all over the block, and tells device and block. */
function fillOf(device: number, block: number): number {
  return device === 0 ? block & 0xff : (device * 100 + block) & 0xff;
}

function expectedContent(file: RegularFile, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(Math.min(length, Math.max(file.size - offset, 0)));
  for (const { fileOffset, device, block, blocks } of file.extents) {
    for (let index = 0; index < blocks; index++) {
      const from = fileOffset + index * BLOCK_SIZE - offset;
      if (from < bytes.length && from + BLOCK_SIZE > 0) {
        bytes.subarray(Math.max(from, 0), from + BLOCK_SIZE).fill(fillOf(device, block + index));
      }
    }
  }
  return bytes;
}

function samples(size: number): readonly [offset: number, length: number][] {
  return size <= WHOLE_MAX
    ? [[0, size]]
    : [
        [0, 5000],
        [Math.floor(size / 2), 5000],
        [size - 5000, 5000],
      ];
}

function digestOf(size: number, read: (offset: number, length: number) => Uint8Array): string {
  const hash = createHash('sha256');
  for (const [offset, length] of samples(size)) hash.update(read(offset, length));
  return hash.digest('hex');
}

function inFile(path: Buffer): (offset: number, length: number) => Uint8Array {
  return (offset, length) => {
    const fd = openSync(path, 'r');
    const bytes = Buffer.alloc(length);
    readSync(fd, bytes, 0, length, offset);
    closeSync(fd);
    return bytes;
  };
}

type Described = Record<string, unknown>;

/** The VFS hands out user xattrs of files and directories only. */
function visibleXattrs({ kind, xattrs }: Pick<Inode, 'kind' | 'xattrs'>): [string, string][] {
  return [...xattrs]
    .filter(([name]) => !name.startsWith('user.') || kind === 'file' || kind === 'directory')
    .map(([name, value]): [string, string] => [name, Buffer.from(value).toString('hex')])
    .sort();
}

/** A tree as the kernel should show it, by path; the first path of an inode, in order, stands for all. */
function describeExpected(
  root: Directory,
  content: (file: RegularFile) => string,
): Map<ByteString, Described> {
  const described = new Map<ByteString, Described>();
  const nlinks = new Map<Inode, number>();
  const firstPath = new Map<Inode, ByteString>();
  const visit = (inode: Inode, path: ByteString): void => {
    nlinks.set(inode, (nlinks.get(inode) ?? 0) + 1);
    if (!firstPath.has(inode)) firstPath.set(inode, path);
    const { kind, mode, uid, gid, mtime } = inode;
    const common = { inode: firstPath.get(inode), kind, mode, uid, gid, mtime, xattrs: visibleXattrs(inode) };
    if (kind === 'directory') {
      const names = [...inode.children.keys()].sort();
      const subdirectories = names.filter((name) => inode.children.get(name)?.kind === 'directory').length;
      described.set(path, { ...common, nlink: 2 + subdirectories, names });
      for (const name of names) visit(inode.children.get(name) as Inode, path ? `${path}/${name}` : name);
    } else if (kind === 'file') {
      described.set(path, { ...common, size: inode.size, content: content(inode) });
    } else if (kind === 'symlink') {
      described.set(path, { ...common, target: inode.target });
    } else {
      described.set(path, { ...common, major: inode.major, minor: inode.minor });
    }
    if (kind !== 'directory') inodes.push([path, inode]);
  };
  const inodes: [ByteString, Inode][] = [];
  visit(root, '');
  for (const [path, inode] of inodes) (described.get(path) as Described).nlink = nlinks.get(inode);
  return described;
}

function unescape(text: string): ByteString {
  return text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
}

/** The xattrs of everything below a directory, by path. */
function readXattrs(mountpoint: string): Map<ByteString, [string, string][]> {
  const all = new Map<ByteString, [string, string][]>();
  // getfattr complains, with exit code 1, of those user xattrs that it is shown but may not read.
  const script = 'cd "$1" && find . -exec getfattr -h -d -m - -e hex {} + 2>/dev/null || true';
  const { stdout: output } = spawnSync('sh', ['-c', script, 'sh', mountpoint], {
    encoding: 'latin1',
    maxBuffer: 1 << 26,
  });
  for (const paragraph of output.split('\n\n')) {
    const [head, ...lines] = paragraph.trim().split('\n');
    if (head === undefined || !head.startsWith('# file: ')) continue;
    const path = unescape(head.slice('# file: '.length)).replace(/^\.(\/|$)/, '');
    const xattrs = lines.map((line): [string, string] => {
      const [name, value] = line.split('=');
      return [unescape(name as string), (value ?? '').replace(/^(0x|"")/, '')];
    });
    all.set(path, xattrs.sort());
  }
  return all;
}

const KINDS: readonly [test: string, kind: Inode['kind']][] = [
  ['isFile', 'file'],
  ['isDirectory', 'directory'],
  ['isSymbolicLink', 'symlink'],
  ['isCharacterDevice', 'chardev'],
  ['isBlockDevice', 'blockdev'],
  ['isFIFO', 'fifo'],
  ['isSocket', 'socket'],
];

/** What is mounted at a directory, in the same form. */
function describeMounted(mountpoint: string): Map<ByteString, Described> {
  const described = new Map<ByteString, Described>();
  const firstPath = new Map<bigint, ByteString>();
  const xattrs = readXattrs(mountpoint);
  const visit = (path: ByteString): void => {
    const full = Buffer.from(path === '' ? mountpoint : `${mountpoint}/${path}`, 'latin1');
    const stat = lstatSync(full, { bigint: true });
    if (!firstPath.has(stat.ino)) firstPath.set(stat.ino, path);
    const isKind = stat as unknown as Record<string, () => boolean>;
    const kind = KINDS.find(([predicate]) => isKind[predicate]?.())?.[1] as Inode['kind'];
    const common = {
      inode: firstPath.get(stat.ino),
      kind,
      mode: Number(stat.mode & 0o7777n),
      uid: Number(stat.uid),
      gid: Number(stat.gid),
      mtime: stat.mtimeNs,
      xattrs: xattrs.get(path) ?? [],
      nlink: Number(stat.nlink),
    };
    if (kind === 'directory') {
      const names = readdirSync(full, { encoding: 'buffer' }).map((name) => name.toString('latin1'));
      described.set(path, { ...common, names: names.sort() });
      for (const name of names) visit(path ? `${path}/${name}` : name);
    } else if (kind === 'file') {
      const size = Number(stat.size);
      described.set(path, { ...common, size, content: digestOf(size, inFile(full)) });
    } else if (kind === 'symlink') {
      described.set(path, {
        ...common,
        target: readlinkSync(full, { encoding: 'buffer' }).toString('latin1'),
      });
    } else {
      const major = Number(((stat.rdev >> 8n) & 0xfffn) | ((stat.rdev >> 32n) & ~0xfffn));
      const minor = Number((stat.rdev & 0xffn) | ((stat.rdev >> 12n) & 0xffffff00n));
      described.set(path, { ...common, major, minor });
    }
  };
  visit('');
  return described;
}

/** The kernel parses ACLs and capabilities, and shows no uid of all ones: arbitrary ones would be refused. */
function acceptable(root: Directory): Directory {
  const visited = new Set<Inode>();
  const visit = (inode: Inode): void => {
    if (visited.has(inode)) return;
    visited.add(inode);
    inode.uid = Math.min(inode.uid, 0xfffffffe);
    inode.gid = Math.min(inode.gid, 0xfffffffe);
    inode.xattrs = new Map(
      [...inode.xattrs].filter(([name]) => !/^system\.|^security\.capability$/.test(name)),
    );
    if (inode.kind === 'directory') for (const child of inode.children.values()) visit(child);
  };
  visit(root);
  return root;
}

/** Mounts an image through a loop device, or with its devices as files, and unmounts it after `use`. */
async function mounted<T>(
  directory: string,
  image: string,
  devices: readonly string[],
  use: (mountpoint: string) => T,
): Promise<T> {
  const mountpoint = mkdtempSync(join(directory, 'mount-'));
  if (devices.length === 0) await run('mount', ['-t', 'erofs', '-o', 'loop,ro', image, mountpoint]);
  else addon.mount(image, mountpoint, 'erofs', MS_RDONLY, devices.map((path) => `device=${path}`).join(','));
  try {
    return use(mountpoint);
  } finally {
    addon.umount(mountpoint, 0);
  }
}

function writeDevices(directory: string): string[] {
  return DEVICES.map(({ blocks }, index) => {
    const path = join(directory, `device-${index + 1}`);
    const bytes = Buffer.alloc(blocks * BLOCK_SIZE);
    for (let block = 0; block < blocks; block++) {
      bytes.fill(fillOf(index + 1, block), block * BLOCK_SIZE, (block + 1) * BLOCK_SIZE);
    }
    writeFileSync(path, bytes);
    return path;
  });
}

const contentOf = (file: RegularFile): string =>
  digestOf(file.size, (offset, length) => expectedContent(file, offset, length));

test('the kernel shows a layer VHD as it was written', async (t) => {
  const directory = workDirectory(t);
  const root = sampleTree();
  const image = imageOf(root);
  const path = join(directory, 'sample.vhd');
  writeFileSync(path, Buffer.concat([image, fixedFooter(image.length, Buffer.alloc(16, 1))]));
  await mounted(directory, path, [], (mountpoint) => {
    t.deepEqual(describeMounted(mountpoint), describeExpected(root, contentOf));
  });
  await run('fsck.erofs', [path]);
});

const SEED = Number(process.env.ORCA_TEST_SEED ?? Date.now() % 2 ** 31);

test(`the kernel shows arbitrary trees on three devices as they were written (seed ${SEED})`, async (t) => {
  const directory = workDirectory(t);
  const devices = writeDevices(directory);
  for (const [index, root] of fc.sample(treeArbitrary, { numRuns: 25, seed: SEED }).entries()) {
    acceptable(root);
    const path = join(directory, `arbitrary-${index}`);
    writeFileSync(path, imageOf(root, { devices: DEVICES }));
    await mounted(directory, path, devices, (mountpoint) => {
      t.deepEqual(describeMounted(mountpoint), describeExpected(root, contentOf), `tree ${index}`);
    });
    await run('fsck.erofs', [...devices.map((device) => `--device=${device}`), path]);
  }
});

test('a directory of 100,000 names works in the kernel', async (t) => {
  const directory = workDirectory(t);
  const one = sampleTree().children.get('empty') as Inode;
  const names = Array.from({ length: 100_000 }, (_, index) => `file-${index}`);
  const root: Directory = { ...sampleTree(), children: new Map(names.map((name) => [name, one])) };
  const path = join(directory, 'large');
  writeFileSync(path, imageOf(root));
  await mounted(directory, path, [], (mountpoint) => {
    t.is(readdirSync(mountpoint).length, 100_000);
    for (const name of ['file-0', 'file-99999', 'file-4711']) {
      t.is(Number(lstatSync(join(mountpoint, name)).nlink), 100_000);
    }
    t.throws(() => lstatSync(join(mountpoint, 'file-100000')), { code: 'ENOENT' });
  });
  await run('fsck.erofs', [path]);
});

/** A directory with everything that mkfs.erofs treats in a way of its own. */
async function makeSource(directory: string): Promise<string> {
  const source = join(directory, 'source');
  mkdirSync(join(source, 'nested/deeper'), { recursive: true });
  mkdirSync(join(source, 'many'));
  writeFileSync(
    join(source, 'large'),
    Buffer.from(Array.from({ length: 100_000 }, (_, index) => (index * 7) % 251)),
  );
  writeFileSync(join(source, 'small'), 'hello');
  writeFileSync(join(source, 'block'), Buffer.alloc(4096, 'b'));
  writeFileSync(join(source, 'empty'), '');
  writeFileSync(join(source, 'sparse'), 'start');
  truncateSync(join(source, 'sparse'), 1 << 20);
  linkSync(join(source, 'large'), join(source, 'nested/hard'));
  symlinkSync('/some/where', join(source, 'nested/link'));
  await run('mknod', [join(source, 'device'), 'c', '259', '70000']);
  await run('mkfifo', [join(source, 'fifo')]);
  await run('setfattr', ['-n', 'trusted.own', '-v', '0x0001', join(source, 'small')]);
  for (let index = 0; index < 400; index++) {
    const path = join(source, 'many', `name-${index}`);
    writeFileSync(path, `${index}`);
    if (index % 20 === 0) await run('setfattr', ['-n', 'user.shared', '-v', 'by many', path]);
  }
  return source;
}

const MKFS: readonly (readonly string[])[] = [
  [],
  ['-Eforce-inode-compact'],
  ['-Eforce-inode-extended'],
  ['-Enoinline_data'],
  ['-Ededupe'],
  ['-x1'],
  ['--chunksize=4096'],
  ['--chunksize=65536', '-Eforce-chunk-indexes'],
];

test('images of mkfs.erofs are read as the kernel reads them', async (t) => {
  const directory = workDirectory(t);
  const source = await makeSource(directory);
  for (const options of MKFS) {
    const path = join(directory, 'image');
    await run('mkfs.erofs', [...options, path, source]);
    const fd = openSync(path, 'r');
    const image = ErofsImage.open(fileReader(fd), fstatSync(fd).size);
    const nids = new Map<RegularFile, number>();
    const root = readTree(image, { inline: nids });
    // A file that has no inline tail is read through its extents.
    const content = (file: RegularFile): string =>
      digestOf(file.size, (offset, length) => {
        const nid = nids.get(file);
        if (nid !== undefined) return image.readFile(nid, offset, length);
        const bytes = Buffer.alloc(file.size);
        for (const { fileOffset, block, blocks } of file.extents) {
          readSync(
            fd,
            bytes,
            fileOffset,
            Math.min(blocks * BLOCK_SIZE, file.size - fileOffset),
            block * BLOCK_SIZE,
          );
        }
        return bytes.subarray(offset, offset + length);
      });
    const expected = describeExpected(root, content);
    closeSync(fd);
    await mounted(directory, path, [], (mountpoint) => {
      t.deepEqual(describeMounted(mountpoint), expected, options.join(' '));
    });
    rmSync(path);
  }
});

test('an image with its data on another device is read, and compressed ones are refused by name', async (t) => {
  const directory = workDirectory(t);
  const source = await makeSource(directory);
  const path = join(directory, 'image');
  const blob = join(directory, 'blob');
  const read = (): Directory => {
    const fd = openSync(path, 'r');
    try {
      return readTree(ErofsImage.open(fileReader(fd), fstatSync(fd).size));
    } finally {
      closeSync(fd);
    }
  };
  await run('mkfs.erofs', ['--chunksize=4096', `--blobdev=${blob}`, path, source]);
  const root = read();
  const large = root.children.get('large') as RegularFile;
  const bytes = Buffer.alloc(25 * BLOCK_SIZE);
  const fd = openSync(blob, 'r');
  for (const { device, fileOffset, block, blocks } of large.extents) {
    t.is(device, 1);
    readSync(fd, bytes, fileOffset, blocks * BLOCK_SIZE, block * BLOCK_SIZE);
  }
  closeSync(fd);
  t.is(bytes[99_999], (99_999 * 7) % 251);
  t.is((root.children.get('nested') as Directory).children.get('hard'), large);

  rmSync(path);
  await run('mkfs.erofs', ['-zlz4', path, source]);
  t.throws(read, { code: 'UNSUPPORTED', message: /compressed EROFS is not supported/ });
});

test('an EROFS image is read through a dynamic VHD of qemu-img', async (t) => {
  const directory = workDirectory(t);
  const root = sampleTree();
  writeFileSync(join(directory, 'image'), imageOf(root));
  const path = join(directory, 'dynamic.vhd');
  await run('qemu-img', ['convert', '-f', 'raw', '-O', 'vpc', join(directory, 'image'), path]);
  const fd = openSync(path, 'r');
  const { kind, size, readAt } = openVhd(fileReader(fd), fstatSync(fd).size);
  t.is(kind, 'dynamic');
  t.deepEqual(
    describeExpected(readTree(ErofsImage.open(readAt, size)), contentOf),
    describeExpected(root, contentOf),
  );
  closeSync(fd);
});
