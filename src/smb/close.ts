/** CLOSE (MS-SMB2 § 2.2.15 and 2.2.16), without asking for attributes. */
import { HEADER_SIZE } from './header.js';
import { bytes, Layout, reserved, structureSize, u16 } from './layout.js';

export const CLOSE_REQUEST = new Layout('CLOSE request', {
  structureSize: structureSize(24),
  flags: u16,
  reserved: reserved(4),
  fileId: bytes(16),
});

/** The attributes that fill the rest of the 60 bytes are zero when they were not asked for. */
export const CLOSE_RESPONSE = new Layout('CLOSE response', {
  structureSize: structureSize(60),
  flags: u16,
  unused: reserved(56),
});

export function encodeClose(fileId: Buffer): Buffer {
  return CLOSE_REQUEST.encode({ flags: 0, fileId });
}

export function decodeClose(message: Buffer): void {
  CLOSE_RESPONSE.decode(message, HEADER_SIZE);
}
