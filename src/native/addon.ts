/**
 * The typed door to native/build/orca.node. Everything that TypeScript knows of the addon is declared here;
 * arguments are validated on this side, system calls, threads and memory are on the other.
 *
 * A failed system call throws (or rejects with) an Error that has `code` ('ENOSPC'), `errno` (28) and `syscall`.
 */
import type { Access, Located, PathAccess } from './access.js';
import { binding } from './binding.js';
import { BlockFile as CheckedBlockFile } from './block-file.js';
import { checkBytes, checkInteger, checkOptions, checkString, checkText, MAX_INT } from './check.js';
import { Session as CheckedSession } from './session.js';

export type { Access, AccessKind, Located, PathAccess } from './access.js';

/** Cumulative counters of a session, since it was attached. */
export interface SessionStats {
  /** Requests answered, by opcode name (`LOOKUP`, `READ`, …); opcodes never seen are absent. */
  requests: Record<string, number>;
  /** Bytes sent in replies to READ. */
  bytesRead: number;
  /** READs answered at once, and READs that waited for at least one block. */
  readHits: number;
  readMisses: number;
  /** READs that wait now. */
  readsWaiting: number;
  /** Replies with an errno, by its name; ENOSYS, ENOENT and ENODATA are no errors and not counted. */
  errors: Record<string, number>;
  /** Of a preload, once there is one: steps taken, pages asked for, and steps that the image did not allow. */
  preload?: { taken: number; pages: number; passedOver: number };
}

export interface BlockFileOptions {
  /** Sparse file with the blocks at their offsets; made if missing. */
  dataPath: string;
  /** Bitmap of the blocks that are present, mapped shared; made if missing. */
  mapPath: string;
  /** Length of the layer VHD in bytes. */
  size: number;
  /** Bytes, a power of two, at least 4096. */
  blockSize: number;
  /** A READ asks for a block that is watched. */
  onTouch?(block: number): void;
}

/** What became of blocks that were to be verified and stored. */
export interface PutResult {
  /** Those that do not match their digests, in order: nobody sees them, and their READs wait on. */
  wrong: number[];
  /** Of the disk, for one of the others; their READs were answered from memory. */
  error?: NodeJS.ErrnoException;
}

/**
 * The cached blocks of one layer VHD, shared by all sessions of the process (and, through the files, by other
 * processes). A block becomes visible only after its bytes are in the file.
 */
export interface BlockFile {
  readonly blocks: number;
  /**
   * True when the files were last written under another boot and not closed: every block that they claim may
   * be lost, so none is present; `wasPresent` tells the claim, and `trust` re-admits a block once verified.
   */
  readonly suspect: boolean;
  has(block: number): boolean;
  wasPresent(block: number): boolean;
  trust(block: number): void;
  /** Number of blocks present. */
  count(): number;
  /** Bytes of disk that the data file occupies. */
  bytesOnDisk(): number;
  /** The bytes in the data file, present or not, for verification and tests. */
  read(block: number): Promise<Uint8Array>;
  /**
   * Stores a verified block and answers every READ that waited for it. Rejects when the disk refuses it (ENOSPC,
   * EROFS, EIO); those READs are answered from memory even then. The bytes must not be changed, nor their buffer
   * transferred, before the promise settles.
   */
  put(block: number, bytes: Uint8Array): Promise<void>;
  /**
   * `put` for whole blocks from `firstBlock` on that have not been verified: each must have its sha256 of `digests`, 32
   * bytes per block. Verifies, stores and answers without the event loop.
   */
  putRun(firstBlock: number, bytes: Uint8Array, digests: Uint8Array): Promise<PutResult>;
  /** `onTouch` tells, once, when a READ next asks for the block, present or not. */
  watch(block: number): void;
  /** Whether a READ waits for the block. */
  awaited(block: number): boolean;
  /** Answers every READ that waits for the block with this errno (a positive number). */
  fail(block: number, errno: number): void;
  /**
   * Forgets blocks and frees their disk space; a concurrent READ gets right bytes or waits for a fetch. A block
   * that is being put at this moment, here or in another process, stays.
   */
  evict(firstBlock: number, count: number): void;
  /**
   * Refuses every call from now on, at once. Resolves when the blocks are on the disk and the files marked clean. No
   * session may use it any more.
   */
  close(): Promise<void>;
}

export interface SessionOptions {
  /**
   * An open /dev/fuse descriptor that is mounted; the session owns it from now on, and closes it also when the
   * index or the block files turn out to be unusable.
   */
  fd: number;
  /** The image index, a file; mapped read-only, checked against its own bounds at every access. */
  indexPath: string;
  /** One per device of the image index, in order. */
  blockFiles: readonly BlockFile[];
  /** Threads that serve requests; default 2. */
  threads?: number;
  /**
   * True when another process served this descriptor before: skips INIT and asks the kernel to resend what was
   * in flight (FUSE_NOTIFY_RESEND).
   */
  adopt?: boolean;
  /**
   * Microseconds that a thread looks for the next request before it sleeps, while requests keep coming; 0 for never,
   * default 200. A session that is idle sleeps in any case.
   */
  poll?: number;
  /** Answer READs with pages of the cache files instead of copies where that is possible; default true. */
  splice?: boolean;
  /**
   * Blocks are wanted: a run of absent blocks of one device. Each is asked for once until put() or fail(). `end` is the
   * block after the last one of the file that they belong to; 0 where a reader may well go on beyond it.
   */
  onMiss(device: number, firstBlock: number, count: number, end: number): void;
  /** Somebody is likely to ask for these blocks, some of which are absent; without it nothing is foreseen. */
  onLikely?(device: number, firstBlock: number, count: number): void;
  /** The kernel ended the connection (unmounted, or aborted) or the session was closed. Called once. */
  onEnd(reason: 'unmounted' | 'closed' | 'failed', message: string): void;
}

/** The first READ of a block. */
export interface Touch {
  device: number;
  block: number;
  /** Milliseconds since the session began. */
  time: number;
}

/** The first READ of a file. */
export interface FileRead {
  /** Of the image index. */
  nid: number;
  /** Milliseconds since the session began. */
  time: number;
}

/** One mount's conversation with the kernel. */
export interface Session {
  stats(): SessionStats;
  /** The blocks that READs have touched, in the order of their first touch (the first 65536); also after the end. */
  touched(): Touch[];
  /**
   * What was asked for in the 30 s after the first access, in its order (the first 65536); also after the end. What a
   * preload asked for is neither here nor in `touched`.
   */
  accesses(): Access[];
  /**
   * Walks these through the mount at `mountpoint`, on a thread of its own, so that the kernel has them; pages as their
   * blocks arrive in the cache. Paths may be anything. Ends by itself, at the latest after 30 s. Only the first call counts.
   */
  preload(mountpoint: string, steps: readonly PathAccess[]): void;
  /**
   * Looks these up in the image index, as far as a startup profile goes: the first 65536 blocks and 8 GiB of pages. Paths
   * may be anything. Empty when the session has ended.
   */
  locate(steps: readonly PathAccess[]): Promise<Located>;
  /** Ends the walk; it lets go of the mount as soon as the request that it may have under way is answered. */
  stopPreload(): void;
  /** Likewise the files. A READ that the kernel's page cache answered never comes. */
  filesRead(): FileRead[];
  /** Stops serving and closes the descriptor; pending READs get EIO. Resolves when the threads have ended. */
  close(): Promise<void>;
}

export interface FuseMountOptions {
  /** What /proc/mounts shows as the device, such as `python:numpy`. */
  source: string;
  /** Let other users than the mounter in; default true for root. */
  allowOther?: boolean;
  /**
   * Honour setuid bits and file capabilities of the image on this mount itself; default false, and only root can.
   * An overlay over the mount honours them in any case.
   */
  allowSuid?: boolean;
}

export interface GcmMessage {
  key: Uint8Array;
  nonce: Uint8Array;
  additional: Uint8Array;
  tag: Uint8Array;
}

export interface Addon {
  /** mount(2). `flags` are MS_* bits. */
  mount(source: string, target: string, type: string, flags: number, data: string): void;
  /** umount2(2). `flags` are MNT_* bits. */
  umount(target: string, flags: number): void;
  /**
   * Opens /dev/fuse and mounts it read-only at `target`: with mount(2) for root, otherwise through fusermount3
   * (which must be on the PATH). Returns the descriptor, ready for a Session.
   */
  mountFuse(target: string, options: FuseMountOptions): number;
  /** Takes or releases flock(2) on an open descriptor; false when another holder prevents it. Never waits. */
  tryLock(fd: number, kind: 'shared' | 'exclusive' | 'unlock'): boolean;
  /**
   * Decrypts `data` in place with AES-GCM; false when it is not authentic, and then `data` is garbage. `key` has 16 or
   * 32 bytes, `nonce` 12, `tag` 16; `additional` is authenticated with it. Node's own decipher allocates the plaintext.
   */
  openGcm(message: GcmMessage, data: Uint8Array): boolean;
  /** Two connected SOCK_SEQPACKET descriptors: in tests, a Session serves one and the test plays the kernel. */
  socketPair(): [number, number];
  /** Nanoseconds since 1970 by the clock that other processes read (CLOCK_REALTIME); Date has milliseconds. */
  realTime(): bigint;
  /** Whether anybody, in whatever process, has the block file with this map open. False when there is none. */
  blockFileInUse(mapPath: string): boolean;
  /** Removes a block file that nobody has open; false when somebody has. */
  removeBlockFile(dataPath: string, mapPath: string): boolean;
  BlockFile: new (options: BlockFileOptions) => BlockFile;
  Session: new (options: SessionOptions) => Session;
}

export const addon: Addon = {
  mount(source, target, type, flags, data) {
    checkText(source, 'source');
    checkText(target, 'target');
    checkText(type, 'type');
    checkInteger(flags, 'flags', 0, 0xffffffff);
    checkString(data, 'data');
    binding.mount(source, target, type, flags, data);
  },
  umount(target, flags) {
    checkText(target, 'target');
    checkInteger(flags, 'flags', 0, MAX_INT);
    binding.umount(target, flags);
  },
  mountFuse(target, options) {
    checkText(target, 'target');
    checkOptions(options);
    checkText(options.source, 'source');
    const allowOther = options.allowOther ?? process.geteuid?.() === 0;
    return binding.mountFuse(target, options.source, allowOther, options.allowSuid ?? false);
  },
  tryLock(fd, kind) {
    checkInteger(fd, 'fd', 0, MAX_INT);
    if (kind !== 'shared' && kind !== 'exclusive' && kind !== 'unlock')
      throw new TypeError(`unknown lock ${kind}`);
    return binding.tryLock(fd, kind);
  },
  openGcm({ key, nonce, additional, tag }, data) {
    checkBytes(key, 'key', 16, 32);
    checkBytes(nonce, 'nonce', 12);
    checkBytes(tag, 'tag', 16);
    checkBytes(additional, 'additional');
    checkBytes(data, 'data');
    return binding.openGcm(key, nonce, additional, tag, data);
  },
  socketPair: () => binding.socketPair(),
  realTime: () => binding.realTime(),
  blockFileInUse(mapPath) {
    checkText(mapPath, 'mapPath');
    return binding.blockFileInUse(mapPath);
  },
  removeBlockFile(dataPath, mapPath) {
    checkText(dataPath, 'dataPath');
    checkText(mapPath, 'mapPath');
    return binding.removeBlockFile(dataPath, mapPath);
  },
  BlockFile: CheckedBlockFile,
  Session: CheckedSession,
};
