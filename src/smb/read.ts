/** READ (MS-SMB2 § 2.2.19 and 2.2.20). */
import { protocolError } from './error.js';
import { HEADER_SIZE } from './header.js';
import { bytes, Layout, length64, reserved, slice, structureSize, u8, u32 } from './layout.js';

export const READ_REQUEST = new Layout('READ request', {
  structureSize: structureSize(49),
  /** Where in the response the client would like the data to begin. */
  padding: u8,
  flags: reserved(1),
  length: u32,
  offset: length64,
  fileId: bytes(16),
  minimumCount: u32,
  channel: reserved(4),
  remainingBytes: u32,
  channelInfoOffset: reserved(2),
  channelInfoLength: reserved(2),
  /** The variable part may not be empty, so one byte of it is always sent. */
  buffer: reserved(1),
});

export const READ_RESPONSE = new Layout('READ response', {
  structureSize: structureSize(17),
  dataOffset: u8,
  reserved: reserved(1),
  dataLength: u32,
  dataRemaining: u32,
  reserved2: reserved(4),
});

export const READ_DATA_OFFSET = HEADER_SIZE + READ_RESPONSE.size;

/** In a compound: the file of the request before (§ 3.2.4.1.4). */
export const RELATED_FILE = Buffer.alloc(16, 0xff);

export function encodeRead(fileId: Buffer, offset: number, length: number): Buffer {
  return READ_REQUEST.encode({
    padding: READ_DATA_OFFSET,
    length,
    offset,
    fileId,
    minimumCount: 0,
    remainingBytes: 0,
  });
}

/** The bytes read, as a view of the message; `asked` is the length of the request. */
export function decodeRead(message: Buffer, asked: number): Buffer {
  const fixed = READ_RESPONSE.decode(message, HEADER_SIZE);
  if (fixed.dataLength > asked)
    throw protocolError(`${fixed.dataLength} bytes where ${asked} were asked for`);
  if (fixed.dataOffset < READ_DATA_OFFSET)
    throw protocolError(`data at ${fixed.dataOffset} of a READ response`);
  return slice(message, fixed.dataOffset, fixed.dataLength, 'data');
}
