/**
 * The payload of a dynamic VHD: a table says where each block of the disk lies in the file, if it does at all;
 * each block begins with a bitmap of its sectors. (Specification, "Dynamic Disk Header Format", "Block Allocation
 * Table and Data Blocks".)
 */
import { checkRange, type ReadAt } from '../erofs/read-at.js';
import { bigEndian, recordType, viewOf } from '../erofs/record.js';
import { FORMAT_VERSION, SECTOR_SIZE, vhdChecksum } from './footer.js';
import { VhdError } from './vhd-error.js';

const { u32, i64, bytes } = bigEndian;

export const dynamicHeader = recordType(1024, {
  cookie: bytes(0, 8),
  /** Unused; all ones. */
  dataOffset: i64(8),
  /** Byte offset of the block allocation table. */
  tableOffset: i64(16),
  headerVersion: u32(24),
  /** Entries that the table has room for. */
  tableEntries: u32(28),
  /** Bytes of a block without its bitmap. */
  blockSize: u32(32),
  checksum: u32(36),
});

const COOKIE = 'cxsparse';
const ABSENT = 0xffffffff;
const ENTRY_SIZE = 4;

/** The largest disk in blocks of 512 KiB, a quarter of what everybody uses; the table is kept in memory. */
const TABLE_ENTRIES_MAX = 4 << 20;
/** A bitmap of as many sectors is 64 KiB. */
const BLOCK_SIZE_MAX = 256 << 20;
/** Sector bitmaps that are kept, of 512 bytes each in the usual case. */
const BITMAPS_KEPT = 256;

/** The blocks that a disk of `diskSize` bytes has in the file, checked: apart from each other, within the file. */
function readTable(
  readAt: ReadAt,
  size: number,
  tableOffset: number,
  entries: number,
  storedSize: number,
): Uint32Array {
  if (tableOffset < 0 || tableOffset + entries * ENTRY_SIZE > size) {
    throw new VhdError('TRUNCATED', 'the block allocation table of the VHD lies beyond its end');
  }
  const view = viewOf(readAt(tableOffset, entries * ENTRY_SIZE));
  const table = Uint32Array.from({ length: entries }, (_, index) => view.getUint32(index * ENTRY_SIZE));
  let previousEnd = 0;
  for (const sector of table.slice().sort()) {
    if (sector === ABSENT) break;
    const start = sector * SECTOR_SIZE;
    if (start < previousEnd) throw new VhdError('CORRUPT', 'two blocks of the VHD lie in one place');
    previousEnd = start + storedSize;
    if (previousEnd > size) throw new VhdError('TRUNCATED', 'a block of the VHD lies beyond its end');
  }
  return table;
}

/** The payload of a dynamic disk whose header is at `headerOffset` of a file of `size` bytes. */
export function dynamicPayload(readAt: ReadAt, size: number, headerOffset: number, diskSize: number): ReadAt {
  if (headerOffset < 0 || headerOffset + dynamicHeader.size > size) {
    throw new VhdError('TRUNCATED', 'the header of the dynamic VHD lies beyond its end');
  }
  const record = readAt(headerOffset, dynamicHeader.size);
  const header = dynamicHeader.decode(viewOf(record), 0);
  if (Buffer.from(header.cookie).toString('latin1') !== COOKIE || header.headerVersion !== FORMAT_VERSION) {
    throw new VhdError('CORRUPT', 'the VHD has no dynamic disk header where its footer says');
  }
  if (vhdChecksum(record, dynamicHeader.fields.checksum.offset) !== header.checksum) {
    throw new VhdError('CORRUPT', 'the checksum of the dynamic disk header does not match');
  }
  const { blockSize, tableEntries } = header;
  if (blockSize < SECTOR_SIZE || blockSize > BLOCK_SIZE_MAX || !Number.isInteger(Math.log2(blockSize))) {
    throw new VhdError('CORRUPT', `the VHD has blocks of ${blockSize} bytes`);
  }
  const entries = Math.ceil(diskSize / blockSize);
  if (entries > TABLE_ENTRIES_MAX)
    throw new VhdError('UNSUPPORTED', `a VHD of ${entries} blocks is not supported`);
  if (entries > tableEntries)
    throw new VhdError('CORRUPT', 'the block allocation table is too short for the disk');

  const bitmapSize = Math.ceil(blockSize / SECTOR_SIZE / 8 / SECTOR_SIZE) * SECTOR_SIZE;
  const table = readTable(readAt, size, Number(header.tableOffset), entries, bitmapSize + blockSize);
  const bitmaps = new Map<number, SectorBitmap>();
  const bitmapOf = (block: number, at: number): SectorBitmap => {
    const known = bitmaps.get(block);
    if (known !== undefined) return known;
    const bitmap = new SectorBitmap(readAt(at, bitmapSize), blockSize / SECTOR_SIZE);
    if (bitmaps.size >= BITMAPS_KEPT) bitmaps.clear();
    bitmaps.set(block, bitmap);
    return bitmap;
  };

  return (offset, length) => {
    checkRange('a read', offset, length, diskSize);
    const block = Math.floor(offset / blockSize);
    const within = offset - block * blockSize;
    const start = (table[block] ?? ABSENT) * SECTOR_SIZE;
    if (
      table[block] !== ABSENT &&
      within + length <= blockSize &&
      length > 0 &&
      bitmapOf(block, start).isFull
    ) {
      return readAt(start + bitmapSize + within, length);
    }
    const result = new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const index = Math.floor(at / blockSize);
      const inBlock = at - index * blockSize;
      const sector = table[index] as number;
      const left = Math.min(length - done, blockSize - inBlock);
      if (sector === ABSENT) {
        done += left;
        continue;
      }
      const { isPresent, bytes: run } = bitmapOf(index, sector * SECTOR_SIZE).run(inBlock, left);
      if (isPresent) result.set(readAt(sector * SECTOR_SIZE + bitmapSize + inBlock, run), done);
      done += run;
    }
    return result;
  };
}

/** Which sectors of a block hold data: one bit each, the most significant first; the others read as zeros. */
class SectorBitmap {
  readonly isFull: boolean;
  private readonly bits: Uint8Array;

  constructor(bits: Uint8Array, sectors: number) {
    const used = bits.subarray(0, Math.ceil(sectors / 8));
    this.isFull = sectors % 8 === 0 && used.every((byte) => byte === 0xff);
    this.bits = this.isFull ? new Uint8Array(0) : Uint8Array.from(used);
  }

  /** The longest run of bytes from `offset` of the block, up to `length`, that is all data or all absent. */
  run(offset: number, length: number): { isPresent: boolean; bytes: number } {
    if (this.isFull) return { isPresent: true, bytes: length };
    const first = Math.floor(offset / SECTOR_SIZE);
    const isPresent = this.has(first);
    let end = (first + 1) * SECTOR_SIZE;
    while (end < offset + length && this.has(end / SECTOR_SIZE) === isPresent) end += SECTOR_SIZE;
    return { isPresent, bytes: Math.min(end - offset, length) };
  }

  private has(sector: number): boolean {
    return ((this.bits[sector >> 3] as number) & (0x80 >> (sector & 7))) !== 0;
  }
}
