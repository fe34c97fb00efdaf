/** Plays the kernel at the other end of a Session's descriptor: makes FUSE requests byte by byte and takes replies apart. */
import { closeSync, mkdtempSync, read, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { addon, type BlockFile, type Session, type SessionOptions } from '../../src/native/addon.js';

export const OPCODES = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  MKDIR: 9,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  GETXATTR: 22,
  LISTXATTR: 23,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  ACCESS: 34,
  INTERRUPT: 36,
  DESTROY: 38,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  READDIRPLUS: 44,
  LSEEK: 46,
  STATX: 52,
} as const;

/** Flags of INIT; those of its second word are bits 32 and up. */
export const FLAGS = {
  ASYNC_READ: 1n << 0n,
  NO_OPEN_SUPPORT: 1n << 17n,
  POSIX_ACL: 1n << 20n,
  MAX_PAGES: 1n << 22n,
  NO_OPENDIR_SUPPORT: 1n << 24n,
  INIT_EXT: 1n << 30n,
  HAS_RESEND: 1n << 39n,
};
export const ALL_FLAGS = (1n << 43n) - 1n;

const IN_HEADER = 40;
const OUT_HEADER = 16;
const LONGEST_REPLY = OUT_HEADER + (1 << 20);

export interface Reply {
  unique: bigint;
  /** 0, a negative errno, or the code of a notification. */
  error: number;
  body: Buffer;
}

export interface Header {
  nodeid?: bigint;
  unique?: bigint;
  uid?: number;
  /** In place of the true length. */
  length?: number;
}

export class Kernel {
  readonly #fd: number;
  readonly #replies = new Map<bigint, Reply>();
  #lastUnique = 0n;

  constructor(fd: number) {
    this.#fd = fd;
  }

  /** Sends a request and gives its `unique`. */
  send(opcode: number, body: Uint8Array | string = '', header: Header = {}): bigint {
    const unique = header.unique ?? (this.#lastUnique += 2n);
    const payload = Buffer.from(body as string, 'latin1');
    const message = Buffer.alloc(IN_HEADER + payload.length);
    message.writeUInt32LE(header.length ?? message.length, 0);
    message.writeUInt32LE(opcode, 4);
    message.writeBigUInt64LE(unique, 8);
    message.writeBigUInt64LE(header.nodeid ?? 1n, 16);
    message.writeUInt32LE(header.uid ?? 0, 24);
    message.set(payload, IN_HEADER);
    this.sendRaw(message);
    return unique;
  }

  sendRaw(message: Uint8Array): void {
    writeSync(this.#fd, message);
  }

  /** The reply with this `unique`, whichever order they come in. */
  async reply(unique: bigint): Promise<Reply> {
    for (;;) {
      const known = this.#replies.get(unique);
      if (known !== undefined) {
        this.#replies.delete(unique);
        return known;
      }
      const next = await this.next();
      if (next === undefined) throw new Error('the session has ended');
      this.#replies.set(next.unique, next);
    }
  }

  /** The next message of the session; undefined when it has closed its end. */
  next(): Promise<Reply | undefined> {
    const buffer = Buffer.alloc(LONGEST_REPLY);
    return new Promise((resolve, reject) => {
      read(this.#fd, buffer, 0, buffer.length, null, (error, count) => {
        if (error) return error.code === 'ECONNRESET' ? resolve(undefined) : reject(error);
        if (count === 0) return resolve(undefined);
        if (buffer.readUInt32LE(0) !== count) return reject(new Error('a reply with a wrong length'));
        resolve({
          unique: buffer.readBigUInt64LE(8),
          error: buffer.readInt32LE(4),
          body: buffer.subarray(OUT_HEADER, count),
        });
      });
    });
  }

  ask(opcode: number, body: Uint8Array | string = '', header: Header = {}): Promise<Reply> {
    return this.reply(this.send(opcode, body, header));
  }

  init(flags = ALL_FLAGS, major = 7, minor = 45): Promise<Reply> {
    const body = Buffer.alloc(64);
    body.writeUInt32LE(major, 0);
    body.writeUInt32LE(minor, 4);
    body.writeUInt32LE(131072, 8);
    body.writeUInt32LE(Number(flags & 0xffffffffn), 12);
    body.writeUInt32LE(Number(flags >> 32n), 16);
    return this.ask(OPCODES.INIT, body, { nodeid: 0n });
  }

  /** The nodeid of a path below the root; 0 when it does not exist. */
  async lookup(path: string): Promise<bigint> {
    let nodeid = 1n;
    for (const name of path.split('/')) {
      const { error, body } = await this.ask(OPCODES.LOOKUP, `${name}\0`, { nodeid });
      if (error !== 0) throw new Error(`LOOKUP of ${name} failed with ${error}`);
      nodeid = body.readBigUInt64LE(0);
    }
    return nodeid;
  }

  sendRead(nodeid: bigint, offset: number, size: number, unique?: bigint): bigint {
    return this.send(OPCODES.READ, readBody(offset, size), {
      nodeid,
      ...(unique !== undefined && { unique }),
    });
  }

  read(nodeid: bigint, offset: number, size: number): Promise<Reply> {
    return this.reply(this.sendRead(nodeid, offset, size));
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** The body of READ, READDIR and READDIRPLUS. */
export function readBody(offset: number, size: number): Buffer {
  const body = Buffer.alloc(40);
  body.writeBigUInt64LE(BigInt(offset), 8);
  body.writeUInt32LE(size, 16);
  return body;
}

export interface Directory {
  name: string;
  ino: bigint;
  type: number;
  /** READDIRPLUS only. */
  nodeid?: bigint;
}

/** Takes the reply of READDIR (or READDIRPLUS) apart; `next` is the offset to go on from. */
export function parseDirectory(body: Buffer, plus: boolean): { entries: Directory[]; next: number } {
  const entries: Directory[] = [];
  let next = 0;
  for (let at = 0; at < body.length; ) {
    const nodeid = plus ? body.readBigUInt64LE(at) : undefined;
    const dirent = plus ? at + 128 : at;
    const length = body.readUInt32LE(dirent + 16);
    entries.push({
      ino: body.readBigUInt64LE(dirent),
      type: body.readUInt32LE(dirent + 20),
      name: body.toString('latin1', dirent + 24, dirent + 24 + length),
      ...(nodeid !== undefined && { nodeid }),
    });
    next = Number(body.readBigUInt64LE(dirent + 8));
    at = dirent + Math.ceil((24 + length) / 8) * 8;
  }
  return { entries, next };
}

export interface Served {
  kernel: Kernel;
  session: Session;
  files: BlockFile[];
  /** Directory with `index`, and `data<n>` and `map<n>` of each block file. */
  path: string;
  misses: [device: number, first: number, count: number][];
  /** Resolves when `total` misses have been reported, by default one more than at the last call. */
  missed(total?: number): Promise<void>;
  /** What onEnd was told, once it was. */
  ended: Promise<string>;
  close(): Promise<void>;
}

/** Serves an image index from a socket, with one empty block file per size, all below `parent`. */
export function serve(
  index: Uint8Array,
  sizes: readonly number[] = [],
  options: Partial<SessionOptions> & { blockSize?: number; parent?: string } = {},
): Served {
  const { blockSize = 65536, parent = tmpdir(), ...sessionOptions } = options;
  const path = mkdtempSync(join(parent, 'orca-session-'));
  writeFileSync(join(path, 'index'), index);
  const files = sizes.map(
    (size, device) =>
      new addon.BlockFile({
        dataPath: join(path, `data${device}`),
        mapPath: join(path, `map${device}`),
        size,
        blockSize,
      }),
  );
  const [fd, kernelFd] = addon.socketPair();
  const kernel = new Kernel(kernelFd);
  const misses: Served['misses'] = [];
  let wake = (): void => {};
  let seen = 0;
  let end = (_reason: string): void => {};
  const ended = new Promise<string>((resolve) => {
    end = resolve;
  });
  const release = async (): Promise<void> => {
    await Promise.all(files.map((file) => file.close()));
    kernel.close();
    rmSync(path, { recursive: true });
  };
  let session: Session;
  try {
    session = new addon.Session({
      fd,
      indexPath: join(path, 'index'),
      blockFiles: files,
      onMiss(device, first, count) {
        misses.push([device, first, count]);
        wake();
      },
      onEnd: (reason) => end(reason),
      ...sessionOptions,
    });
  } catch (error) {
    void release();
    throw error;
  }
  return {
    kernel,
    session,
    files,
    path,
    misses,
    async missed(total = seen + 1) {
      while (misses.length < total)
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      seen = misses.length;
    },
    ended,
    async close() {
      await session.close();
      await release();
    },
  };
}
