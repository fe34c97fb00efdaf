/**
 * Reads uncompressed EROFS images of any origin: compact and extended inodes, all three uncompressed layouts,
 * inline and shared xattrs, several devices. The image is hostile until proven otherwise: whatever it says of
 * positions and lengths is checked against its size before use.
 */
import { chunkTableShape, decodeChunk } from './chunks.js';
import { checkNames, type DirectoryEntry, decodeDirectoryBlock } from './directory-blocks.js';
import { ErofsError } from './erofs-error.js';
import {
  compactInode,
  decodeDevice,
  extendedInode,
  INODE_EXTENDED,
  INODE_FORMAT_BITS,
  KINDS,
  LAYOUT,
  MODE_TYPE_BITS,
  SLOT_SIZE,
  TARGET_MAX,
} from './format.js';
import { checkRange, type ReadAt } from './read-at.js';
import { viewOf } from './record.js';
import { type DeviceSlot, readDevices, readSuperblock, type Superblock } from './superblock.js';
import { BLOCK_SIZE, type ByteString, type FileExtent, type Inode } from './tree.js';
import { decodeXattrs, SharedXattrs, xattrSizeOf } from './xattrs.js';

/** An inode as the image has it. */
export interface ErofsInode {
  readonly nid: number;
  readonly kind: Inode['kind'];
  /** One of LAYOUT. */
  readonly layout: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Nanoseconds since 1970. */
  readonly mtime: bigint;
  readonly nlink: number;
  /** Bytes. */
  readonly size: number;
  readonly major: number;
  readonly minor: number;
  /** Byte offset in the image of the inode's xattrs, and their size. */
  readonly xattrsAt: number;
  readonly xattrsSize: number;
  /** First block or chunk format, by layout. */
  readonly location: number;
}

const KIND_OF_MODE = new Map(
  Object.entries(KINDS).map(([kind, { typeBits }]) => [typeBits, kind as Inode['kind']] as const),
);

const NS_PER_SECOND = 1_000_000_000n;
const NO_XATTRS: ReadonlyMap<ByteString, Uint8Array> = new Map();

/** Chunk tables are read in pieces of this size, since a hostile one may be as large as the image. */
const TABLE_PIECE = 1 << 16;

/** Block numbers have 32 bits. */
const BLOCK_NUMBER_MAX = 0xffffffff;

/** Extents of one file; 32 GiB whose blocks are all apart from each other. */
const EXTENTS_MAX = 8 << 20;

/** Bytes of one directory; more than ten million names. */
const DIRECTORY_MAX = 256 << 20;

export class ErofsImage {
  readonly rootNid: number;
  /** Blocks that the superblock claims for the image itself. */
  readonly blocks: number;
  readonly uuid: Uint8Array;
  private readonly metaStart: number;
  private readonly buildTime: bigint;
  private readonly deviceMask: number;
  private readonly sharedXattrs: SharedXattrs;
  /** The block that an inode was last read from, and a little of the next. */
  private windowStart = -1;
  private windowView = viewOf(new Uint8Array(0));

  private constructor(
    private readonly readAt: ReadAt,
    /** Bytes that the image may occupy. */
    readonly size: number,
    superblock: Superblock,
    readonly devices: readonly DeviceSlot[],
  ) {
    this.rootNid = superblock.rootNid;
    this.blocks = superblock.blocks;
    this.uuid = superblock.uuid;
    this.metaStart = superblock.metaBlock * BLOCK_SIZE;
    this.buildTime = superblock.buildTime * NS_PER_SECOND + BigInt(superblock.buildTimeNs);
    this.deviceMask = 2 ** Math.ceil(Math.log2(devices.length + 1)) - 1;
    this.sharedXattrs = new SharedXattrs(readAt, size, superblock.xattrBlock * BLOCK_SIZE);
  }

  /** Opens an image that lies in the first bytes of `size`. Throws ErofsError. */
  static open(readAt: ReadAt, size: number): ErofsImage {
    const superblock = readSuperblock(readAt, size);
    return new ErofsImage(readAt, size, superblock, readDevices(readAt, size, superblock));
  }

  /** Decodes the inode with this nid, data and xattrs excepted. */
  inode(nid: number): ErofsInode {
    const at = this.metaStart + nid * SLOT_SIZE;
    checkRange(`inode ${nid}`, at, compactInode.size, this.size);
    const { view, at: inView } = this.window(at, extendedInode.size);
    const format = compactInode.fields.format.get(view, inView);
    const isExtended = (format & INODE_EXTENDED) !== 0;
    const type = isExtended ? extendedInode : compactInode;
    checkRange(`inode ${nid}`, at, type.size, this.size);
    const fields = type.fields;
    const layout = format >> 1;
    if (format & ~INODE_FORMAT_BITS || layout > LAYOUT.chunkBased) {
      throw new ErofsError(
        'UNSUPPORTED',
        `inode ${nid} has the format 0x${format.toString(16)}, not supported`,
      );
    }
    const mode = fields.mode.get(view, inView);
    const kind = KIND_OF_MODE.get(mode & MODE_TYPE_BITS);
    if (kind === undefined) throw new ErofsError('CORRUPT', `inode ${nid} has the mode 0${mode.toString(8)}`);
    const size = fields.size.get(view, inView);
    if (!Number.isSafeInteger(size))
      throw new ErofsError('CORRUPT', `inode ${nid} has a size of ${size} bytes`);
    const location = fields.location.get(view, inView);
    const isDevice = kind === 'chardev' || kind === 'blockdev';
    const { major, minor } = decodeDevice(isDevice ? location : 0);
    const xattrsSize = xattrSizeOf(fields.xattrCount.get(view, inView));
    checkRange(`the xattrs of inode ${nid}`, at + type.size, xattrsSize, this.size);
    return {
      nid,
      kind,
      layout,
      mode: mode & ~MODE_TYPE_BITS,
      uid: fields.uid.get(view, inView),
      gid: fields.gid.get(view, inView),
      mtime: isExtended ? extendedMtime(view, inView) : this.buildTime,
      nlink: fields.nlink.get(view, inView),
      size,
      major,
      minor,
      xattrsAt: at + type.size,
      xattrsSize,
      location,
    };
  }

  xattrs(inode: ErofsInode | number): ReadonlyMap<ByteString, Uint8Array> {
    const { xattrsAt, xattrsSize } = this.resolve(inode);
    return xattrsSize === 0 ? NO_XATTRS : decodeXattrs(this.readAt(xattrsAt, xattrsSize), this.sharedXattrs);
  }

  /**
   * Where the bytes of a file, directory or link target lie, those of an inline tail excepted: ascending, and
   * joined where they continue each other. Each lies within its device.
   */
  extents(inode: ErofsInode | number): FileExtent[] {
    const resolved = this.resolve(inode);
    const { layout, size, location, nid } = resolved;
    if (layout === LAYOUT.chunkBased) return this.chunkExtents(resolved);
    if (layout !== LAYOUT.flatPlain && layout !== LAYOUT.flatInline) {
      throw new ErofsError(
        'UNSUPPORTED',
        `inode ${nid} is compressed, and compressed EROFS is not supported`,
      );
    }
    const blocks =
      layout === LAYOUT.flatInline ? Math.floor(size / BLOCK_SIZE) : Math.ceil(size / BLOCK_SIZE);
    if (blocks === 0) return [];
    return [this.extent(resolved, { fileOffset: 0, device: 0, block: location, blocks })];
  }

  /** Bytes at the end of the inode's data that lie behind the inode. */
  inlineBytes(inode: ErofsInode | number): number {
    const { layout, size } = this.resolve(inode);
    return layout === LAYOUT.flatInline ? size % BLOCK_SIZE : 0;
  }

  /**
   * Bytes of the image that belong to the inode beside the inode itself and the data of a file. They are no other
   * inode's, so in a sound image the sum over all inodes is less than its size.
   */
  metadataBytes(inode: ErofsInode | number): number {
    const { nid, kind, layout, size, location, xattrsSize } = this.resolve(inode);
    let bytes = xattrsSize;
    if (kind !== 'file') {
      bytes += size;
    } else if (layout === LAYOUT.chunkBased) {
      const { count, indexSize } = chunkTableShape(location, size);
      bytes += count * indexSize;
    }
    if (bytes > this.size)
      throw new ErofsError('TRUNCATED', `the metadata of inode ${nid} exceeds the image`);
    return bytes;
  }

  /**
   * Bytes of a file, directory or link target, fewer than `length` at its end. Throws ErofsError UNSUPPORTED when
   * they lie on another device than the image itself.
   */
  readFile(inode: ErofsInode | number, offset: number, length: number): Uint8Array {
    const resolved = this.resolve(inode);
    return this.read(resolved, this.extents(resolved), offset, length);
  }

  /** The target of a symbolic link. */
  readlink(inode: ErofsInode | number): ByteString {
    const resolved = this.resolve(inode);
    const { nid, size } = resolved;
    if (resolved.kind !== 'symlink' || size < 1 || size > TARGET_MAX) {
      throw new ErofsError('CORRUPT', `inode ${nid} is no symbolic link, or its target has ${size} bytes`);
    }
    const target = Buffer.from(this.readFile(resolved, 0, size)).toString('latin1');
    if (target.includes('\0')) throw new ErofsError('CORRUPT', `the target of inode ${nid} has a NUL in it`);
    return target;
  }

  /** The entries of a directory without `.` and `..`, in ascending order of their names. */
  entries(inode: ErofsInode | number): DirectoryEntry[] {
    const resolved = this.resolve(inode);
    if (resolved.kind !== 'directory') {
      throw new ErofsError('CORRUPT', `inode ${resolved.nid} is not a directory`);
    }
    if (resolved.size > DIRECTORY_MAX) {
      throw new ErofsError('TOO_LARGE', `inode ${resolved.nid} is a directory of ${resolved.size} bytes`);
    }
    const extents = this.extents(resolved);
    const entries: DirectoryEntry[] = [];
    for (let at = 0; at < resolved.size; at += BLOCK_SIZE) {
      entries.push(...decodeDirectoryBlock(this.read(resolved, extents, at, BLOCK_SIZE)));
    }
    checkNames(entries);
    return entries.filter(({ name }) => name !== '.' && name !== '..');
  }

  private read(
    inode: ErofsInode,
    extents: readonly FileExtent[],
    offset: number,
    length: number,
  ): Uint8Array {
    const end = Math.min(offset + length, inode.size);
    const bytes = new Uint8Array(Math.max(end - offset, 0));
    const copy = (fileOffset: number, position: number, available: number): void => {
      const from = Math.max(fileOffset, offset);
      const until = Math.min(fileOffset + available, end);
      if (from < until) bytes.set(this.readAt(position + from - fileOffset, until - from), from - offset);
    };
    for (const extent of extents) {
      if (extent.fileOffset >= end || extent.fileOffset + extent.blocks * BLOCK_SIZE <= offset) continue;
      if (extent.device !== 0) {
        throw new ErofsError('UNSUPPORTED', `inode ${inode.nid} has its data on device ${extent.device}`);
      }
      copy(extent.fileOffset, extent.block * BLOCK_SIZE, extent.blocks * BLOCK_SIZE);
    }
    const inlineBytes = this.inlineBytes(inode);
    if (inlineBytes > 0) copy(inode.size - inlineBytes, this.inlineAt(inode, inlineBytes), inlineBytes);
    return bytes;
  }

  /** A view that has the bytes at `offset`: `length` of them, or as many as the image has. */
  private window(offset: number, length: number): { view: DataView; at: number } {
    const start = Math.floor(offset / BLOCK_SIZE) * BLOCK_SIZE;
    const end = Math.min(offset + length, this.size);
    if (this.windowStart !== start || this.windowView.byteLength < end - start) {
      this.windowView = viewOf(this.readAt(start, Math.min(BLOCK_SIZE + length, this.size - start)));
      this.windowStart = start;
    }
    return { view: this.windowView, at: offset - start };
  }

  private resolve(inode: ErofsInode | number): ErofsInode {
    return typeof inode === 'number' ? this.inode(inode) : inode;
  }

  private inlineAt({ xattrsAt, xattrsSize, nid }: ErofsInode, inlineBytes: number): number {
    const at = xattrsAt + xattrsSize;
    if ((at % BLOCK_SIZE) + inlineBytes > BLOCK_SIZE) {
      throw new ErofsError('CORRUPT', `the inline data of inode ${nid} crosses a block`);
    }
    checkRange(`the inline data of inode ${nid}`, at, inlineBytes, this.size);
    return at;
  }

  private chunkExtents(inode: ErofsInode): FileExtent[] {
    const { chunkBlocks, count, indexSize } = chunkTableShape(inode.location, inode.size);
    const start = Math.ceil((inode.xattrsAt + inode.xattrsSize) / indexSize) * indexSize;
    checkRange(`the chunk table of inode ${inode.nid}`, start, count * indexSize, this.size);
    const fileBlocks = Math.ceil(inode.size / BLOCK_SIZE);
    const extents: FileExtent[] = [];
    const perPiece = TABLE_PIECE / indexSize;
    for (let first = 0; first < count; first += perPiece) {
      const pieceCount = Math.min(perPiece, count - first);
      const view = viewOf(this.readAt(start + first * indexSize, pieceCount * indexSize));
      for (let index = 0; index < pieceCount; index++) {
        const chunk = decodeChunk(view, index * indexSize, indexSize);
        if (chunk === undefined) continue;
        const fileBlock = (first + index) * chunkBlocks;
        const extent = this.extent(inode, {
          fileOffset: fileBlock * BLOCK_SIZE,
          device: chunk.device & this.deviceMask,
          block: chunk.block,
          blocks: Math.min(chunkBlocks, fileBlocks - fileBlock),
        });
        const last = extents.at(-1);
        if (last !== undefined && continues(last, extent)) last.blocks += extent.blocks;
        else if (extents.push(extent) > EXTENTS_MAX) {
          throw new ErofsError('TOO_LARGE', `inode ${inode.nid} has more than ${EXTENTS_MAX} extents`);
        }
      }
    }
    return extents;
  }

  /** Checks an extent against its device, and finds the device of one that the unified address space names. */
  private extent(inode: ErofsInode, extent: FileExtent): FileExtent {
    let { device, block } = extent;
    if (device === 0) {
      const mapped = this.devices.findIndex(
        ({ mappedBlock, blocks }) => mappedBlock > 0 && block >= mappedBlock && block < mappedBlock + blocks,
      );
      if (mapped >= 0) {
        device = mapped + 1;
        block -= this.devices[mapped]?.mappedBlock ?? 0;
      }
    }
    const used = Math.min(extent.blocks * BLOCK_SIZE, inode.size - extent.fileOffset);
    if (block * BLOCK_SIZE + used > this.deviceSize(device)) {
      const what = `data of inode ${inode.nid}, at block ${block} of device ${device},`;
      throw new ErofsError('TRUNCATED', `${what} lies beyond the end of that device`);
    }
    return { ...extent, device, block };
  }

  /** Bytes. mkfs.erofs 1.5 states 0 blocks of any device, which is taken for "not stated". */
  private deviceSize(device: number): number {
    if (device === 0) return this.size;
    const slot = this.devices[device - 1];
    return slot === undefined ? 0 : (slot.blocks || BLOCK_NUMBER_MAX) * BLOCK_SIZE;
  }
}

function continues(last: FileExtent, next: FileExtent): boolean {
  return (
    last.device === next.device &&
    last.block + last.blocks === next.block &&
    last.fileOffset + last.blocks * BLOCK_SIZE === next.fileOffset
  );
}

function extendedMtime(view: DataView, at: number): bigint {
  const { mtime, mtimeNs } = extendedInode.fields;
  return mtime.get(view, at) * NS_PER_SECOND + BigInt(mtimeNs.get(view, at));
}
