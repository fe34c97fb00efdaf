/**
 * The on-disk structures of EROFS that Orca writes and reads, as the kernel defines them in
 * fs/erofs/erofs_fs.h and Documentation/filesystems/erofs.rst. Everything is little-endian.
 */
import { littleEndian, recordType } from './record.js';
import type { Inode } from './tree.js';

const { u8, u16, u32, u64, i64, bytes } = littleEndian;

/** Byte offset of the superblock; what lies before it is left to boot sectors. */
export const SUPERBLOCK_OFFSET = 1024;

export const SUPERBLOCK_MAGIC = 0xe0f5e1e2;

/** Bits of `featureCompat`: a reader may ignore those that it does not know. */
export const FEATURE_COMPAT = {
  /** `checksum` is the CRC32C of the superblock to the end of its block. */
  superblockChecksum: 0x1,
  /** Timestamps are mtimes, not ctimes. */
  mtime: 0x2,
} as const;

/** Bits of `featureIncompat`: a reader must refuse an image with one that it does not know. */
export const FEATURE_INCOMPAT = {
  zeroPadding: 0x1,
  compressionConfigs: 0x2,
  chunkedFile: 0x4,
  /** Shares its bit with a second compression head, whose presence only compressed inodes show. */
  deviceTable: 0x8,
  tailPacking: 0x10,
  fragments: 0x20,
  xattrPrefixes: 0x40,
  fortyEightBit: 0x80,
  metabox: 0x100,
} as const;

/** struct erofs_super_block */
export const superblock = recordType(128, {
  magic: u32(0),
  checksum: u32(4),
  featureCompat: u32(8),
  /** log2 of the block size. */
  blockBits: u8(12),
  /** Size of the superblock = 128 + 16 × this. */
  extensionSlots: u8(13),
  rootNid: u16(14),
  inodes: u64(16),
  /** The mtime of every compact inode. */
  buildTime: i64(24),
  buildTimeNs: u32(32),
  /** Blocks of the primary device. */
  blocks: u32(36),
  /** Block from which nids count, in units of SLOT_SIZE. */
  metaBlock: u32(40),
  /** Block from which ids of shared xattrs count, in units of 4 bytes. */
  xattrBlock: u32(44),
  uuid: bytes(48, 16),
  volumeName: bytes(64, 16),
  featureIncompat: u32(80),
  compressionAlgorithms: u16(84),
  /** Devices besides the primary one. */
  devices: u16(86),
  /** Byte offset of the device table, in units of its slots. */
  deviceTableSlot: u16(88),
  /** log2 of directory block size ÷ block size; 0 is the only value in use. */
  directoryBlockBits: u8(90),
  xattrPrefixCount: u8(91),
  /** Byte offset of the long xattr prefixes (in the packed inode, if there is one), in units of 4 bytes. */
  xattrPrefixStart: u32(92),
  packedNid: u64(96),
});

/** struct erofs_deviceslot */
export const deviceSlot = recordType(128, {
  /** Name or digest of the device. */
  tag: bytes(0, 64),
  blocks: u32(64),
  /** Where the device begins in a single block address space; 0: nowhere. */
  mappedBlock: u32(68),
});

/** Unit of nids, in bytes. */
export const SLOT_SIZE = 32;

/** `format` of both inodes: bit 0 tells an extended inode, bits 1 to 3 the data layout, the rest is reserved. */
export const INODE_EXTENDED = 0x1;
export const INODE_FORMAT_BITS = 0xf;

/** Data layouts (bits 1 to 3 of an inode's format). */
export const LAYOUT = {
  flatPlain: 0,
  compressedFull: 1,
  flatInline: 2,
  compressedCompact: 3,
  chunkBased: 4,
} as const;

/** struct erofs_inode_compact */
export const compactInode = recordType(32, {
  format: u16(0),
  xattrCount: u16(2),
  mode: u16(4),
  nlink: u16(6),
  size: u32(8),
  /** First block, device number or chunk format, by layout and mode. */
  location: u32(16),
  ino: u32(20),
  uid: u16(24),
  gid: u16(26),
});

/** struct erofs_inode_extended */
export const extendedInode = recordType(64, {
  format: u16(0),
  /** 0: no inline xattrs; n: XATTR_HEADER and (n - 1) × 4 bytes of them. */
  xattrCount: u16(2),
  mode: u16(4),
  size: u64(8),
  /** First block, device number or chunk format, by layout and mode. */
  location: u32(16),
  ino: u32(20),
  uid: u32(24),
  gid: u32(28),
  mtime: i64(32),
  mtimeNs: u32(40),
  nlink: u32(44),
});

/** struct erofs_xattr_ibody_header: precedes the ids of shared xattrs (4 bytes each) and the inline ones. */
export const xattrHeader = recordType(12, {
  nameFilter: u32(0),
  sharedCount: u8(4),
});

/** struct erofs_xattr_entry: precedes name and value; the whole is padded to a multiple of 4 bytes. */
export const xattrEntry = recordType(4, {
  nameLength: u8(0),
  nameIndex: u8(1),
  valueLength: u16(2),
});

export const XATTR_ALIGNMENT = 4;

/** Prefixes that `nameIndex` stands for. Those of ACLs are whole names. */
export const XATTR_PREFIXES: readonly (readonly [index: number, prefix: string])[] = [
  [1, 'user.'],
  [2, 'system.posix_acl_access'],
  [3, 'system.posix_acl_default'],
  [4, 'trusted.'],
  [5, 'lustre.'],
  [6, 'security.'],
];

/** Bit of `nameIndex`: the other bits number a long prefix of the superblock's table. */
export const XATTR_LONG_PREFIX = 0x80;

/** Chunk format: bits 0 to 4 are log2 of chunk size ÷ block size. */
export const CHUNK_BLOCK_BITS = 0x1f;
/** Chunk format: the table consists of `chunkIndex`; otherwise of 4-byte block numbers on the primary device. */
export const CHUNK_INDEXES = 0x20;

/** struct erofs_inode_chunk_index */
export const chunkIndex = recordType(8, {
  /** Number of the device, counted from 1; 0 is the image itself. */
  device: u16(2),
  /** NULL_BLOCK for a hole. */
  block: u32(4),
});

export const NULL_BLOCK = 0xffffffff;

/** struct erofs_dirent; the names follow the last of a block's dirents. */
export const dirent = recordType(12, {
  nid: u64(0),
  /** Byte offset of the name in the directory block; that of the first one tells how many dirents there are. */
  nameOffset: u16(8),
  fileType: u8(10),
});

export const NAME_MAX = 255;
/** PATH_MAX less its NUL. */
export const TARGET_MAX = 4095;

/** The S_IFMT bits of i_mode and the file type of a dirent, by kind. */
export const KINDS: Readonly<Record<Inode['kind'], { typeBits: number; fileType: number }>> = {
  file: { typeBits: 0o100000, fileType: 1 },
  directory: { typeBits: 0o040000, fileType: 2 },
  chardev: { typeBits: 0o020000, fileType: 3 },
  blockdev: { typeBits: 0o060000, fileType: 4 },
  fifo: { typeBits: 0o010000, fileType: 5 },
  socket: { typeBits: 0o140000, fileType: 6 },
  symlink: { typeBits: 0o120000, fileType: 7 },
};

export const MODE_TYPE_BITS = 0o170000;

/** The widest device numbers that Linux encodes in 32 bits (new_encode_dev). */
export const MAJOR_MAX = 0xfff;
export const MINOR_MAX = 0xfffff;

export function encodeDevice(major: number, minor: number): number {
  return ((minor & 0xff) | (major << 8) | ((minor & ~0xff) << 12)) >>> 0;
}

export function decodeDevice(device: number): { major: number; minor: number } {
  return { major: (device >>> 8) & 0xfff, minor: (device & 0xff) | ((device >>> 12) & 0xfff00) };
}

const CRC32C_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/**
 * The superblock's checksum: CRC32C, seeded with all ones and not inverted at the end, of the bytes from the
 * superblock to the end of its block, in which the checksum field must be 0.
 */
export function superblockChecksum(superblockToEndOfBlock: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of superblockToEndOfBlock)
    crc = (CRC32C_TABLE[(crc ^ byte) & 0xff] as number) ^ (crc >>> 8);
  return crc >>> 0;
}
