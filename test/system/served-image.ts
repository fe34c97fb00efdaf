/** Images that mkfs.erofs made of a directory, served by a process of their own (serve-process.ts). */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  closeSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { addon, type SessionStats } from '../../src/native/addon.js';
import { run } from './command.js';
import type { ServeOptions } from './serve-process.js';

export function workDirectory(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), 'orca-served-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Every kind of inode, and what is odd about each. Without `xattrs` there are none at all. */
export async function sourceTree(path: string, xattrs: boolean): Promise<void> {
  mkdirSync(join(path, 'many'), { recursive: true });
  mkdirSync(join(path, 'deep/er/still'), { recursive: true });
  mkdirSync(join(path, 'empty'));
  for (let i = 0; i < 5000; i++) writeFileSync(join(path, 'many', `file-${i}`), i % 50 === 0 ? `${i}` : '');
  // mkfs.erofs 1.5 cannot do 255.
  writeFileSync(join(path, 'many', 'n'.repeat(254)), 'longest name');
  writeFileSync(
    Buffer.concat([Buffer.from(`${path}/`), Buffer.from([0xff, 0xfe, 0x80])]),
    'a name that is not UTF-8',
  );
  // No two blocks of this file are alike, so that no chunk can stand for another.
  const big = Buffer.alloc(5 * 1024 * 1024 + 1234);
  for (let at = 0; at + 4 <= big.length; at += 4) big.writeUInt32LE((at * 2654435761) >>> 0, at);
  writeFileSync(join(path, 'deep/er/big'), big);
  writeFileSync(join(path, 'hole'), big.subarray(0, 100_000));
  truncateSync(join(path, 'hole'), 3_000_000);
  linkSync(join(path, 'deep/er/big'), join(path, 'deep/hard-link'));
  symlinkSync('deep/er/big', join(path, 'link'));
  symlinkSync('d/'.repeat(2000), join(path, 'long-link'));
  await run('mknod', [join(path, 'null'), 'c', '1', '3']);
  await run('mknod', [join(path, 'disk'), 'b', '259', '70000']);
  await run('mkfifo', [join(path, 'fifo')]);
  await run('cp', ['/bin/cat', join(path, 'cat')]);
  await run('chown', ['1234:4000000000', join(path, 'cat')]);
  chmodSync(join(path, 'cat'), 0o6755);
  utimesSync(join(path, 'empty'), 1_000_000_000.5, 1_000_000_000.25);
  if (!xattrs) return;
  await run('setfattr', ['-n', 'user.one', '-v', 'value', join(path, 'deep')]);
  await run('setfattr', ['-n', 'trusted.two', '-v', '0x00ff00', join(path, 'hole')]);
  await run('setfattr', [
    '-h',
    '-n',
    'security.capability',
    '-v',
    '0x0100000200200000000000000000000000000000',
    join(path, 'cat'),
  ]);
  for (const name of ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']) {
    writeFileSync(join(path, `shared-${name}`), '');
    await run('setfattr', [
      '-n',
      'user.shared',
      '-v',
      'the same on many files',
      join(path, `shared-${name}`),
    ]);
  }
  // user::rw-, user:1000:r--, group::r--, mask::r--, other::r--
  const acl = '0x0200000001000600ffffffff02000400e803000004000400ffffffff10000400ffffffff20000400ffffffff';
  await run('setfattr', ['-n', 'system.posix_acl_access', '-v', acl, join(path, 'hole')]);
}

export interface Image {
  indexPath: string;
  blobPath?: string;
}

/** Options of mkfs.erofs by what they make of the tree. */
export const IMAGE_KINDS = {
  'chunks on a device of its own': ['--chunksize=4096', '--blobdev'],
  'large chunks on a device of its own': ['--chunksize=65536', '--blobdev'],
  'files and their tails inside the image': [],
  'files in whole blocks inside the image': ['-Enoinline_data'],
  'extended inodes': ['-Eforce-inode-extended'],
} as const;

export async function makeImage(work: string, source: string, options: readonly string[]): Promise<Image> {
  const indexPath = join(work, 'index');
  const blobPath = join(work, 'blob');
  const device = options.includes('--blobdev');
  const args = options.map((option) => (option === '--blobdev' ? `--blobdev=${blobPath}` : option));
  await run('mkfs.erofs', ['--quiet', ...args, indexPath, source]);
  return { indexPath, ...(device && { blobPath }) };
}

const MNT_DETACH = 2;

/** Mounts, and gives the descriptor; when the test ends, however it does, nobody waits for the mount any more. */
export function heldMount(t: ExecutionContext, mountpoint: string, source: string): number {
  const fd = addon.mountFuse(mountpoint, { source });
  t.teardown(() => {
    addon.umount(mountpoint, MNT_DETACH);
    closeSync(fd);
  });
  return fd;
}

/** Killed at the latest when the test ends. */
export class Server {
  readonly child: ChildProcess;
  readonly #lines: Interface;
  readonly #unread: string[] = [];
  #wake = (): void => {};
  #closed = false;

  constructor(t: ExecutionContext, options: ServeOptions, fd?: number) {
    const script = fileURLToPath(new URL('./serve-process.js', import.meta.url));
    this.child = spawn(process.execPath, [script, JSON.stringify(options)], {
      stdio: ['pipe', 'pipe', 'inherit', ...(fd === undefined ? [] : [fd])],
    });
    t.teardown(() => this.child.kill('SIGKILL'));
    this.#lines = createInterface({ input: this.child.stdout! });
    this.#lines.on('line', (line) => {
      this.#unread.push(line);
      this.#wake();
    });
    this.#lines.on('close', () => {
      this.#closed = true;
      this.#wake();
    });
  }

  /** Waits for a line that starts so. */
  async line(start: string): Promise<string> {
    for (;;) {
      for (let line = this.#unread.shift(); line !== undefined; line = this.#unread.shift())
        if (line.startsWith(start)) return line;
      if (this.#closed) throw new Error(`no "${start}" any more`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async stats(): Promise<SessionStats & { blocksTouched: number }> {
    this.child.stdin!.write('stats\n');
    return JSON.parse(await this.line('{')) as SessionStats & { blocksTouched: number };
  }

  /** Ends the process, which unmounts; gives its exit code. */
  async stop(): Promise<number | null> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return this.child.exitCode;
    const ended = once(this.child, 'exit');
    this.child.stdin!.end();
    await ended;
    return this.child.exitCode;
  }

  async kill(): Promise<void> {
    const ended = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await ended;
  }
}

/** Starts a server with a mount point of its own below `work`, and stops it when the test ends. */
export async function serveImage(
  t: ExecutionContext,
  work: string,
  image: Image,
  options: Partial<ServeOptions> = {},
): Promise<{ server: Server; mountpoint: string }> {
  const mountpoint = join(work, 'mnt');
  const cacheDir = join(work, 'cache');
  mkdirSync(mountpoint);
  mkdirSync(cacheDir);
  if (options.uid !== undefined)
    for (const path of [work, mountpoint, cacheDir]) await run('chown', [`${options.uid}`, path]);
  const server = new Server(t, { ...image, mountpoint, cacheDir, ...options });
  t.teardown(async () => {
    await server.stop();
    spawnSync('umount', ['-l', mountpoint], { stdio: 'ignore' });
  });
  await server.line('ready');
  return { server, mountpoint };
}
