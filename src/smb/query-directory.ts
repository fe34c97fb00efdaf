/** QUERY_DIRECTORY (MS-SMB2 § 2.2.33 and 2.2.34) with FileIdFullDirectoryInformation (MS-FSCC § 2.4.18). */
import { FileAttribute } from './create.js';
import { protocolError } from './error.js';
import { HEADER_SIZE } from './header.js';
import { bytes, Layout, length64, reserved, slice, structureSize, u8, u16, u32, u64 } from './layout.js';

const FILE_ID_FULL_DIRECTORY_INFORMATION = 38;
const RESTART_SCANS = 1;
/** Of names on every server we know of; MS-FSCC allows 255 UTF-16 units. */
const MAX_NAME_BYTES = 510;

export const QUERY_DIRECTORY_REQUEST = new Layout('QUERY_DIRECTORY request', {
  structureSize: structureSize(33),
  fileInformationClass: u8,
  flags: u8,
  fileIndex: u32,
  fileId: bytes(16),
  nameOffset: u16,
  nameLength: u16,
  outputBufferLength: u32,
});

export const QUERY_DIRECTORY_RESPONSE = new Layout('QUERY_DIRECTORY response', {
  structureSize: structureSize(9),
  outputBufferOffset: u16,
  outputBufferLength: u32,
});

export const DIRECTORY_ENTRY = new Layout('directory entry', {
  nextEntryOffset: u32,
  fileIndex: u32,
  creationTime: u64,
  lastAccessTime: u64,
  lastWriteTime: u64,
  changeTime: u64,
  endOfFile: length64,
  allocationSize: u64,
  fileAttributes: u32,
  nameLength: u32,
  eaSize: u32,
  reserved: reserved(4),
  fileId: u64,
});

export interface DirectoryEntry {
  name: string;
  size: number;
  isDirectory: boolean;
  /** 100 ns units since 1601. */
  lastWriteTime: bigint;
}

/** `restart`: from the first entry; otherwise the entries after those already told of this open directory. */
export function encodeQueryDirectory(fileId: Buffer, outputLength: number, restart: boolean): Buffer {
  const pattern = Buffer.from('*', 'utf16le');
  const fixed = QUERY_DIRECTORY_REQUEST.encode({
    fileInformationClass: FILE_ID_FULL_DIRECTORY_INFORMATION,
    flags: restart ? RESTART_SCANS : 0,
    fileIndex: 0,
    fileId,
    nameOffset: HEADER_SIZE + QUERY_DIRECTORY_REQUEST.size,
    nameLength: pattern.length,
    outputBufferLength: outputLength,
  });
  return Buffer.concat([fixed, pattern]);
}

/** The entries of one response, `.` and `..` left out. */
export function decodeQueryDirectory(message: Buffer): DirectoryEntry[] {
  const fixed = QUERY_DIRECTORY_RESPONSE.decode(message, HEADER_SIZE);
  let rest = slice(message, fixed.outputBufferOffset, fixed.outputBufferLength, 'directory entries');
  const entries: DirectoryEntry[] = [];
  while (rest.length > 0) {
    const entry = DIRECTORY_ENTRY.decode(rest);
    if (entry.nameLength > MAX_NAME_BYTES || entry.nameLength % 2 !== 0 || entry.nameLength === 0) {
      throw protocolError(`a file name of ${entry.nameLength} bytes`);
    }
    const name = slice(rest, DIRECTORY_ENTRY.size, entry.nameLength, 'a file name').toString('utf16le');
    if (/[\\/\0]/.test(name)) throw protocolError('a file name with a separator in it');
    if (name !== '.' && name !== '..') {
      entries.push({
        name,
        size: entry.endOfFile,
        isDirectory: (entry.fileAttributes & FileAttribute.DIRECTORY) !== 0,
        lastWriteTime: entry.lastWriteTime,
      });
    }
    if (entry.nextEntryOffset === 0) break;
    if (entry.nextEntryOffset < DIRECTORY_ENTRY.size) throw protocolError('directory entries that overlap');
    rest = slice(rest, entry.nextEntryOffset, rest.length - entry.nextEntryOffset, 'a directory entry');
  }
  return entries;
}
