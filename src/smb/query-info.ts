/** QUERY_INFO (MS-SMB2 § 2.2.37 and 2.2.38) for FileAllInformation (MS-FSCC § 2.4.2). */
import { FileAttribute } from './create.js';
import { HEADER_SIZE } from './header.js';
import { bytes, Layout, length64, reserved, slice, structureSize, u8, u16, u32, u64 } from './layout.js';

const INFO_FILE = 1;
const FILE_ALL_INFORMATION = 18;
/** The fixed part and a name of 32,767 characters, which is the longest there is. */
export const MAX_ALL_INFORMATION = 64 * 1024;

export const QUERY_INFO_REQUEST = new Layout('QUERY_INFO request', {
  structureSize: structureSize(41),
  infoType: u8,
  fileInfoClass: u8,
  outputBufferLength: u32,
  inputBufferOffset: u16,
  reserved: reserved(2),
  inputBufferLength: u32,
  additionalInformation: u32,
  flags: u32,
  fileId: bytes(16),
});

export const QUERY_INFO_RESPONSE = new Layout('QUERY_INFO response', {
  structureSize: structureSize(9),
  outputBufferOffset: u16,
  outputBufferLength: u32,
});

export const ALL_INFORMATION = new Layout('FileAllInformation', {
  creationTime: u64,
  lastAccessTime: u64,
  lastWriteTime: u64,
  changeTime: u64,
  fileAttributes: u32,
  reserved: reserved(4),
  allocationSize: u64,
  endOfFile: length64,
  numberOfLinks: u32,
  deletePending: u8,
  directory: u8,
  reserved2: reserved(2),
  indexNumber: u64,
  eaSize: u32,
  accessFlags: u32,
  currentByteOffset: u64,
  mode: u32,
  alignmentRequirement: u32,
  nameLength: u32,
});

export interface FileStatus {
  size: number;
  isDirectory: boolean;
  /** 100 ns units since 1601. */
  lastWriteTime: bigint;
  /** Number of the file on its volume. */
  indexNumber: bigint;
  links: number;
}

export function encodeQueryAllInformation(fileId: Buffer): Buffer {
  return QUERY_INFO_REQUEST.encode({
    infoType: INFO_FILE,
    fileInfoClass: FILE_ALL_INFORMATION,
    outputBufferLength: MAX_ALL_INFORMATION,
    inputBufferOffset: 0,
    inputBufferLength: 0,
    additionalInformation: 0,
    flags: 0,
    fileId,
  });
}

export function decodeQueryAllInformation(message: Buffer): FileStatus {
  const fixed = QUERY_INFO_RESPONSE.decode(message, HEADER_SIZE);
  const info = ALL_INFORMATION.decode(
    slice(message, fixed.outputBufferOffset, fixed.outputBufferLength, 'file information'),
  );
  return {
    size: info.endOfFile,
    isDirectory: (info.fileAttributes & FileAttribute.DIRECTORY) !== 0,
    lastWriteTime: info.lastWriteTime,
    indexNumber: info.indexNumber,
    links: info.numberOfLinks,
  };
}
