/**
 * The hard disk footer of a VHD: the last 512 bytes of a fixed disk, the first and the last 512 bytes of a
 * dynamic one. (Microsoft, "Virtual Hard Disk Image Format Specification", 1.0, Hard Disk Footer Format.)
 */
import { bigEndian, recordType, viewOf } from '../erofs/record.js';
import { VhdError } from './vhd-error.js';

const { u8, u16, u32, u64, i64, bytes } = bigEndian;

export const SECTOR_SIZE = 512;

export const footer = recordType(512, {
  cookie: bytes(0, 8),
  features: u32(8),
  formatVersion: u32(12),
  /** Offset of the dynamic disk header; NO_DATA_OFFSET for a fixed disk. */
  dataOffset: i64(16),
  /** Seconds since 2000-01-01 UTC. */
  timestamp: u32(24),
  creatorApplication: bytes(28, 4),
  creatorVersion: u32(32),
  creatorHostOs: bytes(36, 4),
  originalSize: u64(40),
  /** Bytes of the disk that the guest sees. */
  currentSize: u64(48),
  cylinders: u16(56),
  heads: u8(58),
  sectorsPerTrack: u8(59),
  diskType: u32(60),
  /** One's complement of the sum of the footer's bytes, without this field. */
  checksum: u32(64),
  uniqueId: bytes(68, 16),
  savedState: u8(84),
});

export const COOKIE = 'conectix';
export const FORMAT_VERSION = 0x00010000;
export const DISK_TYPE = { fixed: 2, dynamic: 3, differencing: 4 } as const;

/** "Reserved. This bit must always be set to 1." */
const FEATURE_RESERVED = 0x2;
const NO_DATA_OFFSET = -1n;

/**
 * Which of its two sizes a reader of a VHD believes depends on who wrote it: qemu takes cylinders × heads ×
 * sectors, which is rounded down to whole cylinders, unless the creator is one of those known to mean the
 * current size. Hyper-V's name is on that list.
 */
const CREATOR_APPLICATION = 'win ';
const CREATOR_VERSION = 0x000a0000;
const CREATOR_HOST_OS = 'Wi2k';

/** The limit of the format: 2040 GiB. */
export const DISK_SIZE_MAX = 2040 * 2 ** 30;

/** One's complement of the sum of all bytes but the four of the checksum itself, at `checksumOffset`. */
export function vhdChecksum(record: Uint8Array, checksumOffset: number): number {
  let sum = 0;
  for (let at = 0; at < record.length; at++) {
    if (at < checksumOffset || at >= checksumOffset + 4) sum += record[at] as number;
  }
  return ~sum >>> 0;
}

/** Cylinders, heads and sectors per track for a size in bytes (appendix "CHS Calculation"). */
export function geometry(size: number): { cylinders: number; heads: number; sectorsPerTrack: number } {
  const sectors = Math.min(size / SECTOR_SIZE, 65535 * 16 * 255);
  if (sectors >= 65535 * 16 * 63) {
    return { cylinders: Math.floor(sectors / (16 * 255)), heads: 16, sectorsPerTrack: 255 };
  }
  let sectorsPerTrack = 17;
  let tracks = Math.floor(sectors / sectorsPerTrack);
  let heads = Math.max(Math.floor((tracks + 1023) / 1024), 4);
  if (tracks >= heads * 1024 || heads > 16) {
    sectorsPerTrack = 31;
    heads = 16;
    tracks = Math.floor(sectors / sectorsPerTrack);
  }
  if (tracks >= heads * 1024) {
    sectorsPerTrack = 63;
    tracks = Math.floor(sectors / sectorsPerTrack);
  }
  return { cylinders: Math.floor(tracks / heads), heads, sectorsPerTrack };
}

/**
 * The footer that makes a fixed VHD of a payload: 512 bytes, a function of the arguments alone (the creation
 * time is 0). `payloadSize` is a multiple of 512, `uniqueId` has 16 bytes. Throws VhdError TOO_LARGE.
 */
export function fixedFooter(payloadSize: number, uniqueId: Uint8Array): Uint8Array {
  if (payloadSize > DISK_SIZE_MAX) throw new VhdError('TOO_LARGE', 'a VHD holds 2040 GiB at most');
  if (payloadSize % SECTOR_SIZE !== 0 || uniqueId.length !== footer.fields.uniqueId.width) {
    throw new RangeError('a VHD needs whole sectors and an id of 16 bytes');
  }
  const record = new Uint8Array(footer.size);
  const view = viewOf(record);
  footer.encode(view, 0, {
    cookie: Buffer.from(COOKIE),
    features: FEATURE_RESERVED,
    formatVersion: FORMAT_VERSION,
    dataOffset: NO_DATA_OFFSET,
    creatorApplication: Buffer.from(CREATOR_APPLICATION),
    creatorVersion: CREATOR_VERSION,
    creatorHostOs: Buffer.from(CREATOR_HOST_OS),
    originalSize: payloadSize,
    currentSize: payloadSize,
    ...geometry(payloadSize),
    diskType: DISK_TYPE.fixed,
    uniqueId,
  });
  footer.fields.checksum.set(view, 0, vhdChecksum(record, footer.fields.checksum.offset));
  return record;
}
